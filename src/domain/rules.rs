//! What the operator lets people choose: the settings that decide how input is read.

use super::password::{Password, PasswordError};
use super::phone::{LineTypes, NumberQuery, PhoneError, PhoneNumber, Region};

/// The settings that decide how phone numbers and passwords are read.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The region of national numbers that come without one; none: they are refused.
    pub default_region: Option<Region>,
    /// The line types that may register.
    pub line_types: LineTypes,
    /// The fewest characters of a new password.
    pub password_min_length: usize,
}

impl Rules {
    /// Reads a number to look an account up by. `region` takes the place of the default one unless it is empty.
    ///
    /// # Errors
    /// When no account can have such a number.
    pub fn find_phone(&self, input: &str, region: &str) -> Result<NumberQuery, PhoneError> {
        NumberQuery::parse(input, self.region(region)?)
    }

    /// Reads a number that somebody wants to have. `region` takes the place of the default one unless it is empty.
    ///
    /// # Errors
    /// When the text is not a valid phone number, or its line type may not register.
    pub fn take_phone(&self, input: &str, region: &str) -> Result<PhoneNumber, PhoneError> {
        PhoneNumber::parse_new(input, self.region(region)?, self.line_types)
    }

    /// Reads a new password of an account with these numbers, and checks its shape. `service::password_policy` checks
    /// the rest, after an attempt was reserved.
    ///
    /// # Errors
    /// The rule that the password breaks.
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
