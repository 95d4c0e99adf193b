//! The pumping guard: how the codes of a prefix are used, and when it is paused for that.
//!
//! What is seen of a prefix is the sum of what is seen of the sources that ask for its codes, of which none may be
//! enough to have it paused for all the others. So a source is watched for itself, too, and pauses the prefix for
//! itself alone; and of its codes only so many are *shared*, which is to count for the prefix, as are less than half of
//! what pauses it, or used well: two that use none do not have it paused, and a third that does so, too, has. That
//! holds for what is seen of the prefix now: when it forgets half of that, or all, so does what the source has shared
//! of it.
//!
//! What makes a prefix forget must not be what is left unused, or two at a time could have it forgotten what they hold
//! against it, and ever new ones take their place. So it is midnight, and codes that are shared.

use std::time::Duration;

use chrono::TimeDelta;

use super::{CodeSource, part};
use crate::clock::{MAX_SKEW, Timestamp};

/// A week. So long after the last code all is forgotten. What a source has shared is as good as nothing by then, since
/// it is halved at each midnight: it cannot hold the same against a prefix that is still seen.
pub const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(7);

/// How many times as many codes as the pumping guard wants to see are looked back on. What is older counts half, a
/// quarter and so on: a prefix that was good for years is paused as soon as another one.
const LOOKED_BACK: u32 = 4;

/// So many halvings leave nothing of any count.
const ALL_HALVINGS: u32 = u32::BITS;

/// When a prefix is paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PumpingGuard {
    /// How many codes have to have been asked for, whose time is over. At least ten: of fewer a half is rounded to too
    /// much.
    pub asked: u32,
    /// Of so many of a hundred at least the code has to have been right. At most 50: above that, it could not be said
    /// of a source that twice as many are used as have to be.
    pub verified_percent: u8,
    /// For how long. At most [`FORGOTTEN_AFTER`].
    pub pause: Duration,
}

impl PumpingGuard {
    /// When a prefix is paused for one source that is told apart from the others: after a third of the codes.
    #[must_use]
    pub fn of_a_source(self) -> Self {
        Self {
            asked: u32::try_from(part(self.asked.into())).unwrap_or(self.asked),
            ..self
        }
    }

    /// How many codes of which none is right a source may hold against the prefix: one less than half, so that neither
    /// two do so, nor one beside another whose next code is not used yet. Above the third after which the source is
    /// paused for itself, so that three that go on come to more than pauses it, and not to just as much, which one that
    /// was missing when the prefix was halved would have kept them below.
    const fn held_against(&self) -> u32 {
        (self.asked / 2).saturating_sub(1)
    }

    /// Whether fewer than so many of a hundred codes were right.
    fn is_below(asked: u32, verified: u32, percent: u8) -> bool {
        u64::from(verified) * 100 < u64::from(asked) * u64::from(percent)
    }

    /// Whether too few of so many codes were right.
    fn is_met(&self, asked: u32, verified: u32) -> bool {
        asked >= self.asked && Self::is_below(asked, verified, self.verified_percent)
    }

    /// Whether one more code of a source is shared, of which so many are and so many of those were right: as many as it
    /// may hold against the prefix, and then as long as twice as many are used as have to be. With what is above that
    /// so good, what is below it does not make it bad.
    fn lets_share(&self, asked: u32, verified: u32) -> bool {
        let percent = self.verified_percent.saturating_mul(2);
        asked < self.held_against() || !Self::is_below(asked, verified, percent)
    }

