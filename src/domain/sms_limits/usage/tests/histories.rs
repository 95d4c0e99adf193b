//! Random histories of one source, beside others who use their codes.

use proptest::collection;
use proptest::prelude::*;

use super::*;

/// What somebody does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    /// Uses one of the codes that were asked for.
    Use,
    /// Somebody else asks for a code, and uses it if too few of the others' codes are used.
    Other,
    /// Waits so long, in seconds.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Ask),
        4 => Just(Step::Use),
        6 => Just(Step::Other),
        2 => (1_i64..7200).prop_map(Step::Wait),
        1 => (1..2 * WEEK).prop_map(Step::Wait),
    ];
    collection::vec(step, 1..600)
}

fn tripwires() -> impl Strategy<Value = Tripwire> {
    (10_u32..60, 1_u8..=50).prop_map(|(asked, verified_percent)| Tripwire {
        asked,
        verified_percent,
        ..TRIPWIRE
    })
}

proptest! {
    /// Whatever it does, a few codes at a time, however long, and however many of its own codes it uses; as long as others use three times as many of theirs as
    /// have to be used.
    #[test]
    fn no_source_alone_has_a_prefix_paused_for_all(
        tripwire in tripwires(),
        steps in steps(),
        is_told_apart: bool,
    ) {
        let mut world = World::new(tripwire, 4);
        let source = if is_told_apart { 0 } else { 4 };
        let (mut asked, mut used) = (0, 0);
        for step in steps {
            match step {
                Step::Wait(seconds) => {
                    let before = week(at(world.now));
                    world.now += seconds;
                    if week(at(world.now)) != before {
                        (asked, used) = (0, 0);
                    }
                }
                Step::Ask => {
                    world.ask(source);
                }
                Step::Use => world.use_one(source),
                Step::Other => {
                    let other = 1 + asked % 3;
                    if let Answer::Counted { .. } = world.ask(other) {
                        asked += 1;
                        if used * 100 < asked * usize::from(tripwire.verified_percent) * 3 {
                            world.use_one(other);
                            used += 1;
                        }
                    }
                }
            }
            prop_assert!(!world.is_paused_for_all(), "{:?}", world.prefix);
        }
    }
}
