//! Pumping guard: pauses a prefix whose codes are requested but not used (a low conversion rate, as in SMS pumping).
//!
//! The statistics of a prefix are the sum over its sources. No single source may be able to have the prefix paused for
//! the others. So the guard tracks each source separately, and pauses the prefix for that source alone. A code is
//! *shared* if it counts for the prefix as well. A source shares fewer codes than half of the number that pauses the
//! prefix, and more only while it uses enough of them. So two sources that use none do not pause the prefix, and three
//! do. The limit applies to the current statistics of the prefix: when the prefix forgets half or all of them, it also
//! forgets that part of the shared codes of each source.
//!
//! Unused codes must not make the prefix forget. Otherwise two sources could make it forget their unused codes, and new
//! sources could take their place. So the prefix forgets at midnight, and by the number of shared codes.

use std::time::Duration;

use chrono::TimeDelta;

use super::{CodeSource, network_share};
use crate::clock::{MAX_SKEW, Timestamp};

/// Time after the last code when all statistics are forgotten: a week. The shared codes of a source are close to zero
/// by then, because each midnight halves them. So a source cannot share them again with a prefix that is still in use.
pub const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(7);

/// Maximum number of codes in the statistics, as a multiple of [`PumpingGuard::asked`]. Older codes count half, a
/// quarter and so on, so that a prefix with years of used codes is paused as soon as another one.
const MAX_MULTIPLE: u32 = 4;

/// Number of halvings after which every count is zero.
const ALL_HALVINGS: u32 = u32::BITS;

/// The settings of the pumping guard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PumpingGuard {
    /// Minimum number of requested and expired codes for a pause, at least 10: halves of fewer are rounded too
    /// coarsely.
    pub asked: u32,
    /// Minimum conversion rate in percent, at most 50, because a source needs twice this rate to share more codes.
    pub verified_percent: u8,
    /// Duration of a pause, at most [`FORGOTTEN_AFTER`].
    pub pause: Duration,
}

impl PumpingGuard {
    /// The guard of one client network: it pauses after a third of the codes.
    #[must_use]
    pub fn of_a_source(self) -> Self {
        Self {
            asked: u32::try_from(network_share(self.asked.into())).unwrap_or(self.asked),
            ..self
        }
    }

    /// Maximum number of unused codes that a source shares.
    ///
    /// It is one less than half of the number that pauses the prefix. So two sources do not pause it, and neither does
    /// one beside another source that has not used its last code yet. It is at least the third that pauses the prefix
    /// for the source alone. So three sources that continue exceed the number that pauses the prefix; with exactly that
    /// number, a source that was absent when the prefix was halved would keep them below it.
    const fn max_shared_unused(&self) -> u32 {
        (self.asked / 2).saturating_sub(1)
    }

    /// Whether the conversion rate is below `percent`.
    fn is_below(asked: u32, verified: u32, percent: u8) -> bool {
        u64::from(verified) * 100 < u64::from(asked) * u64::from(percent)
    }

    /// Whether these counts cause a pause.
    fn is_triggered(&self, asked: u32, verified: u32) -> bool {
        asked >= self.asked && Self::is_below(asked, verified, self.verified_percent)
    }

    /// Whether a source with these shared counts shares one more code: up to [`Self::max_shared_unused`], and above it
    /// while the conversion rate is at least twice the minimum. That rate above the threshold compensates for the
    /// unused codes below it.
    fn can_share(&self, asked: u32, verified: u32) -> bool {
        let percent = self.verified_percent.saturating_mul(2);
        asked < self.max_shared_unused() || !Self::is_below(asked, verified, percent)
    }

