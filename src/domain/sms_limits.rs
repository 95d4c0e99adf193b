//! Bounds on messages, against those who have them sent for money: numbers of premium rate and networks share what a
//! message costs with whoever brings them traffic.
//!
//! Messages are counted by the hour and by the day, of UTC. A *pumping guard* pauses a prefix, which is a number
//! without its last four digits, when its codes are asked for and hardly ever used: who has thousands of numbers has
//! neighbouring ones.
//!
//! Bounds must not become a weapon: whoever uses one up keeps others out. So one *source*, which is the network of a
//! client address, or that nobody says one, gets only a part of what strangers may get, and strangers only a part of
//! what a service, a country and the budget may.

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

/// So many networks at least have to ask to use up what strangers may get, or to have a prefix paused for all.
const FEWEST_NETWORKS: u64 = 3;

/// How much of so many there is for one network: a third, and so little that two of them leave something. Where that is
/// nothing, one.
fn part(all: u64) -> u64 {
    let third = all.div_ceil(FEWEST_NETWORKS);
    third.min(all.saturating_sub(1) / 2).max(1)
}

/// One of so many messages of a service, a country and the budget is for those who have shown to hold their number.
const ONE_RESERVED_OF: u64 = 5;

/// Why no message may be sent, for those who count refusals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SmsRefusal {
    /// Nothing is sent to this country.
    CountryNotAllowed,
    /// Too many to this number.
    Number,
    /// Too many to this prefix.
    Prefix,
    /// Too many from this address.
    Address,
    /// Too many by this service.
    Service,
    /// Too many to this country.
    Country,
    /// Too many in all.
    Total,
    /// All of the day's money is spent.
    Budget,
    /// The prefix is paused for all, or for all that nobody tells apart.
    Paused,
    /// The prefix is paused for the network that asks.
    PausedForSource,
}

impl SmsRefusal {
    /// What it is called.
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

/// How many there may be in an hour and in a day.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// `None`: no bound.
    pub hour: Option<u64>,
    /// `None`: no bound.
    pub day: Option<u64>,
}

impl Bounds {
    /// Whether there is no bound at all.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.hour.is_none() && self.day.is_none()
    }

    fn each(self, part: impl Fn(u64) -> u64) -> Self {
        Self {
            hour: self.hour.map(&part),
            day: self.day.map(&part),
        }
    }

    /// The bounds of a prefix that may use `factor` times as much as one address.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        self.each(|bound| bound.saturating_mul(factor.into()))
    }

    /// How much of it may be asked for from one network: a third.
    #[must_use]
    pub fn of_a_network(self) -> Self {
        self.each(part)
    }

    /// As much as this at least, but no more than `all`.
    #[must_use]
    pub fn at_least(self, amount: u64, all: &Self) -> Self {
        let raised = |bound: Option<u64>, all: Option<u64>| {
            bound.map(|bound| bound.max(amount.min(all.unwrap_or(amount))))
        };
        Self {
            hour: raised(self.hour, all.hour),
            day: raised(self.day, all.day),
        }
    }

    /// How much of it those may have who have not shown to hold their number: all but a fifth.
    #[must_use]
    pub fn of_strangers(self) -> Self {
        self.each(|bound| bound - bound / ONE_RESERVED_OF)
    }
}

/// The text is not such bounds.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not bounds such as 5/h,20/d, 20/d or none, of at least 1")]
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
            let bound = match unit {
                "h" => &mut bounds.hour,
                "d" => &mut bounds.day,
                _ => return Err(BoundsError),
            };
            let count: u32 = count.parse().map_err(|_| BoundsError)?;
            if count == 0 || bound.replace(count.into()).is_some() {
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

/// What is stored of something that messages are counted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counter {
    /// The hour that is counted, and how many there were.
    pub hour: Window,
    /// The day that is counted, and how many there were.
    pub day: Window,
    /// What is seen of a prefix.
    pub usage: Usage,
}

/// A count since a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// When it begins.
    pub since: Timestamp,
    /// How many there were.
    pub count: u64,
}

impl Window {
    /// Adds to the window of this length in which `now` is.
    fn add(
        self,
        length: TimeDelta,
        bound: Option<u64>,
        amount: u64,
        now: Timestamp,
    ) -> Result<Self, Duration> {
        let since = now.duration_trunc(length).unwrap_or(now);
        let next = since + length;
        let window = match self.since {
            of_this if (since..next).contains(&of_this) => Self { since, ..self },
            // A replica whose clock is a little ahead has begun it. The window of a clock that was wrong is not
            // counted: it would be full for up to two windows.
            of_next if of_next == next && next <= now + MAX_SKEW => self,
            _ => Self { since, count: 0 },
        };
        let count = window.count.saturating_add(amount);
        if bound.is_some_and(|bound| count > bound) {
            // A window that another replica has begun early ends later than one that begins now.
            let wait = (window.since + length - now).min(length);
            return Err(wait.to_std().unwrap_or_default());
        }
        Ok(Self { count, ..window })
    }
}

impl Counter {
    /// Of what nothing was counted before.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        let window = Window { since: now, count: 0 };
        Self {
            hour: window,
            day: window,
            usage: Usage::new(now),
        }
    }

    /// Counts `amount` more.
    ///
    /// # Errors
    /// How long there are too many.
    pub fn add(self, bounds: &Bounds, amount: u64, now: Timestamp) -> Result<Self, Duration> {
        let hour = self.hour.add(TimeDelta::hours(1), bounds.hour, amount, now);
        let day = self.day.add(TimeDelta::days(1), bounds.day, amount, now);
        match (hour, day) {
            (Ok(hour), Ok(day)) => Ok(Self { hour, day, ..self }),
            (hour, day) => Err(hour.err().max(day.err()).unwrap_or_default()),
        }
    }
}

/// The numbers that messages go to at all.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Of these countries. Empty: of all.
    pub countries: Vec<Region>,
    /// Of these line types.
    pub line_types: LineTypes,
}

impl Reach {
    /// Whether messages go to the country of a number. A number of no country has none that could be listed.
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

    /// Whether a message to a number is sent at all.
    #[must_use]
    pub fn has(&self, number: &PhoneNumber) -> bool {
        self.line_types.contains(number.line_type()) && self.has_country_of(number)
    }
}

/// The rules of messages.
#[derive(Clone, Debug)]
pub struct SmsLimits {
    /// The numbers that they go to.
    pub reach: Reach,
    /// Of a number; once more for those who are known there.
    pub number: Bounds,
    /// Of a prefix.
    pub prefix: Bounds,
    /// Of a client address, and so many times of the networks that it is in.
    pub address: Bounds,
    /// Of a calling service.
    pub service: Bounds,
    /// Of a country.
    pub country: Bounds,
    /// Of all messages.
    pub total: Bounds,
    /// What all messages of a day may cost, and what each does. `None`: no bound.
    pub budget: Option<(Amount, Prices)>,
    /// When a prefix is paused. `None`: never.
    pub pumping_guard: Option<PumpingGuard>,
}

/// The country of a number, as metrics and prices name it.
#[must_use]
pub fn country(number: &PhoneNumber) -> String {
    let region = number.region();
    region.map_or_else(|| "unknown".to_owned(), |region| region.as_str().to_owned())
}

#[cfg(test)]
mod tests;
