//! The validity period and the resend interval of codes, on wall clocks that can be wrong.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Challenge;
use crate::clock::{MAX_SKEW, Timestamp};

/// The expiry times of codes that are valid now.
///
/// An expiry that is further ahead than the lifetime and [`MAX_SKEW`] comes from a clock that was wrong. That code
/// counts as expired: otherwise it would stay valid until the wall clock reaches its expiry. A new code can be sent
/// immediately.
#[must_use]
pub fn plausible_expiries(lifetime: Duration, now: Timestamp) -> RangeInclusive<Timestamp> {
    // A code is invalid from the instant of its expiry on. Stored times have whole microseconds.
    now + Duration::from_micros(1)..=now + lifetime + MAX_SKEW
}

impl Challenge {
    /// Whether the user's credentials have not changed since the request. Returns false for an unknown version: its
    /// code may have been requested before any change.
    #[must_use]
    pub fn is_current(&self, credential_version: i64) -> bool {
        self.credential_version == Some(credential_version)
    }

    /// Time until the code may be sent again. `None`: it may be sent now.
    ///
    /// A wait that is longer than the interval comes from a clock that is or was ahead, and is ignored. The limits on
    /// codes and messages still apply.
    #[must_use]
    pub fn resend_wait(&self, interval: Duration, now: Timestamp) -> Option<Duration> {
        resend_wait(self.sent_at, interval, now)
    }
}

fn resend_wait(sent_at: Timestamp, interval: Duration, now: Timestamp) -> Option<Duration> {
    let wait = (sent_at + interval - now).to_std().ok()?;
    (!wait.is_zero() && wait <= interval).then_some(wait)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_code_can_be_sent_again_after_the_interval_whatever_the_clock_was() {
        let interval = Duration::from_secs(30);
        let sent_at = Timestamp::UNIX_EPOCH;
        let wait = |seconds| {
            let now = sent_at + TimeDelta::seconds(seconds);
            resend_wait(sent_at, interval, now).map(|wait| wait.as_secs())
        };
        assert_eq!(
            [0, 1, 29, 30, 172_800].map(wait),
            [Some(30), Some(29), Some(1), None, None]
        );
        // Sent by a clock that was ahead.
        assert_eq!([-1, -600, -172_800].map(wait), [None; 3]);
    }

    #[test]
    fn an_expiry_beyond_lifetime_and_clock_skew_is_not_plausible() {
        let lifetime = Duration::from_mins(5);
        let now = Timestamp::UNIX_EPOCH;
        for (minutes, is_plausible) in [
            (-1, false),
            (0, false),
            (5, true),
            (15, true),
            (20, true),
            (21, false),
        ] {
            let expiry = now + TimeDelta::minutes(minutes);
            let expiries = plausible_expiries(lifetime, now);
            assert_eq!(expiries.contains(&expiry), is_plausible, "{minutes}");
        }
    }
}
