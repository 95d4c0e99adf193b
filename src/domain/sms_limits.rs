//! SMS rate limits: fixed windows and a pumping guard against SMS pumping (toll fraud), in which premium-rate numbers
//! and networks share the price of a message with the attacker that causes it.
//!
//! Messages are counted in windows of an hour and of a day, in UTC. The *pumping guard* pauses a prefix, which is a
//! number without its last four digits, when its codes are requested and hardly ever used: an attacker with thousands
//! of numbers has neighbouring ones.
//!
//! Limits must not become a denial of service: a client that uses up a limit blocks other clients. So one *source*,
//! which is a client network, or all requests without a client address, gets a part of the limit of strangers only, and
//! strangers get a part of the limits of a service, a country and the budget only.

mod counted;
mod money;
mod usage;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DurationRound as _, TimeDelta};
use thiserror::Error;

pub use counted::{CodeSource, Counted, CounterId};
pub use money::{Amount, AmountError, PriceError, Prices};
pub use usage::{Asked, FORGOTTEN_AFTER, Paused, PrefixStats, PumpingGuard, Usage};

use super::phone::{LineTypes, NumberRegion, PhoneNumber, Region};
use crate::clock::{MAX_SKEW, Timestamp};

/// Minimum number of networks that can use up the limit of strangers together, or have a prefix paused for all.
const MIN_NETWORKS: u64 = 3;

/// The share of one network in a limit: a third, and less than half, so that two networks leave a remainder; at least
/// one.
fn network_share(all: u64) -> u64 {
    let third = all.div_ceil(MIN_NETWORKS);
    third.min(all.saturating_sub(1) / 2).max(1)
}

/// One in this many messages of a service, a country and the budget is reserved for known clients.
const ONE_RESERVED_OF: u64 = 5;

/// Why a message is refused, as labels of metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SmsRefusal {
    /// Messages to this country are not allowed.
    CountryNotAllowed,
    /// Too many messages to this number.
    Number,
    /// Too many messages to this prefix.
    Prefix,
    /// Too many messages from this client network.
    Address,
    /// Too many messages by this calling service.
    Service,
    /// Too many messages to this country.
    Country,
    /// Too many messages in total.
    Total,
    /// The budget of the day is spent.
    Budget,
    /// The prefix is paused for all sources, or for requests without a client address.
    Paused,
    /// The prefix is paused for the requesting network.
    PausedForSource,
}

impl SmsRefusal {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CountryNotAllowed => "country_not_allowed",
            Self::Number => "number",
            Self::Prefix => "prefix",
            Self::Address => "address",
            Self::Service => "service",
            Self::Country => "country",
            Self::Total => "total",
            Self::Budget => "budget",
            Self::Paused => "paused",
            Self::PausedForSource => "paused_for_source",
        }
    }
}

/// Limits of one hour and of one day.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// Maximum in an hour. `None`: no limit.
    pub hour: Option<u64>,
    /// Maximum in a day. `None`: no limit.
    pub day: Option<u64>,
}

impl Bounds {
    /// Whether neither window has a limit.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.hour.is_none() && self.day.is_none()
    }

    fn map(self, limit: impl Fn(u64) -> u64) -> Self {
        Self {
            hour: self.hour.map(&limit),
            day: self.day.map(&limit),
        }
    }

    /// The limits of a prefix that may use `factor` times as much as one address.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        self.map(|limit| limit.saturating_mul(factor.into()))
    }

    /// The share of one network: a third.
    #[must_use]
    pub fn of_a_network(self) -> Self {
        self.map(network_share)
    }

    /// Raises these limits to at least `amount`, but not above the limits `all`.
    #[must_use]
    pub fn at_least(self, amount: u64, all: &Self) -> Self {
        let raised = |limit: Option<u64>, all: Option<u64>| {
            limit.map(|limit| limit.max(amount.min(all.unwrap_or(amount))))
        };
        Self {
            hour: raised(self.hour, all.hour),
            day: raised(self.day, all.day),
        }
    }

    /// The share of strangers, which are clients that are not known for the number: all but a fifth.
    #[must_use]
    pub fn of_strangers(self) -> Self {
        self.map(|limit| limit - limit / ONE_RESERVED_OF)
    }
}

/// The text is not a list of limits.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not limits such as 5/h,20/d, 20/d or none, of at least 1")]
pub struct BoundsError;

impl FromStr for Bounds {
    type Err = BoundsError;

