//! Those who ask for codes from several networks, and use none.

use super::*;
use crate::domain::sms_limits::{Bounds, Counter};

/// Asks for ten codes from each of so many networks every five minutes, as far as it can, and uses none; from the first
/// of them for so many only, until the prefix is halved for the first time. Says for how many of so many days the
/// prefix was paused for all.
fn attack(world: &mut PrefixWorld, networks: usize, first: usize, days: i64) -> f64 {
    let (end, mut paused) = (world.now + days * DAY, 0);
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

/// What was held against a prefix is forgotten with its pause, and may be held against it once more: those who go on
/// have it paused again and again. Each of them is paused for itself, too, in turns with the prefix.
#[test]
fn those_who_go_on_have_a_prefix_paused_again() {
    for networks in [3, 4, 30] {
        let mut world = PrefixWorld::new(TRIPWIRE, 30);
        let paused = attack(&mut world, networks, usize::MAX, 20);
        assert!(paused > 9.0, "{networks}: {paused}");
    }
    // Two do not.
    let mut world = PrefixWorld::new(TRIPWIRE, 30);
    assert_eq!(attack(&mut world, 2, usize::MAX, 20), 0.0);
}

/// Halves are rounded: what three hold against a prefix must not be just enough, or one that holds back at first leaves
/// them below it for good.
#[test]
fn who_holds_back_until_counts_are_halved_is_not_passed_over() {
    for first in 0..14 {
        let mut world = PrefixWorld::new(TRIPWIRE, 3);
        let paused = attack(&mut world, 3, first, 20);
        assert!(paused > 8.0, "{first}: {paused}");
    }
}

/// What is asked for just before midnight is over after it, and is judged before it is halved.
#[test]
fn who_asks_at_midnight_is_not_passed_over() {
    let midnight = DAY - START.rem_euclid(DAY);
    for before in [1, 200, 299] {
        let mut world = PrefixWorld::new(TRIPWIRE, 4);
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

/// So it is when the codes of others had been used: at once if they are many, and when that is forgotten if they are
/// few.
#[test]
fn those_who_go_on_have_a_prefix_paused_that_was_good() {
    for (networks, days, least) in [(20, 1, 0.3), (3, 10, 2.0)] {
        let mut world = PrefixWorld::new(TRIPWIRE, 20);
        for _ in 0..1000 {
            world.ask_and_use(20);
            world.now += 60;
        }
        let paused = attack(&mut world, networks, usize::MAX, days);
        assert!(paused > least, "{networks}: {paused}");
    }
}

/// Counts of codes, within the bounds of a prefix that are the defaults.
struct Bounded {
    prefix: Counter,
    sources: Vec<Counter>,
}

impl Bounded {
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

/// Asks from so many networks each minute, knows all that is stored, and asks for nothing that could have the prefix
/// paused for all. Each is the first to ask in turn, for so many seconds. Says how many codes it got on each of so many
/// days.
fn careful_attack(networks: usize, turns: i64, days: i64) -> Vec<u64> {
    let mut world = PrefixWorld::new(TRIPWIRE, u8::try_from(networks).unwrap());
    let mut bounded = Bounded {
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
                    while ask_carefully(&mut world, &mut bounded, source) {
                        codes += 1;
                    }
                }
            }
            codes
        })
        .collect()
}

fn ask_carefully(world: &mut PrefixWorld, bounded: &mut Bounded, source: usize) -> bool {
    let before = world.clone();
    let is_counted = world.ask(source) == Answer::Counted;
    let seen = world.prefix.asked + world.prefix.asked_lately;
    if is_counted && (seen >= world.pumping_guard.asked || !bounded.add(source, world.now)) {
        *world = before;
        return false;
    }
    assert!(!world.is_paused_for_all());
    is_counted
}

/// Only two at a time ask for more than they share, and others take their place at midnight only.
#[test]
fn whatever_it_knows_a_careful_attack_gets_hardly_more_than_two_networks() {
    let of_two = 2 * 167;
    for networks in [2, 3, 10] {
        for turns in [60, 3600, DAY, 10 * DAY] {
            for codes in careful_attack(networks, turns, 4) {
                assert!(codes <= of_two + 30, "{networks} {turns} {codes}");
            }
        }
    }
}
