//! Settings of one-time codes.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use secrecy::{ExposeSecret as _, SecretString};

use super::values::secret;
use super::values::{positive_duration, positive_duration_up_to};
use super::{ConfigError, Settings};
use crate::domain::code::{self, Coder};
use crate::domain::secret_keys::SecretKeys;
use crate::service::codes::Options;

/// Minimum number of possible codes per attempt on a challenge: a guess succeeds with a probability of at most 10^-4.
const CODES_PER_ATTEMPT: u64 = 10_000;

/// One-time codes.
#[derive(Args, Clone, Debug)]
pub struct CodeSettings {
    /// Number of digits of a one-time code
    ///
    /// Range: 4 to 10.
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_LENGTH", value_name = "NUMBER", default_value = "6",
        value_parser = clap::value_parser!(u8).range(lengths()))]
    pub code_length: u8,

    /// Lifetime of a one-time code, at most 30m
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_LIFETIME", value_name = "DURATION", default_value = "5m",
        value_parser = lifetime)]
    pub code_lifetime: Duration,

    /// Maximum number of attempts per challenge; at most one per 10000 possible codes of this length
    ///
    /// Range: 1 to 100.
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_ATTEMPTS", value_name = "NUMBER", default_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub code_attempts: u32,

    /// Minimum interval between two deliveries of the same one-time code
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_RESEND_INTERVAL", value_name = "DURATION",
        default_value = "30s", value_parser = positive_duration)]
    pub code_resend_interval: Duration,

    /// Create an account without a password when a user signs in by code with an unknown phone number
    #[arg(global = true, long, env = "PHONE_IDENTITY_SIGN_UP_BY_CODE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub sign_up_by_code: bool,

    /// The secret keys of one-time codes from `PHONE_IDENTITY_CODE_KEYS`. They have no flag, because all users of the
    /// machine can read flags.
    #[arg(skip)]
    pub code_keys: Option<SecretString>,

    /// File with the code keys, instead of PHONE_IDENTITY_CODE_KEYS [default: with log a random key per process]
    ///
    /// It contains the secret keys from which one-time codes are derived, as KEY-ID:SECRET entries. Providers other
    /// than log need it, or the variable.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_CODE_KEYS_FILE",
        value_name = "FILE"
    )]
    pub code_keys_file: Option<PathBuf>,
}

fn lengths() -> RangeInclusive<i64> {
    i64::from(*code::LENGTHS.start())..=i64::from(*code::LENGTHS.end())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    positive_duration_up_to(text, code::MAX_LIFETIME, "30m")
}

impl Settings {
    /// Returns the generator of one-time codes. Without configured keys, codes are valid in this process only.
    ///
    /// # Errors
    /// When the keys are given twice, cannot be read, are not `KEY-ID:SECRET` entries, or are missing although an SMS
    /// provider sends messages; or when the operating system returns no random bytes.
    pub fn coder(&self) -> Result<Coder, ConfigError> {
        const NAME: &str = "PHONE_IDENTITY_CODE_KEYS";
        let settings = &self.codes;
        let text = secret(
            NAME,
            settings.code_keys.as_ref(),
            settings.code_keys_file.as_deref(),
            self.allow_readable_secrets,
        )?;
        let keys = SecretKeys::parse(text.unwrap_or_default().expose_secret())
            .map_err(|error| ConfigError::SecretKeys(NAME, error))?;
        let keys = match keys.is_empty() {
            // With random keys, sent codes would be invalid after a restart, and on other replicas.
            true if self.sms.is_real() => return Err(ConfigError::CodeKeysMissing),
            true => SecretKeys::of_this_process()?,
            false => keys,
        };
        Ok(Coder::new(keys, settings.code_length))
    }

    /// Returns the options of one-time codes.
    ///
    /// # Errors
    /// When codes could be guessed. NIST SP 800-63B (section 3.1.3.2: six digits, and a limit on attempts) allows a
    /// probability of at most one in 10,000 for each authentication secret of this kind.
    pub fn codes(&self) -> Result<Options, ConfigError> {
        let CodeSettings {
            code_length,
            code_lifetime,
            code_attempts,
            code_resend_interval,
            sign_up_by_code,
            ..
        } = self.codes;
        let max = 10_u64.pow(u32::from(code_length)) / CODES_PER_ATTEMPT;
        if u64::from(code_attempts) > max {
            return Err(ConfigError::CodeGuessable {
                attempts: code_attempts,
                length: code_length,
                max,
            });
        }
        Ok(Options {
            lifetime: code_lifetime,
            max_attempts: code_attempts,
            resend_interval: code_resend_interval,
            sign_up: sign_up_by_code.then(|| self.rules().line_types),
        })
    }
}
