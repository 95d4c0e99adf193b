//! The tripwire: how the codes of a prefix are used, and when it is paused for that.
//!
//! What is seen of a prefix is the sum of what is seen of the sources that ask for its codes, of which none may be enough to have
//! it paused for all the others. So a source is watched for itself, too, and pauses the prefix for itself alone; and of its codes
//! only so many count for the prefix as are no more than a third of what pauses it, or used well.

use std::time::Duration;

use chrono::TimeDelta;

use super::{FEWEST_SOURCES, Source};
use crate::clock::Timestamp;

/// When a prefix was not asked about for so long, what was seen of it counts no more.
pub const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(7);

/// How many times as many codes as the tripwire wants to see are looked back on. What is older counts half, a quarter and so on:
/// a prefix that was good for years is paused as soon as another one.
const LOOKED_BACK: u32 = 4;

/// When a prefix is paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tripwire {
    /// How many codes have to have been asked for, whose time is over. At least three.
    pub asked: u32,
    /// Of so many of a hundred at least the code has to have been right. At most 50: see [`Tripwire::lets_count`].
    pub verified_percent: u8,
    /// For how long. At most [`FORGOTTEN_AFTER`].
    pub pause: Duration,
}

impl Tripwire {
    /// When a prefix is paused for one source that is told apart from the others: after a third of the codes.
    #[must_use]
    pub const fn of_a_source(self) -> Self {
        Self {
            asked: self.asked.div_ceil(FEWEST_SOURCES),
            ..self
        }
    }

    /// Whether fewer than so many of a hundred codes were right.
    fn is_below(asked: u32, verified: u32, percent: u8) -> bool {
        u64::from(verified) * 100 < u64::from(asked) * u64::from(percent)
    }

    /// Whether too few of so many codes were right.
    fn is_met(&self, asked: u32, verified: u32) -> bool {
        asked >= self.asked && Self::is_below(asked, verified, self.verified_percent)
    }

    /// Whether one more code of a source counts for the prefix, of whose so many do and so many of those were right: up to a third
    /// of what pauses it, and then as long as twice as many are used as have to be. With what is above a third so good, a third
    /// of which nothing is used does not make it bad.
    fn lets_count(&self, asked: u32, verified: u32) -> bool {
        let percent = self.verified_percent.saturating_mul(2);
        asked < self.of_a_source().asked || !Self::is_below(asked.saturating_add(1), verified, percent)
    }

    /// Looks whether a source may ask for one more code, and counts it if so. The codes of the last `lifetime` may still be used,
    /// and pause nothing.
    #[must_use]
    pub fn ask(&self, from: Source, seen: Seen, lifetime: Duration, now: Timestamp) -> Asked {
        let of_source = seen.source.look(&from.tripwire(*self), lifetime, now);
        let of_prefix = seen.prefix.look(self, lifetime, now);
        let (Looked::Good(source), Looked::Good(prefix)) = (of_source, of_prefix) else {
            return Asked::Paused {
                rest: of_source.rest().max(of_prefix.rest()),
                by_this: match (of_source.paused(), of_prefix.paused()) {
                    (None, None) => None,
                    (source, prefix) => Some(Seen {
                        source: source.unwrap_or(seen.source),
                        prefix: prefix.unwrap_or(seen.prefix),
                    }),
                },
            };
        };
        let mut seen = Seen { source, prefix };
        let is_shared = self.lets_count(source.shared_asked, source.shared_verified);
        if is_shared {
            seen.source.share(self.of_a_source().asked);
            seen.prefix.asked_lately = prefix.asked_lately.saturating_add(1);
        } else if source.is_below(self.verified_percent) {
            seen.take_back(self.of_a_source().asked);
        }
        seen.source.asked_lately = source.asked_lately.saturating_add(1);
        Asked::Counted { seen, is_shared }
    }

    /// A code was right that a source had asked for. `is_shared`: its asking counted for the prefix. So does its use, unless too few
    /// of all that the source has asked for are used.
    #[must_use]
    pub fn used(&self, mut seen: Seen, is_shared: bool) -> Seen {
        let (source, prefix) = (&mut seen.source, &mut seen.prefix);
        source.verified = source.verified.saturating_add(1);
        if is_shared && !source.is_below(self.verified_percent) {
            source.shared_verified = source.shared_verified.saturating_add(1);
            prefix.verified = prefix.verified.saturating_add(1);
        }
        seen
    }
}

