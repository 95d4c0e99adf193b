use std::net::{IpAddr, Ipv4Addr};

use chrono::DateTime;
use proptest::collection;
use proptest::prelude::*;

use super::*;

/// Noon.
const START: i64 = 1_767_268_800;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(START + seconds, 0).unwrap()
}

/// As by default.
const TRIPWIRE: Tripwire = Tripwire {
    asked: 30,
    verified_percent: 10,
    pause: Duration::from_hours(1),
};
const LIFETIME: Duration = Duration::from_mins(5);

/// A prefix, and the sources that ask for its codes.
struct World {
    tripwire: Tripwire,
    prefix: Usage,
    sources: Vec<(Source, Usage)>,
    now: i64,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Counted { is_shared: bool },
    Paused { seconds: u64 },
}

impl World {
    fn new(tripwire: Tripwire, networks: u8) -> Self {
        let network = |index| IpAddr::V4(Ipv4Addr::new(192, 0, 2, index));
        let sources = (0..networks).map(|index| Source::Network(network(index)));
        Self {
            tripwire,
            prefix: Usage::new(at(0)),
            sources: sources
                .chain([Source::Unknown])
                .map(|source| (source, Usage::new(at(0))))
                .collect(),
            now: 0,
        }
    }

    fn seen(&self, source: usize) -> Seen {
        Seen {
            source: self.sources[source].1,
            prefix: self.prefix,
        }
    }

    fn set(&mut self, source: usize, seen: Seen) {
        self.sources[source].1 = seen.source;
        self.prefix = seen.prefix;
    }

    fn ask(&mut self, source: usize) -> Answer {
        let (from, seen, now) = (self.sources[source].0, self.seen(source), at(self.now));
        match self.tripwire.ask(from, seen, LIFETIME, now) {
            Asked::Counted { seen, is_shared } => {
                self.set(source, seen);
                Answer::Counted { is_shared }
            }
            Asked::Paused { rest, by_this } => {
                if let Some(seen) = by_this {
                    self.set(source, seen);
                }
                let seconds = rest.as_secs();
                Answer::Paused { seconds }
            }
        }
    }

    /// Asks for so many codes, none of which is paused, and says how many count for the prefix.
    fn ask_times(&mut self, source: usize, times: u32) -> u32 {
        let mut shared = 0;
        for index in 0..times {
            match self.ask(source) {
                Answer::Counted { is_shared } => shared += u32::from(is_shared),
                paused @ Answer::Paused { .. } => panic!("{paused:?} after {index}"),
            }
        }
        shared
    }

    /// Uses codes that count for the prefix.
    fn use_times(&mut self, source: usize, times: u32) {
        for _ in 0..times {
            let seen = self.tripwire.used(self.seen(source), true);
            self.set(source, seen);
        }
    }

    fn is_paused_for_all(&self) -> bool {
        self.prefix.paused_until.is_some_and(|until| until > at(self.now))
    }
}

#[test]
fn codes_that_nobody_uses_pause_a_prefix_when_their_time_is_over() {
    let mut world = World::new(TRIPWIRE, 5);
    for source in 0..3 {
        assert_eq!(world.ask_times(source, 10), 10);
    }
    // There is time to use them.
    world.now = 299;
    world.ask_times(3, 1);
    world.now = 300;
    assert_eq!(world.ask(4), Answer::Paused { seconds: 3600 });
    world.now = 301;
    for source in [3, 4, 5] {
        assert_eq!(world.ask(source), Answer::Paused { seconds: 3599 });
    }
    // And then it begins anew: nothing is held against the prefix.
    world.now = 300 + 3600;
    world.ask_times(4, 1);
    assert_eq!((world.prefix.asked, world.prefix.verified), (0, 0));
}

#[test]
fn few_codes_say_nothing_and_used_ones_pause_nobody() {
    for (asked, verified, is_paused) in [(29, 0, false), (30, 2, true), (30, 3, false), (30, 30, false)] {
        let mut world = World::new(TRIPWIRE, 4);
        for index in 0..asked {
            world.ask_times(index % 3, 1);
        }
        world.prefix.verified = verified;
        world.now = 300;
        let paused = Answer::Paused { seconds: 3600 };
        assert_eq!(world.ask(3) == paused, is_paused, "{asked} {verified}");
    }
}

