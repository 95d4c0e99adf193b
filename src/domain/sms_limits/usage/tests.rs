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

/// The default settings.
const GUARD: PumpingGuard = PumpingGuard {
    asked: 30,
    verified_percent: 10,
    pause: Duration::from_hours(1),
};
const LIFETIME: Duration = Duration::from_mins(5);

const DAY: i64 = 86_400;

#[test]
fn unused_codes_pause_a_prefix_when_they_have_expired() {
    let mut world = PrefixWorld::new(GUARD, 5);
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now = 299;
    world.ask_times(3, 1);
    // That code can still be used, and codes do not expire one by one here.
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
    // After the pause the statistics start from zero.
    world.now = 600 + 3600;
    world.ask_times(4, 1);
    assert_eq!((world.prefix.asked, world.prefix.verified), (0, 0));
}

/// Many requests at once cause no pause: their codes can still be used.
#[test]
fn codes_that_have_not_expired_pause_no_prefix() {
    let mut world = PrefixWorld::new(GUARD, 60);
    world.ask_times(0, 1);
    world.now = 299;
    for source in 1..60 {
        world.ask_times(source, 1);
    }
    for now in [300, 301, 598] {
        world.now = now;
        world.ask_times(0, 1);
    }
    // They do not count together with older codes either.
    let mut world = PrefixWorld::new(GUARD, 60);
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
fn few_codes_and_used_codes_pause_no_prefix() {
    for (asked, verified, is_paused) in [(29, 0, false), (30, 2, true), (30, 3, false), (30, 30, false)] {
        let mut world = PrefixWorld::new(GUARD, 4);
        for index in 0..asked {
            world.ask_times(index % 3, 1);
        }
        world.prefix.verified = verified;
        world.now = 600;
        assert_eq!(world.ask(3) == PAUSED, is_paused, "{asked} {verified}");
    }
}

/// In every round. Its unused codes count for the prefix once, whatever pauses the source.
#[test]
fn a_source_that_uses_no_codes_is_paused_for_itself() {
    // Requests without a client address are paused when the prefix would be.
    for (source, needed) in [(0, 10), (1, 30)] {
        let mut world = PrefixWorld::new(GUARD, 1);
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
fn used_codes_of_one_address_keep_the_prefix_open() {
    let mut world = PrefixWorld::new(GUARD, 4);
    // Many users behind one address, half of which use their codes.
    for _ in 0..20 {
        for _ in 0..5 {
            world.ask_and_use(0);
            world.ask_times(0, 1);
        }
        world.now += 300;
    }
    assert!(world.prefix.verified >= 12, "{:?}", world.prefix);
    // The unused codes of three others do not outweigh that.
    for source in 1..4 {
        world.ask_times(source, 10);
    }
    world.now += 600;
    world.ask_times(0, 1);
}

/// Messages may be delayed at first. An address that uses codes later counts for the prefix again, before its first
/// codes are forgotten.
#[test]
fn an_address_with_a_bad_start_keeps_the_prefix_open_when_it_recovers() {
    let mut world = PrefixWorld::new(GUARD, 4);
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

/// The uses of recent codes are halved together with their requests.
#[test]
fn hundreds_of_codes_at_once_pause_no_prefix_if_they_are_used() {
    let mut world = PrefixWorld::new(GUARD, 7);
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

/// A source that uses two codes and leaves the others unused has a low conversion rate, however many it requests at
/// once.
#[test]
fn few_used_codes_do_not_hide_many_unused_codes() {
    for is_used_first in [true, false] {
        let mut world = PrefixWorld::new(GUARD, 5);
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

/// A source exactly at the minimum conversion rate must not let the next unused code of another source cause a pause.
#[test]
fn a_source_at_the_minimum_rate_leaves_room_for_others() {
    let mut world = PrefixWorld::new(GUARD, 20);
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

/// A code that was just sent does not count as unused beside a source that uses no codes.
#[test]
fn a_source_that_uses_all_but_its_last_code_causes_no_pause() {
    let mut world = PrefixWorld::new(
        PumpingGuard {
            asked: 17,
            verified_percent: 48,
            ..GUARD
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

/// A code that was requested before a pause can be used after it, when its request is forgotten.
#[test]
fn the_use_of_a_forgotten_code_does_not_count() {
    let pumping_guard = PumpingGuard {
        pause: Duration::from_secs(1),
        ..GUARD
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
fn rounding_of_halves_pauses_no_prefix() {
    let mut world = PrefixWorld::new(
        PumpingGuard {
            asked: 10,
            verified_percent: 50,
            ..GUARD
        },
        1,
    );
    (world.prefix.asked, world.prefix.verified) = (42, 21);
    for now in [600, 1200] {
        world.now = now;
        world.ask_times(0, 1);
    }
}

/// A long history of used codes does not delay the pause.
#[test]
fn old_codes_count_less_and_less() {
    let unused_until_paused = |used: u32| {
        let mut world = PrefixWorld::new(GUARD, 200);
        for _ in 0..used {
            world.ask_and_use(0);
            world.now += 60;
        }
        assert!(world.prefix.asked <= GUARD.asked * 4, "{:?}", world.prefix);
        let mut unused = 0;
        for source in 1..200 {
            if world.ask(source) == PAUSED {
                return unused;
            }
            world.ask_times(source, 9);
            unused += 10;
            world.now += 300;
        }
        panic!("not paused after {unused}");
    };
    let (after_hours, after_days) = (unused_until_paused(200), unused_until_paused(5000));
    assert!(after_days <= after_hours + 20, "{after_hours} {after_days}");
}

/// The remaining half is too small for a pause. Codes that have expired are checked before the halving.
#[test]
fn half_is_forgotten_at_midnight_and_all_after_a_week() {
    for (asked, days, again, is_paused) in [
        (30, 0, 0, true),
        (30, 1, 0, true),
        (30, 6, 0, true),
        (30, 7, 0, false),
        (29, 0, 1, true),
        // 14 codes remain of 29, and three of 14 after two more nights.
        (29, 1, 15, false),
        (29, 1, 16, true),
        (29, 3, 26, false),
        (29, 3, 27, true),
    ] {
        let mut world = PrefixWorld::new(GUARD, 10);
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

/// Clocks of replicas differ slightly, and sometimes much.
#[test]
fn a_clock_that_is_far_ahead_extends_no_pause() {
    let mut world = PrefixWorld::new(GUARD, 3);
    world.now = 365 * 86_400;
    for source in 0..3 {
        world.ask_times(source, 10);
    }
    world.now += 600;
    assert_eq!(world.ask(3), PAUSED);
    let until = world.now;
    // A clock that is behind by less than the lifetime of a code.
    world.now = until - 299;
    assert_eq!(world.ask(3), PAUSED);
    world.now = 0;
    world.ask_times(3, 1);
    // The pause does not begin when the wall clock reaches it.
    world.now = until + 60;
    world.ask_times(3, 1);
}