    fn from_str(text: &str) -> Result<Self, BoundsError> {
        let mut bounds = Self::default();
        if text == "none" {
            return Ok(bounds);
        }
        for part in text.split(',') {
            let (count, unit) = part.trim().split_once('/').ok_or(BoundsError)?;
            let limit = match unit {
                "h" => &mut bounds.hour,
                "d" => &mut bounds.day,
                _ => return Err(BoundsError),
            };
            let count: u32 = count.parse().map_err(|_| BoundsError)?;
            if count == 0 || limit.replace(count.into()).is_some() {
                return Err(BoundsError);
            }
        }
        Ok(bounds)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hour, self.day) {
            (None, None) => f.write_str("none"),
            (Some(hour), None) => write!(f, "{hour}/h"),
            (None, Some(day)) => write!(f, "{day}/d"),
            (Some(hour), Some(day)) => write!(f, "{hour}/h,{day}/d"),
        }
    }
}

/// The stored counts of one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counter {
    /// The count of the current hour.
    pub hour: Window,
    /// The count of the current day.
    pub day: Window,
    /// The statistics of the pumping guard, for prefixes only.
    pub usage: Usage,
}

/// A fixed window and its count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// Start of the window.
    pub since: Timestamp,
    /// Count since the start.
    pub count: u64,
}

impl Window {
    /// Adds `amount` to the window of this length that contains `now`. Fails with the time until the next window.
    fn add(
        self,
        length: TimeDelta,
        limit: Option<u64>,
        amount: u64,
        now: Timestamp,
    ) -> Result<Self, Duration> {
        let since = now.duration_trunc(length).unwrap_or(now);
        let next = since + length;
        let window = match self.since {
            of_this if (since..next).contains(&of_this) => Self { since, ..self },
            // A replica whose clock is slightly ahead has begun the next window. The window of a clock that was wrong
            // is discarded: otherwise it would be full for up to two windows.
            of_next if of_next == next && next <= now + MAX_SKEW => self,
            _ => Self { since, count: 0 },
        };
        let count = window.count.saturating_add(amount);
        if limit.is_some_and(|limit| count > limit) {
            // A window that another replica has begun early ends later than one that begins now.
            let wait = (window.since + length - now).min(length);
            return Err(wait.to_std().unwrap_or_default());
        }
        Ok(Self { count, ..window })
    }
}

impl Counter {
    /// Creates a counter with a count of zero.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        let window = Window { since: now, count: 0 };
        Self {
            hour: window,
            day: window,
            usage: Usage::new(now),
        }
    }

    /// Adds `amount` to both windows, if their limits allow it.
    ///
    /// # Errors
    /// The time until a window with enough room begins.
    pub fn add(self, bounds: &Bounds, amount: u64, now: Timestamp) -> Result<Self, Duration> {
        let hour = self.hour.add(TimeDelta::hours(1), bounds.hour, amount, now);
        let day = self.day.add(TimeDelta::days(1), bounds.day, amount, now);
        match (hour, day) {
            (Ok(hour), Ok(day)) => Ok(Self { hour, day, ..self }),
            (hour, day) => Err(hour.err().max(day.err()).unwrap_or_default()),
        }
    }
}

/// The numbers that can receive messages.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Allowed countries. Empty: all countries.
    pub countries: Vec<Region>,
    /// Allowed line types.
    pub line_types: LineTypes,
}

impl Reach {
    /// Whether messages to the country of a number are allowed. A number without a country is allowed only if all
    /// countries are.
    #[must_use]
    pub fn has_country_of(&self, number: &PhoneNumber) -> bool {
        if self.countries.is_empty() {
            return true;
        }
        match number.region() {
            Some(NumberRegion::Region(region)) => self.countries.contains(&region),
            Some(NumberRegion::NonGeographic) | None => false,
        }
    }

    /// Whether a number can receive messages.
    #[must_use]
    pub fn has(&self, number: &PhoneNumber) -> bool {
        self.line_types.contains(number.line_type()) && self.has_country_of(number)
    }
}

/// All limits on messages.
#[derive(Clone, Debug)]
pub struct SmsLimits {
    /// The numbers that can receive messages.
    pub reach: Reach,
    /// Limits of a number for strangers, and again for known clients.
    pub number: Bounds,
    /// Limits of a prefix of numbers.
    pub prefix: Bounds,
    /// Limits of a client address, multiplied for the wider prefixes of its network.
    pub address: Bounds,
    /// Limits of a calling service.
    pub service: Bounds,
    /// Limits of a country.
    pub country: Bounds,
    /// Limits of all messages.
    pub total: Bounds,
    /// The budget of a day, and the prices of messages. `None`: no limit.
    pub budget: Option<(Amount, Prices)>,
    /// The pumping guard. `None`: no prefix is paused.
    pub pumping_guard: Option<PumpingGuard>,
}

/// The country code of a number in metrics and price lists, or `unknown`.
#[must_use]
pub fn country(number: &PhoneNumber) -> String {
    let region = number.region();
    region.map_or_else(|| "unknown".to_owned(), |region| region.as_str().to_owned())
}

#[cfg(test)]
mod tests;
