//! Why a phone number is refused, in words for a person and in a word for a program.
//!
//! Nothing here carries the number or a part of it, so an error may be logged and sent as it is.

/// Why an input is not taken as a phone number, or not looked up as one.
///
/// The `Display` text is the end of a sentence that starts with the name of the field ("phone number is
/// empty"). Rules that come from Google's libphonenumber say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PhoneError {
    /// Nothing was given: a length of zero, not even spaces.
    #[error("must be given")]
    Empty,
    /// More than [`super::MAX_INPUT_CHARS`] characters were given, or too many that are removed beside them.
    #[error("is longer than 40 characters")]
    InputTooLong,
    /// The sanitizer refuses a character. An extension ends here too: it can only be written with a letter, `#`,
    /// `,`, `;` or `~`.
    #[error("has a character that is not allowed; digits, spaces and + - . ( ) / are, extensions are not")]
    CharacterNotAllowed,
    /// The region is not one of libphonenumber's two-letter codes.
    #[error("is not a known region; give a two-letter country code such as UZ")]
    RegionUnknown,
    /// A number in national form came without a region, and none is configured. It is never guessed.
    #[error("does not say its country; start it with + and the country calling code, or give the region")]
    RegionRequired,
    /// libphonenumber finds no number in it: too few digits, or a `+` that is not at the start.
    #[error("is not a phone number")]
    NotANumber,
    /// The digits after `+`, or after the region's prefix for calling abroad, start with no assigned calling
    /// code.
    #[error("starts with a country calling code that does not exist")]
    CountryCodeUnknown,
    /// Fewer digits than any number of this country has (libphonenumber's possible lengths).
    #[error("has too few digits for its country")]
    TooShort,
    /// More digits than any number of this country has (libphonenumber's possible lengths).
    #[error("has too many digits for its country")]
    TooLong,
    /// Between the shortest and the longest length of this country, but of no length that is in use there.
    #[error("has a number of digits that is not in use in its country")]
    LengthNotPossible,
    /// Only of a length that is dialled within one place, without the area code. Only taking a number says
    /// so: libphonenumber counts such a number as possible, so looking one up goes on, and finds nobody.
    #[error("is a local number; give it with its area code")]
    LocalOnly,
    /// Reading its E.164 form again gives another number, so it has no form that could be a key.
    #[error("is ambiguous: its international form reads as a different number")]
    NotStable,
    /// Possible by its length, but no number of this country looks like it (libphonenumber's
    /// `isValidNumber`).
    #[error("is not a valid number of its country")]
    NotValid,
    /// A valid number, but of a type that may not register here, such as a premium-rate number.
    #[error("is of a line type that may not register")]
    LineTypeNotAllowed,
}

impl PhoneError {
    /// The same reason as one `snake_case` word, which programs may rely on.
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
