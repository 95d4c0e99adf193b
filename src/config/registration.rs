//! The settings of registering, and of changing a phone number.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::values::duration;
use super::{ConfigError, Settings};
use crate::domain::registration::RegistrationMode;

/// Registering and changing a phone number.
#[derive(Args, Clone, Debug)]
pub struct RegistrationSettings {
    /// Who registers: `open`, anybody; `verified`, who shows by a code that they hold the number; `closed`, nobody,
    /// superusers make the accounts
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_REGISTRATION",
        value_name = "MODE",
        default_value = "open",
        hide_possible_values = true
    )]
    pub registration: RegistrationMode,

    /// Takes a new phone number by UpdateProfile, without a code that shows that the person holds it, though codes are
    /// sent
    #[arg(global = true, long, env = "PHONE_IDENTITY_UNVERIFIED_PHONE_CHANGE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub unverified_phone_change: bool,

    /// How long after a change of the phone number a code to it resets no password
    #[arg(global = true, long, env = "PHONE_IDENTITY_PHONE_CHANGE_HOLD", value_name = "DURATION",
        default_value = "1d", value_parser = duration)]
    pub phone_change_hold: Duration,
}

impl Settings {
    /// Who can register.
    ///
    /// # Errors
    /// When numbers are to be verified, and there are no codes or it need not be done; or nobody is to register, and
    /// signing in by a code would do it.
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
