//! Line types of phone numbers, and sets of them.

use std::{fmt, str::FromStr};

use rlibphonenumber::PhoneNumberType;

/// The line type of a number, as libphonenumber's `getNumberType` returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineType {
    /// Fixed line.
    FixedLine,
    /// Mobile.
    Mobile,
    /// Fixed line or mobile, in countries whose numbers do not show the difference, such as the United States.
    FixedLineOrMobile,
    /// Toll free: calls are free for the calling party.
    TollFree,
    /// Premium rate: calls cost more than other calls.
    PremiumRate,
    /// Shared cost: both parties pay for calls.
    SharedCost,
    /// Voice over IP.
    Voip,
    /// Personal number: it is forwarded to changing lines of its holder.
    PersonalNumber,
    /// Pager.
    Pager,
    /// Universal access number: one number for all offices of a company.
    Uan,
    /// Voicemail access.
    Voicemail,
    /// Unknown. A valid number always has a type; a stored number can lose it when numbering plans change.
    Unknown,
}

impl LineType {
    /// All line types, in the order of libphonenumber.
    pub const ALL: [Self; 12] = [
        Self::FixedLine,
        Self::Mobile,
        Self::FixedLineOrMobile,
        Self::TollFree,
        Self::PremiumRate,
        Self::SharedCost,
        Self::Voip,
        Self::PersonalNumber,
        Self::Pager,
        Self::Uan,
        Self::Voicemail,
        Self::Unknown,
    ];

    /// The name in `snake_case`, for settings and programs. It is stable.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FixedLine => "fixed_line",
            Self::Mobile => "mobile",
            Self::FixedLineOrMobile => "fixed_line_or_mobile",
            Self::TollFree => "toll_free",
            Self::PremiumRate => "premium_rate",
            Self::SharedCost => "shared_cost",
            Self::Voip => "voip",
            Self::PersonalNumber => "personal_number",
            Self::Pager => "pager",
            Self::Uan => "uan",
            Self::Voicemail => "voicemail",
            Self::Unknown => "unknown",
        }
    }

    pub(super) const fn of(library: PhoneNumberType) -> Self {
        match library {
            PhoneNumberType::FixedLine => Self::FixedLine,
            PhoneNumberType::Mobile => Self::Mobile,
            PhoneNumberType::FixedLineOrMobile => Self::FixedLineOrMobile,
            PhoneNumberType::TollFree => Self::TollFree,
            PhoneNumberType::PremiumRate => Self::PremiumRate,
            PhoneNumberType::SharedCost => Self::SharedCost,
            PhoneNumberType::VoIP => Self::Voip,
            PhoneNumberType::PersonalNumber => Self::PersonalNumber,
            PhoneNumberType::Pager => Self::Pager,
            PhoneNumberType::UAN => Self::Uan,
            PhoneNumberType::VoiceMail => Self::Voicemail,
            PhoneNumberType::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for LineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A setting names a line type that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a line type; they are fixed_line, mobile, fixed_line_or_mobile, toll_free, premium_rate, shared_cost, \
     voip, personal_number, pager, uan and voicemail"
)]
pub struct UnknownLineType;

impl FromStr for LineType {
    type Err = UnknownLineType;

    /// Parses a name of [`LineType::as_str`], in lower case. Rejects `unknown`, because no valid number has this type.
    fn from_str(name: &str) -> Result<Self, UnknownLineType> {
        LineTypes::all()
            .iter()
            .find(|line_type| line_type.as_str() == name)
            .ok_or(UnknownLineType)
    }
}

/// A set of line types. The default is the line types that can register by default: all except premium rate, shared
/// cost, toll free, UAN, pager and voicemail, which are numbers of services and not of users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LineTypes(u16);

impl LineTypes {
    /// All types that a valid number can have: all except [`LineType::Unknown`].
    #[must_use]
    pub fn all() -> Self {
        LineType::ALL
            .into_iter()
            .filter(|line_type| *line_type != LineType::Unknown)
            .collect()
    }

    /// Whether `line_type` is in the set.
    #[must_use]
    pub const fn contains(self, line_type: LineType) -> bool {
        self.0 & Self::bit(line_type) != 0
    }

    /// The types in the set, in the order of [`LineType::ALL`].
    pub fn iter(self) -> impl Iterator<Item = LineType> {
        LineType::ALL
            .into_iter()
            .filter(move |line_type| self.contains(*line_type))
    }

    const fn bit(line_type: LineType) -> u16 {
        1 << line_type as u16
    }
}

impl FromIterator<LineType> for LineTypes {
    fn from_iter<I: IntoIterator<Item = LineType>>(line_types: I) -> Self {
        Self(
            line_types
                .into_iter()
                .fold(0, |bits, line_type| bits | Self::bit(line_type)),
        )
    }
}

impl Default for LineTypes {
    fn default() -> Self {
        [
            LineType::FixedLine,
            LineType::Mobile,
            LineType::FixedLineOrMobile,
            LineType::Voip,
            LineType::PersonalNumber,
        ]
        .into_iter()
        .collect()
    }
}

impl fmt::Debug for LineTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for line_type in LineTypes::all().iter() {
            assert_eq!(line_type.as_str().parse(), Ok(line_type));
        }
        assert_eq!(LineTypes::all().iter().count(), 11);
        for name in ["", "unknown", "MOBILE", " mobile", "fixed-line", "voip,mobile"] {
            assert_eq!(name.parse::<LineType>(), Err(UnknownLineType), "{name:?}");
        }
    }

    #[test]
    fn the_error_names_every_line_type() {
        let text = UnknownLineType.to_string();
        for line_type in LineTypes::all().iter() {
            assert!(text.contains(line_type.as_str()), "{}", line_type.as_str());
        }
    }

    #[test]
    fn numbers_of_services_cannot_register_by_default() {
        let rejected: LineTypes = LineType::ALL
            .into_iter()
            .filter(|line_type| !LineTypes::default().contains(*line_type))
            .collect();
        let names: Vec<_> = rejected.iter().map(LineType::as_str).collect();
        assert_eq!(
            names,
            [
                "toll_free",
                "premium_rate",
                "shared_cost",
                "pager",
                "uan",
                "voicemail",
                "unknown"
            ]
        );
    }

    #[test]
    fn a_set_contains_its_elements() {
        let set: LineTypes = [LineType::Voip, LineType::Mobile, LineType::Voip]
            .into_iter()
            .collect();
        assert!(set.contains(LineType::Mobile) && set.contains(LineType::Voip));
        assert!(!set.contains(LineType::FixedLine));
        assert_eq!(format!("{set:?}"), "{Mobile, Voip}");
        assert_eq!(std::iter::empty().collect::<LineTypes>().iter().count(), 0);
    }
}