/// Round after round: those of its codes that are not used count once, whatever pauses it.
#[test]
fn a_source_of_which_nothing_is_used_is_paused_for_itself() {
    // Those that nobody tells apart are not paused before the prefix would be.
    for (source, needed) in [(0, 10), (1, 30)] {
        let mut world = World::new(TRIPWIRE, 1);
        let mut shared = 0;
        for round in 0..20 {
            shared += world.ask_times(source, needed);
            world.now += 300;
            assert_eq!(world.ask(source), Answer::Paused { seconds: 3600 }, "{round}");
            assert!(!world.is_paused_for_all());
            world.now += 3600;
        }
        assert_eq!(shared, 10);
    }
}

#[test]
fn an_address_whose_codes_are_used_speaks_for_the_prefix() {
    let mut world = World::new(TRIPWIRE, 4);
    // Many people behind one address, half of whom use their codes.
    for _ in 0..20 {
        world.ask_times(0, 10);
        world.use_times(0, 5);
        world.now += 300;
    }
    assert!(world.prefix.verified >= 12, "{:?}", world.prefix);
    // What three others leave unused does not outweigh that.
    for source in 1..4 {
        world.ask_times(source, 10);
    }
    world.now += 300;
    world.ask_times(0, 1);
}

/// Who uses one code and leaves the others has shown nothing, however many of them are asked for at once.
#[test]
fn one_code_that_is_used_does_not_hide_many_that_are_not() {
    for is_used_first in [true, false] {
        let mut world = World::new(TRIPWIRE, 5);
        for source in 0..4 {
            if is_used_first {
                world.ask_times(source, 1);
                world.use_times(source, 1);
                world.ask_times(source, 33);
            } else {
                world.ask_times(source, 34);
                world.use_times(source, 1);
            }
        }
        world.now = 300;
        assert_eq!(world.ask(4), Answer::Paused { seconds: 3600 }, "{is_used_first}");
    }
}

/// However long a prefix was good, it does not take longer to see that it is not any more.
#[test]
fn what_was_long_ago_counts_less_and_less() {
    let mut world = World::new(TRIPWIRE, 200);
    for _ in 0..1000 {
        world.ask_times(0, 5);
        world.use_times(0, 5);
        world.now += 300;
    }
    assert!(world.prefix.asked <= TRIPWIRE.asked * 4, "{:?}", world.prefix);
    let mut bad = 0;
    for source in 1..200 {
        if let Answer::Paused { .. } = world.ask(source) {
            break;
        }
        bad += 1 + world.ask_times(source, 9);
        world.now += 300;
    }
    assert!((60..=450).contains(&bad), "{bad}");
}

#[test]
fn after_a_week_without_any_nothing_is_held_against_a_prefix() {
    let mut world = World::new(TRIPWIRE, 3);
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now = 7 * 86_400;
    assert_eq!(world.ask_times(0, 1), 1);
    assert_eq!((world.prefix.asked, world.prefix.asked_lately), (0, 1));
}

/// What one source does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    /// Uses one of the codes that were asked for.
    Use,
    /// Waits so long, in seconds.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Ask),
        2 => Just(Step::Use),
        1 => (1_i64..7200).prop_map(Step::Wait),
    ];
    collection::vec(step, 1..600)
}

fn tripwires() -> impl Strategy<Value = Tripwire> {
    (3_u32..60, 1_u8..=50).prop_map(|(asked, verified_percent)| Tripwire {
        asked,
        verified_percent,
        ..TRIPWIRE
    })
}

proptest! {
    /// Whatever it does, and however many of its own codes it uses.
    #[test]
    fn no_source_alone_has_a_prefix_paused_for_all(
        tripwire in tripwires(),
        steps in steps(),
        is_told_apart: bool,
    ) {
        let mut world = World::new(tripwire, 1);
        let source = usize::from(!is_told_apart);
        let mut codes = Vec::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => world.now += seconds,
                Step::Ask => {
                    if let Answer::Counted { is_shared } = world.ask(source) {
                        codes.push(is_shared);
                    }
                }
                Step::Use => {
                    if let Some(is_shared) = codes.pop() {
                        let seen = tripwire.used(world.seen(source), is_shared);
                        world.set(source, seen);
                    }
                }
            }
            prop_assert!(!world.is_paused_for_all(), "{:?}", world.prefix);
        }
    }
}
