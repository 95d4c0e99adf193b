mod histories;
mod world;

use chrono::DateTime;

use super::*;
use world::*;

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

const WEEK: i64 = 7 * 86_400;

#[test]
fn codes_that_nobody_uses_pause_a_prefix_when_their_time_is_over() {
    let mut world = World::new(TRIPWIRE, 5);
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now = 299;
    world.ask_times(3, 1);
    // There is still time to use that one, and it is not looked at them one by one.
    world.now = 300;
    world.ask_times(3, 1);
    world.now = 599;
    world.ask_times(3, 1);
    world.now = 600;
    assert_eq!(world.ask(4), PAUSED);
    world.now = 601;
    for source in [3, 4, 5] {
        let (whose, seconds) = (Paused::ForAll, 3599);
        assert_eq!(world.ask(source), Answer::Paused { whose, seconds });
    }
    // And then it begins anew: nothing is held against the prefix.
    world.now = 600 + 3600;
    world.ask_times(4, 1);
    assert_eq!((world.prefix.asked, world.prefix.verified), (0, 0));
}

/// However many ask at once: who has just been sent a code has not left it unused.
#[test]
fn codes_whose_time_is_not_over_pause_nobody() {
    let mut world = World::new(TRIPWIRE, 60);
    world.ask_times(0, 1);
    world.now = 299;
    for source in 1..60 {
        world.ask_times(source, 1);
    }
    for now in [300, 301, 598] {
        world.now = now;
        world.ask_times(0, 1);
    }
}

#[test]
fn few_codes_say_nothing_and_used_ones_pause_nobody() {
    for (asked, verified, is_paused) in [(29, 0, false), (30, 2, true), (30, 3, false), (30, 30, false)] {
        let mut world = World::new(TRIPWIRE, 4);
        for index in 0..asked {
            world.ask_times(index % 3, 1);
        }
        world.prefix.verified = verified;
        world.now = 600;
        assert_eq!(world.ask(3) == PAUSED, is_paused, "{asked} {verified}");
    }
}

/// Round after round: those of its codes that are not used count once, whatever pauses it.
#[test]
fn a_source_of_which_nothing_is_used_is_paused_for_itself() {
    // Those that nobody tells apart are not paused before the prefix would be.
    for (source, needed) in [(0, 10), (1, 30)] {
        let mut world = World::new(TRIPWIRE, 1);
        for round in 0..20 {
            world.ask_times(source, needed);
            world.now += 600;
            assert_eq!(world.ask(source), PAUSED_FOR_SOURCE, "{round}");
            assert!(!world.is_paused_for_all());
            let Usage {
                asked, asked_lately, ..
            } = world.prefix;
            assert!(asked + asked_lately <= 14, "{:?}", world.prefix);
            world.now += 3600;
        }
    }
}

/// Asks for ten codes from each of so many networks every five minutes, as far as it can, and uses none; from the first of them for so
/// many only, until the prefix is halved for the first time. Says for how many of so many days the prefix was paused for all.
fn attack(world: &mut World, networks: usize, first: usize, days: i64) -> f64 {
    let (end, mut paused) = (world.now + days * 86_400, 0);
    let mut left = first;
    while world.now < end {
        for source in 0..networks {
            let is_held_back = source == 0 && world.prefix.halvings == 0;
            for _ in 0..if is_held_back { left.min(10) } else { 10 } {
                world.ask(source);
                left -= usize::from(is_held_back);
            }
        }
        paused += i32::from(world.is_paused_for_all());
        world.now += 300;
    }
    f64::from(paused) * 300.0 / 86_400.0
}

/// What was held against a prefix is forgotten with its pause, and may be held against it once more: those who go on have it paused
/// again and again. Each of them is paused for itself, too, in turns with the prefix.
#[test]
fn those_who_go_on_have_a_prefix_paused_again() {
    for networks in [3, 4, 30] {
        let mut world = World::new(TRIPWIRE, 30);
        let paused = attack(&mut world, networks, usize::MAX, 20);
        assert!(paused > 9.0, "{networks}: {paused}");
    }
    // Two do not.
    let mut world = World::new(TRIPWIRE, 30);
    assert_eq!(attack(&mut world, 2, usize::MAX, 20), 0.0);
}

/// Halves are rounded: what three hold against a prefix must not be just enough, or one that holds back at first leaves them below it
/// for good.
#[test]
fn who_holds_back_until_counts_are_halved_is_not_passed_over() {
    for first in 0..14 {
        let mut world = World::new(TRIPWIRE, 3);
        // Less than what is left of the week, after which all begin anew.
        let paused = attack(&mut world, 3, first, 6);
        assert!(paused > 2.0, "{first}: {paused}");
    }
}

/// So it is when the codes of others had been used.
#[test]
fn those_who_go_on_have_a_prefix_paused_that_was_good() {
    let mut world = World::new(TRIPWIRE, 3);
    for _ in 0..1000 {
        world.ask_and_use(3);
        world.now += 60;
    }
    let paused = attack(&mut world, 3, usize::MAX, 2);
    assert!(paused > 0.5, "{paused}");
}

#[test]
fn an_address_whose_codes_are_used_speaks_for_the_prefix() {
    let mut world = World::new(TRIPWIRE, 4);
    // Many people behind one address, half of whom use their codes.
    for _ in 0..20 {
        for _ in 0..5 {
            world.ask_and_use(0);
            world.ask_times(0, 1);
        }
        world.now += 300;
    }
    assert!(world.prefix.verified >= 12, "{:?}", world.prefix);
    // What three others leave unused does not outweigh that.
    for source in 1..4 {
        world.ask_times(source, 10);
    }
    world.now += 600;
    world.ask_times(0, 1);
}

