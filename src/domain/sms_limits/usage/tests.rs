mod attacks;
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
const TRIPWIRE: PumpingGuard = PumpingGuard {
    asked: 30,
    verified_percent: 10,
    pause: Duration::from_hours(1),
};
const LIFETIME: Duration = Duration::from_mins(5);

const DAY: i64 = 86_400;

#[test]
fn codes_that_nobody_uses_pause_a_prefix_when_their_time_is_over() {
    let mut world = PrefixWorld::new(TRIPWIRE, 5);
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
    let mut world = PrefixWorld::new(TRIPWIRE, 60);
    world.ask_times(0, 1);
    world.now = 299;
    for source in 1..60 {
        world.ask_times(source, 1);
    }
    for now in [300, 301, 598] {
        world.now = now;
        world.ask_times(0, 1);
    }
    // Nor are they judged with older ones.
    let mut world = PrefixWorld::new(TRIPWIRE, 60);
    for now in [0, 300] {
        world.now = now;
        world.ask_times(0, 1);
    }
    world.now = 599;
    for source in 0..60 {
        world.ask_times(source, 1);
    }
    world.now = 601;
    world.ask_times(0, 1);
}

#[test]
fn few_codes_say_nothing_and_used_ones_pause_nobody() {
    for (asked, verified, is_paused) in [(29, 0, false), (30, 2, true), (30, 3, false), (30, 30, false)] {
        let mut world = PrefixWorld::new(TRIPWIRE, 4);
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
        let mut world = PrefixWorld::new(TRIPWIRE, 1);
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

#[test]
fn an_address_whose_codes_are_used_speaks_for_the_prefix() {
    let mut world = PrefixWorld::new(TRIPWIRE, 4);
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

/// Messages may be late at first: whoever is seen to use codes then counts again, and before what was at first is
/// forgotten.
#[test]
fn an_address_that_begins_badly_speaks_for_the_prefix_when_it_goes_on_well() {
    let mut world = PrefixWorld::new(TRIPWIRE, 4);
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
    let mut world = PrefixWorld::new(TRIPWIRE, 7);
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
        let mut world = PrefixWorld::new(TRIPWIRE, 5);
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
    let mut world = PrefixWorld::new(TRIPWIRE, 20);
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
    let mut world = PrefixWorld::new(
        PumpingGuard {
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
    let pumping_guard = PumpingGuard {
        pause: Duration::from_secs(1),
        ..TRIPWIRE
    };
    let mut world = PrefixWorld::new(pumping_guard, 4);
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
    let mut world = PrefixWorld::new(
        PumpingGuard {
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
        let mut world = PrefixWorld::new(TRIPWIRE, 200);
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

/// Half of what is seen, which is too little to pause it then; but codes that are over are judged before.
#[test]
fn at_midnight_half_is_forgotten_and_after_a_week_all() {
    for (asked, days, again, is_paused) in [
        (30, 0, 0, true),
        (30, 1, 0, true),
        (30, 6, 0, true),
        (30, 7, 0, false),
        (29, 0, 1, true),
        // 14 are left of them, and three of 14 after another night.
        (29, 1, 15, false),
        (29, 1, 16, true),
        (29, 3, 26, false),
        (29, 3, 27, true),
    ] {
        let mut world = PrefixWorld::new(TRIPWIRE, 10);
        for index in 0..asked {
            world.ask_times(index % 3, 1);
        }
        world.now = days * DAY;
        if again > 0 {
            world.now += 600;
            for index in 0..again {
                world.ask_times(3 + index % 3, 1);
            }
        }
        world.now += 600;
        assert_eq!(world.ask(9) == PAUSED, is_paused, "{asked} {days} {again}");
    }
}

/// Clocks of replicas differ a little, and sometimes much.
#[test]
fn a_clock_that_is_far_ahead_pauses_nobody_for_longer() {
    let mut world = PrefixWorld::new(TRIPWIRE, 3);
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
    // Nor is anybody when that time comes.
    world.now = until + 60;
    world.ask_times(3, 1);
}
