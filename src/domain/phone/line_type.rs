//! Line types: what kind of line a number belongs to, and sets of them.

use std::{fmt, str::FromStr};

use rlibphonenumber::PhoneNumberType;

/// The kind of line behind a number, as libphonenumber's `getNumberType` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineType {
    /// A line in a house or an office.
    FixedLine,
    /// A mobile phone.
    Mobile,
    /// Either of the two, where numbers do not show which, as in the United States.
    FixedLineOrMobile,
    /// Free for the caller.
    TollFree,
    /// Dearer than other calls.
    PremiumRate,
    /// The cost is shared by caller and callee.
    SharedCost,
    /// A number of an internet telephony service.
    Voip,
    /// A number that follows a person from line to line.
    PersonalNumber,
    /// A pager.
    Pager,
    /// A "universal access number": one number for all offices of a company.
    Uan,
    /// Access to a voice mailbox.
    Voicemail,
    /// None of these. A valid number always has a type; a stored one may lose it when numbering plans change.
    Unknown,
}

impl LineType {
    /// Every line type, in the order in which libphonenumber lists them.
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

    /// The name in `snake_case`, which settings and programs may rely on.
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

    /// Reads a name as [`LineType::as_str`] gives it, in lower case, except `unknown`: nobody can be allowed
    /// or refused by a type that no valid number has.
    fn from_str(name: &str) -> Result<Self, UnknownLineType> {
        LineTypes::all()
            .iter()
            .find(|line_type| line_type.as_str() == name)
            .ok_or(UnknownLineType)
    }
}

/// A set of line types. The default is those that may register unless a setting says otherwise: all but
/// premium rate, shared cost, toll free, UAN, pager and voicemail, which are numbers of services and not of
/// people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LineTypes(u16);

impl LineTypes {
    /// Every type that a valid number can have: all but [`LineType::Unknown`].
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
    fn names_are_read_back() {
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
    fn numbers_of_services_may_not_register_by_default() {
        let refused: LineTypes = LineType::ALL
            .into_iter()
            .filter(|line_type| !LineTypes::default().contains(*line_type))
            .collect();
        let names: Vec<_> = refused.iter().map(LineType::as_str).collect();
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
    fn a_set_holds_what_it_was_made_of() {
        let set: LineTypes = [LineType::Voip, LineType::Mobile, LineType::Voip]
            .into_iter()
            .collect();
        assert!(set.contains(LineType::Mobile) && set.contains(LineType::Voip));
        assert!(!set.contains(LineType::FixedLine));
        assert_eq!(format!("{set:?}"), "{Mobile, Voip}");
        assert_eq!(std::iter::empty().collect::<LineTypes>().iter().count(), 0);
    }
}