/// Messages may be late at first: whoever is seen to use codes then counts again, and before what was at first is forgotten.
#[test]
fn an_address_that_begins_badly_speaks_for_the_prefix_when_it_goes_on_well() {
    let mut world = World::new(TRIPWIRE, 4);
    world.ask_times(0, 14);
    for _ in 0..40 {
        world.ask_and_use(0);
    }
    for source in 1..4 {
        world.ask_times(source, 14);
    }
    world.now = 600;
    world.ask_times(4, 1);
    assert_eq!(world.prefix.halvings, 0);
}

/// What is used of the codes of the last minutes is halved as these are.
#[test]
fn hundreds_of_codes_at_once_pause_nobody_if_they_are_used() {
    let mut world = World::new(TRIPWIRE, 7);
    for minutes in 0..60 {
        world.now = minutes * 60;
        for (code, source) in (0..100).zip((0..7).cycle()) {
            world.ask_times(source, 1);
            if code % 10 < 3 {
                world.use_one(source);
            }
        }
    }
}

/// Who uses two codes and leaves the others has shown nothing, however many of them are asked for at once.
#[test]
fn few_codes_that_are_used_do_not_hide_many_that_are_not() {
    for is_used_first in [true, false] {
        let mut world = World::new(TRIPWIRE, 5);
        for source in 0..4 {
            world.ask_times(source, if is_used_first { 2 } else { 34 });
            world.use_one(source);
            world.use_one(source);
            world.ask_times(source, if is_used_first { 32 } else { 0 });
        }
        world.now = 600;
        assert_eq!(world.ask(4), PAUSED, "{is_used_first}");
    }
}

/// Who uses as few as have to be used could else have it paused by the next code of anybody that is not.
#[test]
fn whoever_uses_just_enough_leaves_room_for_others() {
    let mut world = World::new(TRIPWIRE, 20);
    for _ in 0..10 {
        world.ask_and_use(0);
        world.ask_times(0, 8);
    }
    for other in 1..16 {
        world.ask_times(other, 1);
    }
    world.now = 600;
    world.ask_times(19, 1);
}

/// A code that somebody has just been sent is none that they do not use, beside another who uses none.
#[test]
fn who_uses_all_but_the_last_code_has_nothing_paused() {
    let mut world = World::new(
        Tripwire {
            asked: 17,
            verified_percent: 48,
            ..TRIPWIRE
        },
        3,
    );
    world.ask_times(0, 8);
    for _ in 0..8 {
        world.ask_and_use(1);
    }
    world.ask_times(1, 1);
    world.now = 600;
    world.ask_times(2, 1);
}

/// A code of before a pause may be used after it, when nothing is seen any more of its having been asked for.
#[test]
fn what_is_forgotten_is_not_used() {
    let tripwire = Tripwire {
        pause: Duration::from_secs(1),
        ..TRIPWIRE
    };
    let mut world = World::new(tripwire, 4);
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now = 300;
    world.ask_times(3, 1);
    world.now = 600;
    let (whose, seconds) = (Paused::ForAll, 1);
    assert_eq!(world.ask(4), Answer::Paused { whose, seconds });
    world.now = 601;
    world.use_one(3);
    world.ask_times(4, 1);
    assert_eq!((world.prefix.asked_lately, world.prefix.verified), (1, 0));
}

#[test]
fn what_halves_are_rounded_to_pauses_nobody() {
    let mut world = World::new(
        Tripwire {
            asked: 10,
            verified_percent: 50,
            ..TRIPWIRE
        },
        1,
    );
    (world.prefix.asked, world.prefix.verified) = (42, 21);
    for now in [600, 1200] {
        world.now = now;
        world.ask_times(0, 1);
    }
}

/// However long a prefix was good, it does not take longer to see that it is not any more.
#[test]
fn what_was_long_ago_counts_less_and_less() {
    let bad_until_paused = |good: u32| {
        let mut world = World::new(TRIPWIRE, 200);
        for _ in 0..good {
            world.ask_and_use(0);
            world.now += 60;
        }
        assert!(world.prefix.asked <= TRIPWIRE.asked * 4, "{:?}", world.prefix);
        let mut bad = 0;
        for source in 1..200 {
            if world.ask(source) == PAUSED {
                return bad;
            }
            world.ask_times(source, 9);
            bad += 10;
            world.now += 300;
        }
        panic!("not paused after {bad}");
    };
    let (after_hours, after_days) = (bad_until_paused(200), bad_until_paused(5000));
    assert!(after_days <= after_hours + 20, "{after_hours} {after_days}");
}

#[test]
fn at_the_end_of_a_week_all_is_forgotten() {
    // The week that the time of the beginning is in ends then.
    let end = WEEK - START.rem_euclid(WEEK);
    for (now, asked) in [(end - 1, 30), (end, 0)] {
        let mut world = World::new(TRIPWIRE, 4);
        world.now = end - 1000;
        world.ask_times(3, 1);
        for source in 0..3 {
            world.ask_times(source, 10);
        }
        world.now = now;
        assert_eq!(world.ask(3) == PAUSED, asked > 0, "{now}");
    }
}

/// Clocks of replicas differ a little, and sometimes much.
#[test]
fn a_clock_that_is_far_ahead_pauses_nobody_for_longer() {
    let mut world = World::new(TRIPWIRE, 3);
    world.now = 365 * 86_400;
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now += 600;
    assert_eq!(world.ask(3), PAUSED);
    let until = world.now;
    // One that is behind by less than a code lives.
    world.now = until - 299;
    assert_eq!(world.ask(3), PAUSED);
    world.now = 0;
    world.ask_times(3, 1);
}
