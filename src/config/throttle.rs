//! Settings of throttling, and of the known devices that it exempts.

use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::values::{MAX_DURATION, positive_duration};
use crate::domain::throttle::{Delays, Limit};
use crate::service::throttle::ThrottleLimits;

/// Maximum of the number of attempts of any limit.
const MAX_ATTEMPTS: i64 = 1_000_000;

/// Rate limits, and the known devices that they exempt.
#[derive(Args, Clone, Debug)]
pub struct ThrottleSettings {
    /// Failed attempts per phone number, user or known device before back-off starts; 0 disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_NUMBER_ATTEMPTS", value_name = "NUMBER",
        default_value = "10", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_number_attempts: u32,

    /// Time after which one failed attempt per phone number, user or known device is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_NUMBER_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_number_recovery: Duration,

    /// Attempts to claim a taken phone number, per number, before back-off starts; 0 disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_PHONE_CLAIM_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_phone_claim_attempts: u32,

    /// Time after which one attempt to claim a phone number is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_PHONE_CLAIM_RECOVERY", value_name = "DURATION",
        default_value = "1m", value_parser = positive_duration)]
    pub throttle_phone_claim_recovery: Duration,

    /// Codes requested per phone number and client address before back-off starts; 0 disables the limit
    ///
    /// IPv6: per /64, twice that per /56, 4 times per /48. Known devices and sessions of the user together have a limit
    /// of the same size of their own.
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_ATTEMPTS", value_name = "NUMBER",
        default_value = "5", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_code_attempts: u32,

    /// Time after which one requested code is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_code_recovery: Duration,

    /// Wrong codes per phone number before each next one waits for the recovery; 0 disables the limit
    ///
    /// They are counted over all challenges of the phone number. Challenges of known devices and sessions have a limit
    /// of the same size of their own. NIST SP 800-63B allows at most 100.
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_GUESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_code_guess_attempts: u32,

    /// Time after which one wrong code is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_GUESS_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_code_guess_recovery: Duration,

    /// Failed attempts per client address before back-off starts; 0 disables the limit
    ///
    /// IPv6: per /64, twice that per /56, 4 times per /48.
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_ADDRESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_address_attempts: u32,

    /// Time after which one attempt of a client address is forgotten (IPv6: half per /56, a quarter per /48)
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_ADDRESS_RECOVERY", value_name = "DURATION",
        default_value = "10s", value_parser = positive_duration)]
    pub throttle_address_recovery: Duration,

    /// Accounts created per client address before each next one waits for the recovery; 0 disables the limit
    ///
    /// It counts accounts that strangers create. IPv6: per /64, twice that per /56, 4 times per /48.
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CREATION_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_creation_attempts: u32,

    /// Time after which one created account is forgotten (IPv6: half per /56, a quarter per /48)
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CREATION_RECOVERY", value_name = "DURATION",
        default_value = "2m", value_parser = positive_duration)]
    pub throttle_creation_recovery: Duration,

    /// Failed attempts per calling service before back-off starts; 0 disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SERVICE_ATTEMPTS", value_name = "NUMBER",
        default_value = "0", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_service_attempts: u32,

    /// Time after which one attempt of a calling service is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SERVICE_RECOVERY", value_name = "DURATION",
        default_value = "1s", value_parser = positive_duration)]
    pub throttle_service_recovery: Duration,

    /// First back-off delay; each further failed attempt doubles it
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_BASE_DELAY", value_name = "DURATION",
        default_value = "1s", value_parser = positive_duration)]
    pub throttle_base_delay: Duration,

    /// Maximum back-off delay
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_MAX_DELAY", value_name = "DURATION",
        default_value = "15m", value_parser = positive_duration)]
    pub throttle_max_delay: Duration,

    /// Correct passwords per calling service and client address before they are limited; 0 disables the limit
    ///
    /// Each replica counts on its own. IPv6: per /64, twice that per /56, 4 times per /48.
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SUCCESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "600", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_success_attempts: u32,

    /// Time after which one correct password of a client address is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SUCCESS_RECOVERY", value_name = "DURATION",
        default_value = "100ms", value_parser = positive_duration)]
    pub throttle_success_recovery: Duration,

    /// How long a device stays known after its last sign-in
    #[arg(global = true, long, env = "PHONE_IDENTITY_DEVICE_LIFETIME", value_name = "DURATION",
        default_value = "180d", value_parser = positive_duration)]
    pub device_lifetime: Duration,

    /// Maximum number of known devices per user; a new one replaces the least recently used
    ///
    /// Range: 1 to 1000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_DEVICES", value_name = "NUMBER", default_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_devices: u32,
}

impl ThrottleSettings {
    /// Returns the rate limits.
    ///
    /// # Errors
    /// When the base delay exceeds the maximum delay, or attempts would be kept for more than ten years.
    pub fn limits(&self) -> Result<ThrottleLimits, ConfigError> {
        if self.throttle_base_delay > self.throttle_max_delay {
            return Err(ConfigError::ThrottleDelays);
        }
        let limit = |free, recovery: Duration| {
            if recovery.saturating_mul(free) > MAX_DURATION {
                return Err(ConfigError::ThrottleMemory);
            }
            Ok((free > 0).then_some(Limit { free, recovery }))
        };
        Ok(ThrottleLimits {
            number: limit(self.throttle_number_attempts, self.throttle_number_recovery)?,
            phone_claim: limit(
                self.throttle_phone_claim_attempts,
                self.throttle_phone_claim_recovery,
            )?,
            code: limit(self.throttle_code_attempts, self.throttle_code_recovery)?,
            code_guess: limit(
                self.throttle_code_guess_attempts,
                self.throttle_code_guess_recovery,
            )?,
            address: limit(self.throttle_address_attempts, self.throttle_address_recovery)?,
            creation: limit(self.throttle_creation_attempts, self.throttle_creation_recovery)?,
            service: limit(self.throttle_service_attempts, self.throttle_service_recovery)?,
            success: limit(self.throttle_success_attempts, self.throttle_success_recovery)?,
            delays: Delays {
                base: self.throttle_base_delay,
                max: self.throttle_max_delay,
            },
        })
    }
}
