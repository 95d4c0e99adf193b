//! The settings of one-time codes.

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

/// How many codes of its length there are at least for each attempt on a challenge: the chance of a guess is at most
/// 10^-4.
const CODES_PER_ATTEMPT: u64 = 10_000;

/// One-time codes.
#[derive(Args, Clone, Debug)]
pub struct CodeSettings {
    /// Digits of a one-time code
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_LENGTH", value_name = "NUMBER", default_value = "6",
        value_parser = clap::value_parser!(u8).range(i64::from(*code::LENGTHS.start())..=i64::from(*code::LENGTHS.end())))]
    pub code_length: u8,

    /// How long a one-time code is good, 30 minutes at most
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_LIFETIME", value_name = "DURATION", default_value = "5m",
        value_parser = lifetime)]
    pub code_lifetime: Duration,

    /// How many codes may be tried for one challenge; at most one for each 10000 codes of that length
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_ATTEMPTS", value_name = "NUMBER", default_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub code_attempts: u32,

    /// How long after it was sent a one-time code may be sent once more
    #[arg(global = true, long, env = "PHONE_IDENTITY_CODE_RESEND_INTERVAL", value_name = "DURATION", default_value = "30s",
        value_parser = positive_duration)]
    pub code_resend_interval: Duration,

    /// Signing in by a code with a number that nobody has creates a person without a password
    #[arg(global = true, long, env = "PHONE_IDENTITY_SIGN_UP_BY_CODE", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub sign_up_by_code: bool,

    /// The secret keys of codes as the environment has them, in `PHONE_IDENTITY_CODE_KEYS`. No flag: all users of the
    /// machine see flags.
    #[arg(skip)]
    pub code_keys: Option<SecretString>,

    /// File with the secret keys of codes, in the place of PHONE_IDENTITY_CODE_KEYS [default: with `log`
    /// one that this process makes for itself]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_CODE_KEYS_FILE",
        value_name = "FILE"
    )]
    pub code_keys_file: Option<PathBuf>,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    positive_duration_up_to(text, code::MAX_LIFETIME, "30m")
}

impl Settings {
    /// What makes codes. Without keys that are given, codes are good in this process only.
    ///
    /// # Errors
    /// When the keys are given twice, cannot be read, are not `KEY-ID:SECRET` entries, or are not given where messages
    /// really go out; or the operating system gives no random bytes.
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
            // A message would be sent, and its code be none after the next start, or for another replica.
            true if self.sms.is_real() => return Err(ConfigError::CodeKeysMissing),
            true => SecretKeys::of_this_process()?,
            false => keys,
        };
        Ok(Coder::new(keys, settings.code_length))
    }

    /// How codes are dealt with.
    ///
    /// # Errors
    /// When a code could be guessed: NIST SP 800-63B asks for a chance of at most one in 10,000 for each authentication
    /// secret of this kind (section 3.1.3.2: six digits, and a limit on attempts).
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
