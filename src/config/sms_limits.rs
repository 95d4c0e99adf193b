//! Settings of the SMS limits, against SMS pumping (toll fraud).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::values::positive_duration_up_to;
use super::{ConfigError, Settings};
use crate::domain::phone::{LineType, Region};
use crate::domain::sms_limits::{Amount, Bounds, FORGOTTEN_AFTER, Prices, PumpingGuard, Reach, SmsLimits};

/// SMS limits.
#[derive(Args, Clone, Debug)]
pub struct SmsLimitSettings {
    /// Countries that may receive SMS, separated by commas, such as UZ,KZ [default: all]
    ///
    /// ISO 3166-1 codes of two letters. Providers other than log require it.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_COUNTRIES",
        value_name = "REGIONS",
        value_delimiter = ','
    )]
    pub sms_countries: Vec<Region>,

    /// Line types that may receive SMS, separated by commas
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_LINE_TYPES", value_name = "TYPES", value_delimiter = ',',
        default_values_t = [LineType::Mobile, LineType::FixedLineOrMobile])]
    pub sms_line_types: Vec<LineType>,

    /// Maximum number of SMS per phone number and UTC hour or day, such as 5/h,20/d, 20/d or none
    ///
    /// One client address (IPv6: one /48) can request a third of them. Known devices and sessions of the user have a
    /// limit of the same size of their own.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_NUMBER",
        value_name = "LIMITS",
        default_value = "10/h,20/d"
    )]
    pub sms_limit_number: Bounds,

    /// Maximum number of SMS per prefix (a phone number without its last four digits) and UTC hour or day
    ///
    /// One client address (IPv6: one /48) can request a third of them.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_PREFIX",
        value_name = "LIMITS",
        default_value = "100/h,500/d"
    )]
    pub sms_limit_prefix: Bounds,

    /// Maximum number of SMS that a client address requests per UTC hour or day
    ///
    /// IPv6: per /64, twice that per /56, 4 times per /48.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_ADDRESS",
        value_name = "LIMITS",
        default_value = "100/h,500/d"
    )]
    pub sms_limit_address: Bounds,

    /// Maximum number of SMS that a calling service requests per UTC hour or day
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_SERVICE",
        value_name = "LIMITS",
        default_value = "none"
    )]
    pub sms_limit_service: Bounds,

    /// Maximum number of SMS per country and UTC hour or day
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_COUNTRY",
        value_name = "LIMITS",
        default_value = "none"
    )]
    pub sms_limit_country: Bounds,

    /// Maximum number of all SMS per UTC hour or day
    ///
    /// Providers other than log require this limit or --sms-budget.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_TOTAL",
        value_name = "LIMITS",
        default_value = "none"
    )]
    pub sms_limit_total: Bounds,

    /// Maximum cost of all SMS requested per UTC day, such as 250.00; needs --sms-prices-file [default: no limit]
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_BUDGET", value_name = "AMOUNT")]
    pub sms_budget: Option<Amount>,

    /// File with SMS prices: per line a country (or * for all others), a tab, and the price of one SMS
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_PRICES_FILE",
        value_name = "FILE"
    )]
    pub sms_prices_file: Option<PathBuf>,

    /// Number of expired codes per prefix before their conversion rate is checked; 0 disables the check
    ///
    /// Range: 0, or 10 to 1000000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_CODES", value_name = "NUMBER", default_value = "30",
        value_parser = pumping_codes)]
    pub sms_pumping_codes: u32,

    /// Minimum conversion rate of codes per prefix, in percent; below it the prefix is paused
    ///
    /// A code is converted if it was verified. Range: 1 to 50.
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_PERCENT", value_name = "NUMBER", default_value = "10",
        value_parser = clap::value_parser!(u8).range(1..=50))]
    pub sms_pumping_percent: u8,

    /// How long a prefix is paused, at most 1w
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_PAUSE", value_name = "DURATION", default_value = "1h",
        value_parser = pause)]
    pub sms_pumping_pause: Duration,
}

/// Parses the number of codes. Below 10, the rounding of thirds and halves would let one address pause a prefix.
fn pumping_codes(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(codes @ (0 | 10..=1_000_000)) => Ok(codes),
        _ => Err("not 0 or in 10..=1000000".to_owned()),
    }
}

/// Parses the duration of a pause. The statistics of a prefix are not kept for longer.
fn pause(text: &str) -> Result<Duration, String> {
    positive_duration_up_to(text, FORGOTTEN_AFTER.to_std().unwrap_or_default(), "a week")
}

/// Reads at most one byte more than the maximum size of a price file, because the path may be a device.
fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let max_bytes = u64::try_from(Prices::MAX_BYTES).unwrap_or(u64::MAX);
    File::open(file)?
        .take(max_bytes.saturating_add(1))
        .read_to_string(&mut text)?;
    // A byte order mark is not part of the first price.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

impl SmsLimitSettings {
    /// Returns the countries and line types that receive messages.
    pub(super) fn reach(&self) -> Reach {
        Reach {
            countries: self.sms_countries.clone(),
            line_types: self.sms_line_types.iter().copied().collect(),
        }
    }
}

impl Settings {
    /// Returns the SMS limits.
    ///
    /// # Errors
    /// When the budget or the prices are missing or cannot be read; or when messages cost money, and the countries or a
    /// limit of all messages are missing.
    pub fn sms_limits(&self) -> Result<SmsLimits, ConfigError> {
        let settings = &self.sms_limits;
        let budget = match (settings.sms_budget, &settings.sms_prices_file) {
            (None, None) => None,
            (Some(budget), Some(file)) => {
                let text = read_bounded(file).map_err(ConfigError::PricesFile)?;
                Some((budget, Prices::parse(&text)?))
            }
            (Some(_), None) | (None, Some(_)) => return Err(ConfigError::BudgetWithoutPrices),
        };
        let is_limited = budget.is_some() || !settings.sms_limit_total.is_none();
        if self.sms.is_real() && (settings.sms_countries.is_empty() || !is_limited) {
            return Err(ConfigError::SmsWithoutCeiling);
        }
        let pumping_guard = PumpingGuard {
            asked: settings.sms_pumping_codes,
            verified_percent: settings.sms_pumping_percent,
            pause: settings.sms_pumping_pause,
        };
        Ok(SmsLimits {
            reach: settings.reach(),
            number: settings.sms_limit_number,
            prefix: settings.sms_limit_prefix,
            address: settings.sms_limit_address,
            service: settings.sms_limit_service,
            country: settings.sms_limit_country,
            total: settings.sms_limit_total,
            budget,
            pumping_guard: Some(pumping_guard).filter(|pumping_guard| pumping_guard.asked > 0),
        })
    }
}