/// How the codes of a prefix are used, by all or by those of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// How many were asked for whose time is over.
    pub asked: u32,
    /// How many were asked for since [`Self::lately_since`].
    pub asked_lately: u32,
    /// Since when.
    pub lately_since: Timestamp,
    /// How many were right.
    pub verified: u32,
    /// Of a source: how many count for the prefix, too. They outlive a pause of the source.
    pub shared_asked: u32,
    /// Of a source: how many of those were right, so that that counts for the prefix, too.
    pub shared_verified: u32,
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
}

/// How the codes of a prefix are used by a source, and by all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// By the source.
    pub source: Usage,
    /// By all.
    pub prefix: Usage,
}

/// What the tripwire says to one more code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Nothing.
    Counted {
        /// What is seen now.
        seen: Seen,
        /// Whether it counts for the prefix, too.
        is_shared: bool,
    },
    /// The prefix is paused, for this source or for all.
    Paused {
        /// For how long.
        rest: Duration,
        /// What is seen now, if this one has paused it.
        by_this: Option<Seen>,
    },
}

#[derive(Clone, Copy)]
enum Looked {
    Good(Usage),
    PausedNow(Usage, Duration),
    PausedBefore(Duration),
}

impl Looked {
    const fn rest(&self) -> Duration {
        match self {
            Self::Good(_) => Duration::ZERO,
            Self::PausedNow(_, rest) | Self::PausedBefore(rest) => *rest,
        }
    }

    const fn paused(&self) -> Option<Usage> {
        match self {
            Self::PausedNow(usage, _) => Some(*usage),
            Self::Good(_) | Self::PausedBefore(_) => None,
        }
    }
}

impl Usage {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            asked: 0,
            asked_lately: 0,
            lately_since: now,
            verified: 0,
            shared_asked: 0,
            shared_verified: 0,
            paused_until: None,
        }
    }

    fn look(self, tripwire: &Tripwire, lifetime: Duration, now: Timestamp) -> Looked {
        let rest = self.paused_until.and_then(|until| (until - now).to_std().ok());
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Looked::PausedBefore(rest.min(tripwire.pause));
        }
        let mut usage = self;
        if now - usage.lately_since >= FORGOTTEN_AFTER {
            usage = Self::new(now);
        } else if now >= usage.lately_since + lifetime {
            usage.asked = usage.asked.saturating_add(usage.asked_lately);
            (usage.asked_lately, usage.lately_since) = (0, now);
        }
        while usage.asked >= tripwire.asked.saturating_mul(LOOKED_BACK) {
            // Not rounded down, which alone could pause it.
            (usage.asked, usage.verified) = (usage.asked / 2, usage.verified.div_ceil(2));
        }
        if tripwire.is_met(usage.asked, usage.verified) {
            let paused = Self {
                shared_asked: usage.shared_asked,
                shared_verified: usage.shared_verified,
                paused_until: Some(now + tripwire.pause),
                ..Self::new(now)
            };
            return Looked::PausedNow(paused, tripwire.pause);
        }
        Looked::Good(usage)
    }

    /// Whether with one more code fewer than so many of a hundred are right, of all: those, too, whose time is not over.
    fn is_below(&self, percent: u8) -> bool {
        let all = self.asked.saturating_add(self.asked_lately);
        Tripwire::is_below(all.saturating_add(1), self.verified, percent)
    }

    /// One more counts for the prefix. `part`: how many are enough to say something of the source.
    fn share(&mut self, part: u32) {
        self.shared_asked = self.shared_asked.saturating_add(1);
        if self.shared_asked >= part.saturating_mul(LOOKED_BACK) {
            // What of the past stays with the prefix is not worse for it than what may be taken back.
            (self.shared_asked, self.shared_verified) = (self.shared_asked / 2, self.shared_verified / 2);
        }
    }
}

impl Seen {
    /// Takes back what the source has shown of the prefix, but for as much as any source may hold against it: who had used some
    /// codes at first could otherwise leave as many as it likes unused.
    fn take_back(&mut self, part: u32) {
        let (source, prefix) = (&mut self.source, &mut self.prefix);
        let taken = source.shared_asked.saturating_sub(part);
        let of_lately = taken.saturating_sub(prefix.asked);
        prefix.asked = prefix.asked.saturating_sub(taken);
        prefix.asked_lately = prefix.asked_lately.saturating_sub(of_lately);
        prefix.verified = prefix.verified.saturating_sub(source.shared_verified);
        source.shared_asked -= taken;
        source.shared_verified = 0;
    }
}

#[cfg(test)]
mod tests;
