//! Regions: countries and territories with a numbering plan for national numbers.

use std::{fmt, str::FromStr};

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region as LibraryRegion, RegionStr};

use super::PhoneError;

/// A region with a numbering plan in libphonenumber, such as `UZ`: two upper-case letters of ISO 3166-1. A few codes,
/// such as `XK` and `AC`, are only reserved there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    library: LibraryRegion,
    code: RegionStr,
}

impl Region {
    /// Parses a two-letter code. Ignores case; does not trim spaces.
    ///
    /// `001` (numbers without a country, such as +800) and `ZZ` (unknown) are not regions, because they have no
    /// national numbers.
    ///
    /// # Errors
    /// [`PhoneError::RegionUnknown`] for codes without a numbering plan in libphonenumber.
    pub fn parse(code: &str) -> Result<Self, PhoneError> {
        // The library accepts any two letters. Only regions with a calling code have a numbering plan.
        LibraryRegion::from_code(code)
            .ok()
            .filter(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some())
            .map(Self::of)
            .ok_or(PhoneError::RegionUnknown)
    }

    /// The code: two upper-case letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.code.as_str()
    }

    /// The region as a value of the library.
    pub(super) const fn library(self) -> LibraryRegion {
        self.library
    }

    const fn of(library: LibraryRegion) -> Self {
        Self {
            library,
            code: library.as_region_str(),
        }
    }
}

impl FromStr for Region {
    type Err = PhoneError;

    fn from_str(code: &str) -> Result<Self, PhoneError> {
        Self::parse(code)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The region of a number, as libphonenumber's `getRegionCodeForNumber` returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberRegion {
    /// A country or territory.
    Region(Region),
    /// A calling code without a country, such as +800 (freephone) or +870 (satellites).
    NonGeographic,
}

impl NumberRegion {
    pub(super) fn of(library: LibraryRegion) -> Self {
        match library {
            LibraryRegion::World => Self::NonGeographic,
            region => Self::Region(Region::of(region)),
        }
    }

    /// The code in libphonenumber: two upper-case letters, or `001` for a number without a country.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Region(region) => region.as_str(),
            Self::NonGeographic => "001",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_are_parsed_in_any_case() {
        for code in ["UZ", "uz", "uZ"] {
            assert_eq!(code.parse::<Region>().unwrap().as_str(), "UZ");
        }
        // Reserved in ISO 3166-1, but with a numbering plan: Kosovo, Ascension, Tristan da Cunha.
        for code in ["XK", "AC", "TA"] {
            assert_eq!(Region::parse(code).unwrap().to_string(), code);
        }
    }

    #[test]
    fn codes_without_a_numbering_plan_are_rejected() {
        // AQ (Antarctica) is a country code without a numbering plan.
        for code in [
            "", "U", "UZB", "001", "ZZ", "AQ", "XX", " UZ", "UZ ", "U\0", "UŻ", "Ü", "998", "+1", "ｕz",
        ] {
            assert_eq!(Region::parse(code), Err(PhoneError::RegionUnknown), "{code:?}");
        }
    }
}
