//! Random histories that must not have a prefix paused for all: one source beside others that use their codes, and two
//! sources.

use proptest::collection;
use proptest::prelude::*;

use super::*;

/// A step of a history.
#[derive(Clone, Copy, Debug)]
enum HistoryStep {
    /// This one of the two sources requests a number of codes at once.
    Ask(usize, u32),
    /// This one of the two sources uses a number of its codes.
    Use(usize, u32),
    /// Other sources request a number of codes at once, and use enough of them for their conversion rate.
    Others(u32),
    /// Time passes, in seconds.
    Wait(i64),
}

/// Mostly single codes, and sometimes hundreds, as is possible for a prefix without a limit.
fn at_once() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(1_u32), 1 => 2..50_u32, 1 => 50..400_u32]
}

fn steps() -> impl Strategy<Value = Vec<HistoryStep>> {
    let of_both = || (0_usize..2, at_once());
    let step = prop_oneof![
        12 => of_both().prop_map(|(source, times)| HistoryStep::Ask(source, times)),
        4 => of_both().prop_map(|(source, times)| HistoryStep::Use(source, times)),
        6 => at_once().prop_map(HistoryStep::Others),
        2 => (1_i64..7200).prop_map(HistoryStep::Wait),
        1 => (1..14 * DAY).prop_map(HistoryStep::Wait),
    ];
    collection::vec(step, 1..600)
}

fn pumping_guards() -> impl Strategy<Value = PumpingGuard> {
    (10_u32..60, 1_u8..=50).prop_map(|(asked, verified_percent)| PumpingGuard {
        asked,
        verified_percent,
        ..GUARD
    })
}

/// Other sources, with three times the minimum conversion rate.
struct Others {
    asked: usize,
    used: usize,
}

impl Others {
    fn ask(&mut self, world: &mut PrefixWorld, times: u32) {
        for other in (2..5).cycle().take(times as usize) {
            if world.ask(other) == Answer::Counted {
                self.asked += 1;
                if self.used * 100 < self.asked * usize::from(world.pumping_guard.verified_percent) * 3 {
                    world.use_one(other);
                    self.used += 1;
                }
            }
        }
    }
}

/// Plays a history with these two sources. Returns whether the prefix was never paused for all.
fn is_never_paused_for_all(
    pumping_guard: PumpingGuard,
    steps: &[HistoryStep],
    two: [usize; 2],
    mut others: Option<Others>,
) -> bool {
    let mut world = PrefixWorld::new(pumping_guard, 5);
    for step in steps {
        match *step {
            HistoryStep::Ask(source, times) => {
                for _ in 0..times {
                    world.ask(two[source]);
                }
            }
            HistoryStep::Use(source, times) => {
                for _ in 0..times {
                    world.use_one(two[source]);
                }
            }
            HistoryStep::Others(times) => {
                if let Some(others) = &mut others {
                    others.ask(&mut world, times);
                }
            }
            HistoryStep::Wait(seconds) => {
                let before = day(at(world.now));
                world.now += seconds;
                if day(at(world.now)) != before {
                    others = others.map(|_| Others { asked: 0, used: 0 });
                }
            }
        }
        if world.is_paused_for_all() {
            return false;
        }
    }
    true
}

/// The index of requests without a client address: after five networks.
const UNKNOWN: usize = 5;

proptest! {
    /// For every history of the source, with or without used codes.
    #[test]
    fn no_single_source_has_a_prefix_paused_for_all(
        pumping_guard in pumping_guards(),
        steps in steps(),
        has_address: bool,
    ) {
        let source = if has_address { 0 } else { UNKNOWN };
        let others = Others { asked: 0, used: 0 };
        prop_assert!(is_never_paused_for_all(pumping_guard, &steps, [source; 2], Some(others)));
    }

    /// Without other sources.
    #[test]
    fn no_two_sources_have_a_prefix_paused_for_all(
        pumping_guard in pumping_guards(),
        steps in steps(),
        have_addresses: bool,
    ) {
        let second = if have_addresses { 1 } else { UNKNOWN };
        prop_assert!(is_never_paused_for_all(pumping_guard, &steps, [0, second], None));
    }
}
