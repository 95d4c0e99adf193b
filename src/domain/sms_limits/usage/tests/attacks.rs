//! Attacks that request codes from several networks and use none.

use super::*;
use crate::domain::sms_limits::{Bounds, Counter};

/// Requests up to ten codes from each of `networks` networks every five minutes, and uses none. The first network
/// requests only `first` codes until the prefix is halved for the first time. Returns for how many of `days` days the
/// prefix was paused for all.
fn attack(world: &mut PrefixWorld, networks: usize, first: usize, days: i64) -> f64 {
    let (end, mut paused) = (world.now + days * DAY, 0);
    let mut remaining = first;
    while world.now < end {
        for source in 0..networks {
            let is_limited = source == 0 && world.prefix.halvings == 0;
            for _ in 0..if is_limited { remaining.min(10) } else { 10 } {
                world.ask(source);
                remaining -= usize::from(is_limited);
            }
        }
        paused += i32::from(world.is_paused_for_all());
        world.now += 300;
    }
    f64::from(paused) * 300.0 / 86_400.0
}

/// A pause resets the statistics of the prefix, so that sources can share unused codes again: an attack that continues
/// has the prefix paused again and again. In between, each source is paused for itself.
#[test]
fn an_attack_that_continues_has_the_prefix_paused_again() {
    for networks in [3, 4, 30] {
        let mut world = PrefixWorld::new(GUARD, 30);
        let paused = attack(&mut world, networks, usize::MAX, 20);
        assert!(paused > 9.0, "{networks}: {paused}");
    }
    // Two networks do not cause a pause.
    let mut world = PrefixWorld::new(GUARD, 30);
    assert_eq!(attack(&mut world, 2, usize::MAX, 20), 0.0);
}

/// Halves are rounded. The unused codes of three sources must exceed the number that pauses the prefix: otherwise a
/// source that holds back at first would keep them below it permanently.
#[test]
fn a_source_that_holds_back_until_counts_are_halved_is_detected() {
    for first in 0..14 {
        let mut world = PrefixWorld::new(GUARD, 3);
        let paused = attack(&mut world, 3, first, 20);
        assert!(paused > 8.0, "{first}: {paused}");
    }
}

/// Codes that are requested just before midnight expire after it, and are checked before they are halved.
#[test]
fn an_attack_at_midnight_is_detected() {
    let midnight = DAY - START.rem_euclid(DAY);
    for before in [1, 200, 299] {
        let mut world = PrefixWorld::new(GUARD, 4);
        world.now = midnight - before;
        for source in 0..3 {
            world.ask_times(source, 33);
        }
        world.now += 301;
        world.ask_times(0, 1);
        world.now += 301;
        assert_eq!(world.ask(3), PAUSED, "{before}");
    }
}

/// The prefix has a history of used codes. Many networks have it paused immediately, few networks when the history is
/// forgotten.
#[test]
fn an_attack_on_a_prefix_with_used_codes_has_it_paused() {
    for (networks, days, min) in [(20, 1, 0.3), (3, 10, 2.0)] {
        let mut world = PrefixWorld::new(GUARD, 20);
        for _ in 0..1000 {
            world.ask_and_use(20);
            world.now += 60;
        }
        let paused = attack(&mut world, networks, usize::MAX, days);
        assert!(paused > min, "{networks}: {paused}");
    }
}

/// Counts of codes, within the default limits of a prefix.
struct LimitedCodes {
    prefix: Counter,
    sources: Vec<Counter>,
}

impl LimitedCodes {
    const ALL: Bounds = Bounds {
        hour: Some(100),
        day: Some(500),
    };

    fn add(&mut self, source: usize, now: i64) -> bool {
        let now = at(now);
        let of_source = self.sources[source].add(&Self::ALL.of_a_network(), 1, now);
        let (Ok(of_source), Ok(prefix)) = (of_source, self.prefix.add(&Self::ALL, 1, now)) else {
            return false;
        };
        (self.sources[source], self.prefix) = (of_source, prefix);
        true
    }
}

/// Requests codes from `networks` networks each minute, but none that could have the prefix paused for all: it knows
/// all stored statistics. The first network changes every `turns` seconds. Returns the number of codes on each of
/// `days` days.
fn careful_attack(networks: usize, turns: i64, days: i64) -> Vec<u64> {
    let mut world = PrefixWorld::new(GUARD, u8::try_from(networks).unwrap());
    let mut limited = LimitedCodes {
        prefix: Counter::new(at(0)),
        sources: vec![Counter::new(at(0)); networks],
    };
    let begins = DAY - START.rem_euclid(DAY);
    (0..days)
        .map(|day| {
            let mut codes = 0;
            for minute in 0..DAY / 60 {
                world.now = begins + day * DAY + minute * 60;
                for source in 0..networks {
                    let turn = usize::try_from(world.now / turns).unwrap();
                    let source = (source + turn) % networks;
                    while ask_carefully(&mut world, &mut limited, source) {
                        codes += 1;
                    }
                }
            }
            codes
        })
        .collect()
}

fn ask_carefully(world: &mut PrefixWorld, limited: &mut LimitedCodes, source: usize) -> bool {
    let before = world.clone();
    let is_counted = world.ask(source) == Answer::Counted;
    let seen = world.prefix.asked + world.prefix.asked_lately;
    if is_counted && (seen >= world.pumping_guard.asked || !limited.add(source, world.now)) {
        *world = before;
        return false;
    }
    assert!(!world.is_paused_for_all());
    is_counted
}

/// Only two networks at a time can request more codes than they share, and other networks can replace them at midnight
/// only.
#[test]
fn an_attack_with_full_knowledge_gets_hardly_more_codes_than_two_networks() {
    let of_two = 2 * 167;
    for networks in [2, 3, 10] {
        for turns in [60, 3600, DAY, 10 * DAY] {
            for codes in careful_attack(networks, turns, 4) {
                assert!(codes <= of_two + 30, "{networks} {turns} {codes}");
            }
        }
    }
}
