//! Metrics of codes and of refused messages, by country.

use crate::domain::code::Purpose;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::SmsRefusal;
use crate::service::label_counts::{LabelCounts, Labels, country};

/// The fate of a code.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// The code was requested and is sent.
    Sent,
    /// The code was requested and is not sent.
    NotSent,
    /// The right code was submitted.
    Verified,
    /// Another code was submitted.
    Refused,
}

impl Fate {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::NotSent => "not_sent",
            Self::Verified => "verified",
            Self::Refused => "refused",
        }
    }
}

/// Counts codes, and messages that limits refuse.
#[derive(Debug, Default)]
pub struct Metrics {
    codes: LabelCounts<3>,
    refusals: LabelCounts<2>,
}

impl Metrics {
    /// Counts a code to a number. `None`: the challenge is unknown.
    pub(super) fn code(&self, purpose: Purpose, fate: Fate, number: Option<&PhoneNumber>) {
        self.codes
            .add([purpose.as_str(), fate.as_str(), &country(number)]);
    }

    /// Counts a refused message.
    pub(super) fn refusal(&self, why: SmsRefusal, number: &PhoneNumber) {
        self.refusals.add([why.as_str(), &country(Some(number))]);
    }

    /// Number of codes, by purpose, fate and country.
    #[must_use]
    pub fn codes(&self) -> Vec<(Labels<3>, u64)> {
        self.codes.all()
    }

    /// Number of refused messages, by reason and country.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Labels<2>, u64)> {
        self.refusals.all()
    }
}
