//! The tripwire: how the codes of a prefix are used, and when it is paused for that.

use std::time::Duration;

use chrono::TimeDelta;

use super::FEWEST_ADDRESSES;
use crate::clock::Timestamp;

/// When a prefix was not asked about for so long, what was seen of it counts no more.
pub const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(7);

/// How many times as many codes as the tripwire wants to see are looked back on. What is older counts half, a quarter and so on:
/// a prefix that was good for years is paused as soon as another one.
const LOOKED_BACK: u32 = 4;

/// When a prefix is paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tripwire {
    /// How many codes have to have been asked for, whose time is over. At least one.
    pub asked: u32,
    /// Of so many of a hundred at least the code has to have been right.
    pub verified_percent: u8,
    /// For how long.
    pub pause: Duration,
}

impl Tripwire {
    /// When a prefix is paused for one client address: after a third of the codes.
    #[must_use]
    pub fn of_an_address(self) -> Self {
        let fewest = u32::try_from(FEWEST_ADDRESSES).unwrap_or(1);
        Self {
            asked: self.asked.div_ceil(fewest),
            ..self
        }
    }

    /// Whether too few of so many codes were right.
    fn is_met(&self, asked: u32, verified: u32) -> bool {
        let wanted = u64::from(asked) * u64::from(self.verified_percent);
        asked >= self.asked && u64::from(verified) * 100 < wanted
    }
}

/// How the codes of a prefix are used.
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
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
}

/// What the tripwire says to one more code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tripped {
    /// Nothing. It is not counted yet.
    No(Usage),
    /// The prefix is paused by this one, for so long.
    Now(Usage, Duration),
    /// It was paused before, and is for so long.
    Before(Duration),
}

impl Usage {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            asked: 0,
            asked_lately: 0,
            lately_since: now,
            verified: 0,
            paused_until: None,
        }
    }

    /// Looks whether one more code may be asked for. Those of the last `lifetime` may still be used, and are not held against the
    /// prefix.
    #[must_use]
    pub fn look(self, tripwire: &Tripwire, lifetime: Duration, now: Timestamp) -> Tripped {
        let rest = self.paused_until.and_then(|until| (until - now).to_std().ok());
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Tripped::Before(rest.min(tripwire.pause));
        }
        let mut usage = self;
        if now - usage.lately_since >= FORGOTTEN_AFTER {
            usage = Self::new(now);
        } else if now >= usage.lately_since + lifetime {
            usage.asked = usage.asked.saturating_add(usage.asked_lately);
            (usage.asked_lately, usage.lately_since) = (0, now);
        }
        while usage.asked >= tripwire.asked.saturating_mul(LOOKED_BACK) {
            (usage.asked, usage.verified) = (usage.asked / 2, usage.verified / 2);
        }
        if tripwire.is_met(usage.asked, usage.verified) {
            let paused = Self {
                paused_until: Some(now + tripwire.pause),
                ..Self::new(now)
            };
            return Tripped::Now(paused, tripwire.pause);
        }
        Tripped::No(usage)
    }

    /// Whether it would be paused if no more codes are used of those whose time is not over. If so, one address asks for codes that
    /// say nothing of all the others.
    #[must_use]
    pub fn is_in_doubt(&self, tripwire: &Tripwire) -> bool {
        tripwire.is_met(self.asked.saturating_add(self.asked_lately), self.verified)
    }

    /// One more code is asked for.
    #[must_use]
    pub fn counted(self) -> Self {
        Self {
            asked_lately: self.asked_lately.saturating_add(1),
            ..self
        }
    }
}
