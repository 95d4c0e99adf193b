//! Amounts of money, and prices of messages by country.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::domain::phone::Region;

const DECIMALS: usize = 6;

/// Maximum amount, in millionths. The sum of a day fits into an integer of every database.
const MAX: u64 = 1_000_000_000 * 10_u64.pow(6);

/// The name of all other countries in a price list.
const OTHERS: &str = "*";

/// An amount of money of any currency, in millionths.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Amount(u64);

impl Amount {
    /// The amount in millionths.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

/// The text is not an amount.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not an amount such as 12.50, with at most {DECIMALS} decimals and at most 1000000000")]
pub struct AmountError;

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(decimals) || decimals.len() > DECIMALS {
            return Err(AmountError);
        }
        let digits = format!("{whole}{decimals:0<DECIMALS$}");
        let millionths: u64 = digits.parse().map_err(|_| AmountError)?;
        (millionths <= MAX).then_some(Self(millionths)).ok_or(AmountError)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u64.pow(6);
        let decimals = format!("{:0DECIMALS$}", self.0 % one);
        let decimals = decimals.trim_end_matches('0');
        // At least two decimals, as is usual for money.
        write!(f, "{}.{decimals:0<2}", self.0 / one)
    }
}

/// Price list: the price of a message by country.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prices {
    by_country: BTreeMap<String, Amount>,
    others: Amount,
}

/// Why a price list is invalid.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PriceError {
    /// A line is not a country and a price.
    #[error("line {0} is not COUNTRY<TAB>PRICE, such as UZ and 0.012, with * for all other countries")]
    Line(usize),
    /// A country has two prices.
    #[error("line {0} has a country that already has a price")]
    Twice(usize),
    /// The price of all other countries is missing.
    #[error("there is no line * for all other countries")]
    NoOthers,
    /// The list is too long.
    #[error("longer than {} bytes", Prices::MAX_BYTES)]
    TooLong,
}

impl Prices {
    /// Maximum size of a price list, in bytes. There are about 250 regions.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Parses lines of a country, a tab and a price. A country is two letters of ISO 3166-1, `001` for numbers without
    /// a country, or `*` for all others. Empty lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    /// The first invalid line, or a missing line `*`.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PriceError::TooLong);
        }
        let mut by_country = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = PriceError::Line(number);
            let (country, price) = line.split_once('\t').ok_or(invalid.clone())?;
            let country = match country.trim() {
                known @ (OTHERS | "001") => known.to_owned(),
                code => {
                    let region = Region::parse(code).map_err(|_| invalid.clone())?;
                    region.as_str().to_owned()
                }
            };
            let price = price.trim().parse().map_err(|_| invalid)?;
            if by_country.insert(country, price).is_some() {
                return Err(PriceError::Twice(number));
            }
        }
        let others = by_country.remove(OTHERS).ok_or(PriceError::NoOthers)?;
        Ok(Self { by_country, others })
    }

    /// The price of a message to a country.
    #[must_use]
    pub fn of(&self, country: &str) -> Amount {
        self.by_country.get(country).copied().unwrap_or(self.others)
    }
}
