//! Regions: the countries and territories by whose rules a national number is read.

use std::{fmt, str::FromStr};

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region as LibraryRegion, RegionStr};

use super::PhoneError;

/// A region that libphonenumber has a numbering plan for, such as `UZ`: two upper-case letters, as in ISO
/// 3166-1 (and a few that are only reserved there, such as `XK` and `AC`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    library: LibraryRegion,
    code: RegionStr,
}

impl Region {
    /// Reads a two-letter code. Upper and lower case are the same; spaces around it are not cut off.
    ///
    /// `001` (the numbers of no country, such as +800) and `ZZ` (unknown) are no regions: no national number
    /// can be read by them.
    ///
    /// # Errors
    /// [`PhoneError::RegionUnknown`] for everything that libphonenumber has no numbering plan for.
    pub fn parse(code: &str) -> Result<Self, PhoneError> {
        // The library makes a value of any two letters; only those with a calling code have a numbering plan.
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

    /// The same region as the library's own type.
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

/// Where a number belongs, as libphonenumber's `getRegionCodeForNumber` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberRegion {
    /// A country or territory.
    Region(Region),
    /// A calling code that no country has, such as +800 (freephone) or +870 (satellites).
    NonGeographic,
}

impl NumberRegion {
    pub(super) fn of(library: LibraryRegion) -> Self {
        match library {
            LibraryRegion::World => Self::NonGeographic,
            region => Self::Region(Region::of(region)),
        }
    }

    /// The code as libphonenumber writes it: two upper-case letters, or `001` for a number of no country.
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
    fn reads_two_letters_in_any_case() {
        for code in ["UZ", "uz", "uZ"] {
            assert_eq!(code.parse::<Region>().unwrap().as_str(), "UZ");
        }
        // Reserved in ISO 3166-1, with a numbering plan all the same: Kosovo, Ascension, Tristan da Cunha.
        for code in ["XK", "AC", "TA"] {
            assert_eq!(Region::parse(code).unwrap().to_string(), code);
        }
    }

    #[test]
    fn refuses_what_has_no_numbering_plan() {
        // AQ (Antarctica) is a country code, but no number can be read by it.
        for code in [
            "", "U", "UZB", "001", "ZZ", "AQ", "XX", " UZ", "UZ ", "U\0", "UŻ", "Ü", "998", "+1", "ｕz",
        ] {
            assert_eq!(Region::parse(code), Err(PhoneError::RegionUnknown), "{code:?}");
        }
    }
}
