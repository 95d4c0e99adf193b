//! Input rules: the settings that control how phone numbers and new passwords are parsed.

use super::password::{Password, PasswordError};
use super::phone::{LineTypes, NumberQuery, PhoneError, PhoneNumber, Region};

/// The settings that control how phone numbers and passwords are parsed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Region of national numbers without a region. `None`: they are rejected.
    pub default_region: Option<Region>,
    /// Line types that can register.
    pub line_types: LineTypes,
    /// Minimum length of a new password, in characters.
    pub password_min_length: usize,
}

impl Rules {
    /// Parses a phone number to look up an account. A `region` that is not empty replaces the default region.
    ///
    /// # Errors
    /// When no account can have such a number.
    pub fn find_phone(&self, input: &str, region: &str) -> Result<NumberQuery, PhoneError> {
        NumberQuery::parse(input, self.region(region)?)
    }

    /// Parses a new phone number of an account. A `region` that is not empty replaces the default region.
    ///
    /// # Errors
    /// When the text is not a valid phone number, or its line type cannot register.
    pub fn take_phone(&self, input: &str, region: &str) -> Result<PhoneNumber, PhoneError> {
        PhoneNumber::parse_new(input, self.region(region)?, self.line_types)
    }

    /// Parses a new password of an account with these numbers, and checks its shape. `service::password_policy` checks
    /// the other rules, after it has reserved an attempt.
    ///
    /// # Errors
    /// The rule that the password violates.
    pub fn take_password(&self, input: &str, phones: &[&PhoneNumber]) -> Result<Password, PasswordError> {
        let password = Password::parse(input)?;
        password.check_shape(self.password_min_length, phones)?;
        Ok(password)
    }

    fn region(&self, region: &str) -> Result<Option<Region>, PhoneError> {
        if region.is_empty() {
            Ok(self.default_region)
        } else {
            Region::parse(region).map(Some)
        }
    }
}