    /// Looks whether a source may ask for one more code, and counts it if so. The codes of the last `lifetime` may
    /// still be used, and pause nothing.
    #[must_use]
    pub fn ask(&self, from: CodeSource, seen: PrefixStats, lifetime: Duration, now: Timestamp) -> Asked {
        let of_source = seen.source.look(&from.pumping_guard(*self), lifetime, now);
        let of_prefix = seen.prefix.look(self, lifetime, now);
        let (Looked::Good(source, _), Looked::Good(prefix, halvings)) = (of_source, of_prefix) else {
            let (rest, whose) = match (of_source.rest(), of_prefix.rest()) {
                (Some(rest), None) => (rest, Paused::ForSource),
                (source, prefix) => (source.max(prefix).unwrap_or_default(), Paused::ForAll),
            };
            let by_this = match (of_source.paused(), of_prefix.paused()) {
                (None, None) => None,
                (source, prefix) => Some(PrefixStats {
                    source: source.unwrap_or(seen.source),
                    prefix: prefix.map_or(seen.prefix, |prefix| prefix.halved(ALL_HALVINGS)),
                }),
            };
            return Asked::Paused { rest, whose, by_this };
        };
        let prefix = prefix.halved(halvings);
        let mut seen = PrefixStats { source, prefix };
        seen.forget_together();
        if self.lets_share(seen.source.shared_asked, seen.source.shared_verified) {
            seen.source.shared_asked = seen.source.shared_asked.saturating_add(1);
            seen.prefix.asked_lately = prefix.asked_lately.saturating_add(1);
        } else if source.is_below(self.verified_percent) {
            seen.take_back(self.held_against());
        }
        seen.source.asked_lately = source.asked_lately.saturating_add(1);
        Asked::Counted(seen)
    }

    /// A code was right that a source had asked for. Its use is shared, whether or not its asking was, unless too few
    /// of all that the source has asked for are used: who begins badly would else never be seen to go on well.
    #[must_use]
    pub fn used(&self, mut seen: PrefixStats) -> PrefixStats {
        seen.source.verified = seen.source.verified.saturating_add(1);
        if !seen.source.is_below(self.verified_percent) {
            seen.forget_together();
            // No more than are shared, some of which may be forgotten.
            let shared = seen.source.shared_verified.saturating_add(1);
            if shared <= seen.source.shared_asked {
                seen.source.shared_verified = shared;
                seen.prefix.verified = seen.prefix.verified.saturating_add(1);
            }
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
    /// Of a source: how many of what is seen of the prefix now it has asked for. They outlive a pause of the source.
    pub shared_asked: u32,
    /// Of a source: how many of those were right.
    pub shared_verified: u32,
    /// Of a prefix: how often what was seen of it was halved; all of it is as many halvings as there can be. Of a
    /// source: which of these its share is of.
    pub halvings: u32,
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
}

/// How the codes of a prefix are used by a source, and by all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrefixStats {
    /// By the source.
    pub source: Usage,
    /// By all.
    pub prefix: Usage,
}

/// What the pumping guard says to one more code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Nothing. This is seen now.
    Counted(PrefixStats),
    /// The prefix is paused.
    Paused {
        /// For how long.
        rest: Duration,
        /// For whom.
        whose: Paused,
        /// What is seen now, if this one has paused it.
        by_this: Option<PrefixStats>,
    },
}

/// For whom a prefix is paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Paused {
    /// For all.
    ForAll,
    /// For the source that asks.
    ForSource,
}

#[derive(Clone, Copy)]
enum Looked {
    /// With how often it was halved.
    Good(Usage, u32),
    PausedNow(Usage, Duration),
    PausedBefore(Duration),
}

impl Looked {
    const fn rest(&self) -> Option<Duration> {
        match self {
            Self::Good(..) => None,
            Self::PausedNow(_, rest) | Self::PausedBefore(rest) => Some(*rest),
        }
    }

    const fn paused(&self) -> Option<Usage> {
        match self {
            Self::PausedNow(usage, _) => Some(*usage),
            Self::Good(..) | Self::PausedBefore(_) => None,
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
            halvings: 0,
            paused_until: None,
        }
    }