    /// Checks whether a source can request one more code, and counts it. Codes of the last `lifetime` can still be
    /// used, so they cause no pause.
    #[must_use]
    pub fn ask(&self, from: CodeSource, seen: PrefixStats, lifetime: Duration, now: Timestamp) -> Asked {
        let of_source = seen.source.check(&from.pumping_guard(*self), lifetime, now);
        let of_prefix = seen.prefix.check(self, lifetime, now);
        let (Checked::Open(source, _), Checked::Open(prefix, halvings)) = (of_source, of_prefix) else {
            let (rest, whose) = match (of_source.remaining(), of_prefix.remaining()) {
                (Some(remaining), None) => (remaining, Paused::ForSource),
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
        let mut stats = PrefixStats { source, prefix };
        stats.halve_shared();
        if self.can_share(stats.source.shared_asked, stats.source.shared_verified) {
            stats.source.shared_asked = stats.source.shared_asked.saturating_add(1);
            stats.prefix.asked_lately = prefix.asked_lately.saturating_add(1);
        } else if source.is_below(self.verified_percent) {
            stats.withdraw_shared(self.max_shared_unused());
        }
        stats.source.asked_lately = source.asked_lately.saturating_add(1);
        Asked::Counted(stats)
    }

    /// Counts a used code of a source.
    ///
    /// The use is shared even if the request was not, so that a source with a bad start can recover. It is not shared
    /// while the conversion rate of all requests of the source is below the minimum.
    #[must_use]
    pub fn used(&self, mut seen: PrefixStats) -> PrefixStats {
        seen.source.verified = seen.source.verified.saturating_add(1);
        if !seen.source.is_below(self.verified_percent) {
            seen.halve_shared();
            // At most the shared requests, some of which may be forgotten.
            let shared = seen.source.shared_verified.saturating_add(1);
            if shared <= seen.source.shared_asked {
                seen.source.shared_verified = shared;
                seen.prefix.verified = seen.prefix.verified.saturating_add(1);
            }
        }
        seen
    }
}

/// Statistics of the codes of a prefix, for all sources or for one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Number of requested codes that have expired.
    pub asked: u32,
    /// Number of codes requested since [`Self::lately_since`], which may not have expired.
    pub asked_lately: u32,
    /// Start of the recent requests.
    pub lately_since: Timestamp,
    /// Number of used codes.
    pub verified: u32,
    /// For a source: number of its requests in the current statistics of the prefix. A pause of the source keeps it.
    pub shared_asked: u32,
    /// For a source: number of used codes among them.
    pub shared_verified: u32,
    /// For a prefix: number of halvings of its statistics; forgetting everything counts as `ALL_HALVINGS`. For a
    /// source: the number of halvings of the prefix that its shared counts include.
    pub halvings: u32,
    /// End of the pause. `None`: not paused.
    pub paused_until: Option<Timestamp>,
}

/// Statistics of a prefix and of one of its sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrefixStats {
    /// The statistics of the source.
    pub source: Usage,
    /// The statistics of all sources.
    pub prefix: Usage,
}

/// The decision on the request of a code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The request is allowed. Contains the new statistics.
    Counted(PrefixStats),
    /// The prefix is paused.
    Paused {
        /// Remaining time of the pause.
        rest: Duration,
        /// Scope of the pause.
        whose: Paused,
        /// The new statistics, if this request started or corrected the pause.
        by_this: Option<PrefixStats>,
    },
}

/// Scope of a pause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Paused {
    /// All sources.
    ForAll,
    /// The requesting source.
    ForSource,
}

/// The state of one part of the statistics at the time of a request.
#[derive(Clone, Copy)]
enum Checked {
    /// Not paused: the current statistics, and the number of halvings that this check applied.
    Open(Usage, u32),
    /// This check started or corrected the pause: the new statistics, and the remaining time.
    PausedNow(Usage, Duration),
    /// Paused before: the remaining time.
    PausedBefore(Duration),
}

