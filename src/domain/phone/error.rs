//! Reasons for which a phone number is rejected: a text for users, and an identifier for programs.
//!
//! No error contains the number or a part of it, so an error can be logged and sent.

/// Why an input is rejected as a phone number.
///
/// The `Display` text completes a sentence that begins with the name of the field ("phone number must be given"). The
/// documentation of a variant names the rule of libphonenumber that it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PhoneError {
    /// The input is empty. Spaces are not empty.
    #[error("must be given")]
    Empty,
    /// The input has more than [`super::MAX_INPUT_CHARS`] characters, or too many characters that are removed.
    #[error("is longer than 40 characters")]
    InputTooLong,
    /// The sanitizer rejects a character. Extensions are rejected here, too: their notation needs a letter, `#`, `,`,
    /// `;` or `~`.
    #[error("has a character that is not allowed; digits, spaces and + - . ( ) / are, extensions are not")]
    CharacterNotAllowed,
    /// The region is not one of libphonenumber's two-letter codes.
    #[error("is not a known region; give a two-letter country code such as UZ")]
    RegionUnknown,
    /// A number in national form has no region, and no default region is configured. The region is never guessed.
    #[error("has no country; start it with + and the country calling code, or give the region")]
    RegionRequired,
    /// libphonenumber finds no number in the input: it has too few digits, or a `+` that is not at the start.
    #[error("is not a phone number")]
    NotANumber,
    /// The digits after `+`, or after the international prefix of the region, do not start with an assigned calling
    /// code.
    #[error("starts with a country calling code that does not exist")]
    CountryCodeUnknown,
    /// Fewer digits than any number of this country has (libphonenumber's possible lengths).
    #[error("has too few digits for its country")]
    TooShort,
    /// More digits than any number of this country has (libphonenumber's possible lengths).
    #[error("has too many digits for its country")]
    TooLong,
    /// The length is between the shortest and the longest length of this country, but not in use there.
    #[error("has a number of digits that is not in use in its country")]
    LengthNotPossible,
    /// The length is only dialled within one area, without the area code. Only registration rejects it: libphonenumber
    /// counts such a number as possible, so a look-up continues and finds no account.
    #[error("is a local number; give it with its area code")]
    LocalOnly,
    /// Parsing its E.164 form gives another number, so it has no form that could be a key.
    #[error("is ambiguous: its international form reads as a different number")]
    NotStable,
    /// The length is possible, but the number is not valid in its country (libphonenumber's `isValidNumber`).
    #[error("is not a valid number of its country")]
    NotValid,
    /// The number is valid, but its line type cannot register here, such as premium rate.
    #[error("is of a line type that may not register")]
    LineTypeNotAllowed,
}

impl PhoneError {
    /// The identifier of the reason in `snake_case`. It is stable.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::InputTooLong => "input_too_long",
            Self::CharacterNotAllowed => "character_not_allowed",
            Self::RegionUnknown => "region_unknown",
            Self::RegionRequired => "region_required",
            Self::NotANumber => "not_a_number",
            Self::CountryCodeUnknown => "country_code_unknown",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::LengthNotPossible => "length_not_possible",
            Self::LocalOnly => "local_only",
            Self::NotStable => "not_stable",
            Self::NotValid => "not_valid",
            Self::LineTypeNotAllowed => "line_type_not_allowed",
        }
    }
}
