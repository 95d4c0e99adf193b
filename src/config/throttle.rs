//! The settings of throttling, and of the devices that it lets pass.

use std::time::Duration;

use clap::Args;

use super::ConfigError;
use super::values::{MAX_DURATION, positive_duration};
use crate::domain::throttle::{Delays, Limit};
use crate::service::throttle::ThrottleLimits;

/// The most failures that any limit may let pass.
const MAX_ATTEMPTS: i64 = 1_000_000;

/// How attempts are slowed down.
#[derive(Args, Clone, Debug)]
pub struct ThrottleSettings {
    /// Attempts without success on a phone number, by a person's sessions or on a known device that have no delay. 0:
    /// no limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_NUMBER_ATTEMPTS", value_name = "NUMBER",
        default_value = "10", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_number_attempts: u32,

    /// In how long an attempt on a phone number, by a person's sessions or on a known device is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_NUMBER_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_number_recovery: Duration,

    /// Attempts to take a phone number that somebody has that have no delay, for each such number. 0: no limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_PHONE_CLAIM_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_phone_claim_attempts: u32,

    /// In how long an attempt to take a phone number is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_PHONE_CLAIM_RECOVERY", value_name = "DURATION",
        default_value = "1m", value_parser = positive_duration)]
    pub throttle_phone_claim_recovery: Duration,

    /// Codes to a phone number per client address (networks as for addresses) or known device before back-off starts; 0
    /// disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_ATTEMPTS", value_name = "NUMBER",
        default_value = "5", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_code_attempts: u32,

    /// In how long a code to a phone number asked for from a client address, or on a known device, is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_code_recovery: Duration,

    /// Wrong codes per phone number, over all its challenges, before each next one waits for the recovery; 0 disables
    /// the limit. As many again for challenges of known devices and sessions. NIST SP 800-63B allows at most 100
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_GUESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_code_guess_attempts: u32,

    /// Time after which one wrong code is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CODE_GUESS_RECOVERY", value_name = "DURATION",
        default_value = "1h", value_parser = positive_duration)]
    pub throttle_code_guess_recovery: Duration,

    /// Failed attempts per client address (IPv6: per /64, twice that per /56, 4 times per /48) before back-off starts;
    /// 0 disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_ADDRESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_address_attempts: u32,

    /// Time in which one attempt from a client address is forgotten (IPv6: half per /56, a quarter per /48)
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_ADDRESS_RECOVERY", value_name = "DURATION",
        default_value = "10s", value_parser = positive_duration)]
    pub throttle_address_recovery: Duration,

    /// Accounts that strangers create per client address (IPv6: per /64, twice that per /56, 4 times per /48) before
    /// each next one waits for the recovery; 0 disables the limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CREATION_ATTEMPTS", value_name = "NUMBER",
        default_value = "100", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_creation_attempts: u32,

    /// Time after which one created account is forgotten (IPv6: half per /56, a quarter per /48)
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_CREATION_RECOVERY", value_name = "DURATION",
        default_value = "2m", value_parser = positive_duration)]
    pub throttle_creation_recovery: Duration,

    /// Attempts without success by a calling service that have no delay. 0: no limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SERVICE_ATTEMPTS", value_name = "NUMBER",
        default_value = "0", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_service_attempts: u32,

    /// In how long an attempt by a calling service is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SERVICE_RECOVERY", value_name = "DURATION",
        default_value = "1s", value_parser = positive_duration)]
    pub throttle_service_recovery: Duration,

    /// First delay after those attempts; each further one doubles it
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_BASE_DELAY", value_name = "DURATION",
        default_value = "1s", value_parser = positive_duration)]
    pub throttle_base_delay: Duration,

    /// Longest delay
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_MAX_DELAY", value_name = "DURATION",
        default_value = "15m", value_parser = positive_duration)]
    pub throttle_max_delay: Duration,

    /// Right passwords from a client network by a calling service that have no delay, for each replica; of IPv6, up to
    /// four times as many from a /48. 0: no limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SUCCESS_ATTEMPTS", value_name = "NUMBER",
        default_value = "600", value_parser = clap::value_parser!(u32).range(0..=MAX_ATTEMPTS))]
    pub throttle_success_attempts: u32,

    /// In how long a right password from a client network is forgotten
    #[arg(global = true, long, env = "PHONE_IDENTITY_THROTTLE_SUCCESS_RECOVERY", value_name = "DURATION",
        default_value = "100ms", value_parser = positive_duration)]
    pub throttle_success_recovery: Duration,

    /// How long a device is known after its last sign-in
    #[arg(global = true, long, env = "PHONE_IDENTITY_DEVICE_LIFETIME", value_name = "DURATION",
        default_value = "180d", value_parser = positive_duration)]
    pub device_lifetime: Duration,

    /// Most known devices of a person; the one that was not used for the longest time gives way
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_DEVICES", value_name = "NUMBER", default_value = "10",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_devices: u32,
}

impl ThrottleSettings {
    /// How attempts are slowed down.
    ///
    /// # Errors
    /// When the first delay is longer than the longest one, or something would be remembered for more than ten years.
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