impl Checked {
    const fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Open(..) => None,
            Self::PausedNow(_, remaining) | Self::PausedBefore(remaining) => Some(*remaining),
        }
    }

    const fn paused(&self) -> Option<Usage> {
        match self {
            Self::PausedNow(usage, _) => Some(*usage),
            Self::Open(..) | Self::PausedBefore(_) => None,
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

    /// Checks for a pause at the time of a request, and forgets old statistics.
    fn check(self, pumping_guard: &PumpingGuard, lifetime: Duration, now: Timestamp) -> Checked {
        let remaining = self.paused_until.and_then(|until| (until - now).to_std().ok());
        // A pause that ends further ahead comes from a clock that was wrong, and is ignored.
        let max = pumping_guard.pause.saturating_add(MAX_SKEW);
        if let Some(remaining) = remaining.filter(|remaining| !remaining.is_zero() && *remaining <= max) {
            if remaining <= pumping_guard.pause {
                return Checked::PausedBefore(remaining);
            }
            // A replica whose clock is ahead started the pause. The stored end is corrected: otherwise the pause would
            // last longer than the returned wait.
            let paused = Self {
                paused_until: Some(now + pumping_guard.pause),
                ..self
            };
            return Checked::PausedNow(paused, pumping_guard.pause);
        }
        let mut usage = Self {
            lately_since: self.lately_since.min(now),
            // An ignored pause must not begin later, when the wall clock reaches it.
            paused_until: None,
            ..self
        };
        let days = day(now) - day(usage.lately_since);
        if days >= FORGOTTEN_AFTER.num_days() {
            return Checked::Open(usage.reset(now), ALL_HALVINGS);
        }
        let since = (now - usage.lately_since).to_std().unwrap_or_default();
        if since < lifetime {
            return Checked::Open(usage, 0);
        }
        // All recent codes were requested in the first `lifetime` of the period: a later request would have ended the
        // period here. So after twice the lifetime all of them have expired.
        let are_expired = since >= lifetime.saturating_mul(2);
        if are_expired {
            usage.roll(now);
        }
        if pumping_guard.is_triggered(usage.asked, usage.verified) {
            let paused = Self {
                paused_until: Some(now + pumping_guard.pause),
                ..usage.reset(now)
            };
            return Checked::PausedNow(paused, pumping_guard.pause);
        }
        // Before the halving, because their uses are halved, too.
        if !are_expired {
            usage.roll(now);
        }
        let mut halvings = 0;
        let max_asked = pumping_guard.asked.saturating_mul(MAX_MULTIPLE);
        // Counts that would cause a pause are not halved: the next check must see them.
        while !pumping_guard.is_triggered(usage.asked, usage.verified)
            && (i64::from(halvings) < days || usage.asked >= max_asked)
        {
            // Uses are rounded up: rounding down could cause a pause.
            (usage.asked, usage.verified) = (usage.asked / 2, usage.verified.div_ceil(2));
            halvings += 1;
        }
        Checked::Open(usage, halvings)
    }

    /// Resets the statistics, except the shared counts of a source: these are forgotten with those of the prefix.
    const fn reset(self, now: Timestamp) -> Self {
        Self {
            shared_asked: self.shared_asked,
            shared_verified: self.shared_verified,
            halvings: self.halvings,
            ..Self::new(now)
        }
    }

    /// Adds halvings to those of a prefix.
    const fn halved(self, halvings: u32) -> Self {
        Self {
            halvings: self.halvings.saturating_add(halvings),
            ..self
        }
    }

    /// Moves the recent requests to the expired ones, and starts a new period.
    const fn roll(&mut self, now: Timestamp) {
        self.asked = self.asked.saturating_add(self.asked_lately);
        (self.asked_lately, self.lately_since) = (0, now);
    }

    /// Whether the conversion rate with one more request is below `percent`. Includes codes that have not expired.
    fn is_below(&self, percent: u8) -> bool {
        let all = self.asked.saturating_add(self.asked_lately);
        PumpingGuard::is_below(all.saturating_add(1), self.verified, percent)
    }
}

impl PrefixStats {
    /// Applies the halvings of the prefix to the shared counts of the source. Rounding may leave one more request and
    /// one use fewer than the prefix has, but never the reverse.
    fn halve_shared(&mut self) {
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

    /// Withdraws the shared counts of the source from the prefix, except `max_unused` requests. Otherwise a source that
    /// used some codes at first could leave any number of later codes unused.
    fn withdraw_shared(&mut self, max_unused: u32) {
        let (source, prefix) = (&mut self.source, &mut self.prefix);
        let withdrawn = source.shared_asked.saturating_sub(max_unused);
        let recent = withdrawn.saturating_sub(prefix.asked);
        prefix.asked = prefix.asked.saturating_sub(withdrawn);
        prefix.asked_lately = prefix.asked_lately.saturating_sub(recent);
        prefix.verified = prefix.verified.saturating_sub(source.shared_verified);
        source.shared_asked -= withdrawn;
        source.shared_verified = 0;
    }
}

/// The number of the day in UTC, as in the windows of limits. It is the same on all replicas.
fn day(time: Timestamp) -> i64 {
    time.timestamp().div_euclid(TimeDelta::days(1).num_seconds())
}

#[cfg(test)]
mod tests;