    fn look(self, pumping_guard: &PumpingGuard, lifetime: Duration, now: Timestamp) -> Looked {
        let rest = self.paused_until.and_then(|until| (until - now).to_std().ok());
        // A pause further ahead comes from a clock that was wrong, and counts as none.
        let longest = pumping_guard.pause.saturating_add(MAX_SKEW);
        if let Some(rest) = rest.filter(|rest| !rest.is_zero() && *rest <= longest) {
            if rest <= pumping_guard.pause {
                return Looked::PausedBefore(rest);
            }
            // A replica that is ahead has paused it. The stored end is moved, too: otherwise the pause would last
            // longer than the returned wait.
            let paused = Self {
                paused_until: Some(now + pumping_guard.pause),
                ..self
            };
            return Looked::PausedNow(paused, pumping_guard.pause);
        }
        let mut usage = Self {
            lately_since: self.lately_since.min(now),
            // Nor pause it later, when that time comes.
            paused_until: None,
            ..self
        };
        let days = day(now) - day(usage.lately_since);
        if days >= FORGOTTEN_AFTER.num_days() {
            return Looked::Good(usage.anew(now), ALL_HALVINGS);
        }
        let since = (now - usage.lately_since).to_std().unwrap_or_default();
        if since < lifetime {
            return Looked::Good(usage, 0);
        }
        // Those that were counted since then are all of the first `lifetime`: a later one would have come here.
        let are_over = since >= lifetime.saturating_mul(2);
        if are_over {
            usage.roll(now);
        }
        if pumping_guard.is_met(usage.asked, usage.verified) {
            let paused = Self {
                paused_until: Some(now + pumping_guard.pause),
                ..usage.anew(now)
            };
            return Looked::PausedNow(paused, pumping_guard.pause);
        }
        // Before it is halved, since what is used of these is halved, too.
        if !are_over {
            usage.roll(now);
        }
        let mut halvings = 0;
        let looked_back = pumping_guard.asked.saturating_mul(LOOKED_BACK);
        // Nor what pauses it, if it stays as it is, before it could be looked at.
        while !pumping_guard.is_met(usage.asked, usage.verified)
            && (i64::from(halvings) < days || usage.asked >= looked_back)
        {
            // Not rounded down, which alone could pause it.
            (usage.asked, usage.verified) = (usage.asked / 2, usage.verified.div_ceil(2));
            halvings += 1;
        }
        Looked::Good(usage, halvings)
    }

    /// Nothing is seen any more. What a source has shared is forgotten with what is seen of the prefix.
    const fn anew(self, now: Timestamp) -> Self {
        Self {
            shared_asked: self.shared_asked,
            shared_verified: self.shared_verified,
            halvings: self.halvings,
            ..Self::new(now)
        }
    }

    /// So many more halvings of a prefix.
    const fn halved(self, halvings: u32) -> Self {
        Self {
            halvings: self.halvings.saturating_add(halvings),
            ..self
        }
    }

    /// What was asked for lately is not lately any more.
    const fn roll(&mut self, now: Timestamp) {
        self.asked = self.asked.saturating_add(self.asked_lately);
        (self.asked_lately, self.lately_since) = (0, now);
    }

    /// Whether with one more code fewer than so many of a hundred are right, of all: those, too, whose time is not
    /// over.
    fn is_below(&self, percent: u8) -> bool {
        let all = self.asked.saturating_add(self.asked_lately);
        PumpingGuard::is_below(all.saturating_add(1), self.verified, percent)
    }
}

impl PrefixStats {
    /// Of what the source has shared of the prefix, forgets what is not seen of the prefix any more. What is left of it
    /// may be one more, and one less that was right, but never the other way round.
    fn forget_together(&mut self) {
        let (source, prefix) = (&mut self.source, &self.prefix);
        let halvings = prefix.halvings.checked_sub(source.halvings);
        match halvings.filter(|halvings| *halvings < ALL_HALVINGS) {
            Some(halvings) => {
                source.shared_asked = source.shared_asked.div_ceil(1 << halvings);
                source.shared_verified >>= halvings;
            }
            None => (source.shared_asked, source.shared_verified) = (0, 0),
        }
        source.halvings = prefix.halvings;
    }

    /// Takes back what the source has shared of the prefix, but for as much as any source may hold against it: who had
    /// used some codes at first could otherwise leave as many as it likes unused.
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

/// Which day it is, of UTC: all replicas have the same, and bounds do.
fn day(time: Timestamp) -> i64 {
    time.timestamp().div_euclid(TimeDelta::days(1).num_seconds())
}

#[cfg(test)]
mod tests;
