//! Settings of registration, and of changes of a phone number.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::values::duration;
use super::{ConfigError, Settings};
use crate::domain::registration::RegistrationMode;

/// Registration, and changes of a phone number.
#[derive(Args, Clone, Debug)]
pub struct RegistrationSettings {
    /// Registration mode: open (all users), verified (after a one-time code), closed (superusers create accounts)
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_REGISTRATION",
        value_name = "MODE",
        default_value = "open",
        hide_possible_values = true
    )]
    pub registration: RegistrationMode,

    /// Let UpdateProfile change the phone number without a one-time code, although the server can send codes
    #[arg(global = true, long, env = "PHONE_IDENTITY_UNVERIFIED_PHONE_CHANGE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub unverified_phone_change: bool,

    /// How long after a phone number change a code to the new number cannot reset the password; 0 disables it
    #[arg(global = true, long, env = "PHONE_IDENTITY_PHONE_CHANGE_HOLD", value_name = "DURATION",
        default_value = "1d", value_parser = duration)]
    pub phone_change_hold: Duration,
}

impl Settings {
    /// Returns the registration mode.
    ///
    /// # Errors
    /// When phone numbers must be verified without an SMS provider or with --unverified-phone-change; or when
    /// registration is closed with --sign-up-by-code.
    pub fn registration(&self) -> Result<RegistrationMode, ConfigError> {
        let mode = self.registration.registration;
        match mode {
            RegistrationMode::Open => {}
            RegistrationMode::Verified if self.sms.sms_providers.is_empty() => {
                return Err(ConfigError::VerifiedWithoutSms);
            }
            RegistrationMode::Verified if self.registration.unverified_phone_change => {
                return Err(ConfigError::VerifiedAndUnverified);
            }
            RegistrationMode::Verified => {}
            RegistrationMode::Closed if self.codes.sign_up_by_code => {
                return Err(ConfigError::ClosedAndSignUp);
            }
            RegistrationMode::Closed => {}
        }
        Ok(mode)
    }
}
