mod histories;

use std::net::{IpAddr, Ipv4Addr};

use chrono::DateTime;

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

const WEEK: i64 = 7 * 86_400;

/// A prefix, and the sources that ask for its codes.
struct World {
    tripwire: Tripwire,
    prefix: Usage,
    sources: Vec<SourceSeen>,
    now: i64,
}

struct SourceSeen {
    from: Source,
    usage: Usage,
    /// Of the codes that were asked for and are not used, whether they are shared.
    codes: Vec<bool>,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Counted { is_shared: bool },
    Paused { whose: Paused, seconds: u64 },
}

const PAUSED: Answer = Answer::Paused {
    whose: Paused::ForAll,
    seconds: 3600,
};

const PAUSED_FOR_SOURCE: Answer = Answer::Paused {
    whose: Paused::ForSource,
    seconds: 3600,
};

impl World {
    /// With so many networks, and after them those that nobody tells apart.
    fn new(tripwire: Tripwire, networks: u8) -> Self {
        let network = |index| IpAddr::V4(Ipv4Addr::new(192, 0, 2, index));
        let sources = (0..networks).map(|index| Source::Network(network(index)));
        let seen = |from| SourceSeen {
            from,
            usage: Usage::new(at(0)),
            codes: Vec::new(),
        };
        Self {
            tripwire,
            prefix: Usage::new(at(0)),
            sources: sources.chain([Source::Unknown]).map(seen).collect(),
            now: 0,
        }
    }

    fn seen(&self, source: usize) -> Seen {
        Seen {
            source: self.sources[source].usage,
            prefix: self.prefix,
        }
    }

    fn set(&mut self, source: usize, seen: Seen) {
        self.sources[source].usage = seen.source;
        self.prefix = seen.prefix;
    }

    fn ask(&mut self, source: usize) -> Answer {
        let (from, seen, now) = (self.sources[source].from, self.seen(source), at(self.now));
        match self.tripwire.ask(from, seen, LIFETIME, now) {
            Asked::Counted { seen, is_shared } => {
                self.set(source, seen);
                self.sources[source].codes.push(is_shared);
                Answer::Counted { is_shared }
            }
            Asked::Paused { rest, whose, by_this } => {
                if let Some(seen) = by_this {
                    self.set(source, seen);
                }
                let seconds = rest.as_secs();
                Answer::Paused { whose, seconds }
            }
        }
    }

    /// Asks for so many codes, none of which is paused, and says how many are shared.
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

    /// Uses the code that was asked for last, if there is one.
    fn use_one(&mut self, source: usize) {
        if let Some(is_shared) = self.sources[source].codes.pop() {
            let seen = self.tripwire.used(self.seen(source), is_shared);
            self.set(source, seen);
        }
    }

    fn ask_and_use(&mut self, source: usize) {
        self.ask_times(source, 1);
        self.use_one(source);
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
            assert!(asked + asked_lately <= 10, "{:?}", world.prefix);
            world.now += 3600;
        }
    }
}

/// Asks for ten codes from each of so many networks every five minutes, as far as it can, and uses none. Says for how many of so many
/// days the prefix was paused for all.
fn attack(world: &mut World, networks: usize, days: i64) -> f64 {
    let (end, mut paused) = (world.now + days * 86_400, 0);
    while world.now < end {
        for source in 0..networks {
            for _ in 0..10 {
                world.ask(source);
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
        let paused = attack(&mut world, networks, 20);
        assert!(paused > 9.0, "{networks}: {paused}");
    }
    // Two do not.
    let mut world = World::new(TRIPWIRE, 30);
    assert_eq!(attack(&mut world, 2, 20), 0.0);
}

/// So it is when the codes of others had been used.
#[test]
fn those_who_go_on_have_a_prefix_paused_that_was_good() {
    let mut world = World::new(TRIPWIRE, 3);
    for _ in 0..1000 {
        world.ask_and_use(3);
        world.now += 60;
    }
    let paused = attack(&mut world, 3, 2);
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

/// Who uses one code and leaves the others has shown nothing, however many of them are asked for at once.
#[test]
fn one_code_that_is_used_does_not_hide_many_that_are_not() {
    for is_used_first in [true, false] {
        let mut world = World::new(TRIPWIRE, 5);
        for source in 0..4 {
            if is_used_first {
                world.ask_and_use(source);
                world.ask_times(source, 33);
            } else {
                world.ask_times(source, 34);
                // The first one, which is shared.
                world.sources[source].codes.reverse();
                world.use_one(source);
            }
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
    for other in 1..19 {
        world.ask_times(other, 1);
    }
    world.now = 600;
    world.ask_times(19, 1);
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
            bad += 1 + world.ask_times(source, 9);
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
