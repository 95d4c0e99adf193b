//! The settings by which nobody has messages sent for money.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::values::positive_duration_up_to;
use super::{ConfigError, Settings};
use crate::domain::phone::{LineType, Region};
use crate::domain::sms_limits::{Amount, Bounds, FORGOTTEN_AFTER, Prices, PumpingGuard, Reach, SmsLimits};

/// Bounds on messages.
#[derive(Args, Clone, Debug)]
pub struct SmsLimitSettings {
    /// Countries that SMS are sent to, separated by commas, such as UZ,KZ. Providers other than log need it [default:
    /// all]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_COUNTRIES",
        value_name = "REGIONS",
        value_delimiter = ','
    )]
    pub sms_countries: Vec<Region>,

    /// Line types that SMS are sent to, separated by commas
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_LINE_TYPES", value_name = "TYPES", value_delimiter = ',',
        default_values_t = [LineType::Mobile, LineType::FixedLineOrMobile])]
    pub sms_line_types: Vec<LineType>,

    /// Most SMS to a phone number in an hour and in a day of UTC, such as 5/h,20/d, 20/d or none; a third of them asked
    /// for from one client address (IPv6: one /48), and as many again on known devices and with a session
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_NUMBER",
        value_name = "BOUNDS",
        default_value = "10/h,20/d"
    )]
    pub sms_limit_number: Bounds,

    /// Most SMS to a prefix, which is a phone number without its last four digits; a third of them asked for from one
    /// client address (IPv6: one /48)
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_PREFIX",
        value_name = "BOUNDS",
        default_value = "100/h,500/d"
    )]
    pub sms_limit_prefix: Bounds,

    /// Maximum of SMS requested from a client address (IPv6: from a /64, twice that from a /56, 4 times from a /48)
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_ADDRESS",
        value_name = "BOUNDS",
        default_value = "100/h,500/d"
    )]
    pub sms_limit_address: Bounds,

    /// Most SMS asked for by a calling service
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_SERVICE",
        value_name = "BOUNDS",
        default_value = "none"
    )]
    pub sms_limit_service: Bounds,

    /// Most SMS to a country
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_COUNTRY",
        value_name = "BOUNDS",
        default_value = "none"
    )]
    pub sms_limit_country: Bounds,

    /// Maximum of all SMS, in an hour and in a day of UTC. Providers other than log need this or --sms-budget
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_LIMIT_TOTAL",
        value_name = "BOUNDS",
        default_value = "none"
    )]
    pub sms_limit_total: Bounds,

    /// What all SMS that are asked for in a day of UTC may cost, such as 250.00, by --sms-prices-file [default: no
    /// bound]
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_BUDGET", value_name = "AMOUNT")]
    pub sms_budget: Option<Amount>,

    /// File with what an SMS costs: lines of a country or * for all others, a tab, and a price
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_SMS_PRICES_FILE",
        value_name = "FILE"
    )]
    pub sms_prices_file: Option<PathBuf>,

    /// After how many codes to a prefix, whose time is over, it is looked whether they were used: at least 10, or 0 for
    /// never
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_CODES", value_name = "NUMBER", default_value = "30",
        value_parser = pumping_codes)]
    pub sms_pumping_codes: u32,

    /// Of how many of a hundred codes to a prefix the right one has to be given, so that it is not paused
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_PERCENT", value_name = "NUMBER", default_value = "10",
        value_parser = clap::value_parser!(u8).range(1..=50))]
    pub sms_pumping_percent: u8,

    /// How long a prefix is paused, for a week at most
    #[arg(global = true, long, env = "PHONE_IDENTITY_SMS_PUMPING_PAUSE", value_name = "DURATION", default_value = "1h",
        value_parser = pause)]
    pub sms_pumping_pause: Duration,
}

/// With fewer codes, what thirds and halves of them are rounded to would let one address have a prefix paused.
fn pumping_codes(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(codes @ (0 | 10..=1_000_000)) => Ok(codes),
        _ => Err("not 0 or in 10..=1000000".to_owned()),
    }
}

/// What is seen of a prefix is not kept for longer.
fn pause(text: &str) -> Result<Duration, String> {
    positive_duration_up_to(text, FORGOTTEN_AFTER.to_std().unwrap_or_default(), "a week")
}

/// Reads one byte more than prices may have, at most: somebody may have named a device.
fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(Prices::MAX_BYTES).unwrap_or(u64::MAX);
    File::open(file)?
        .take(most.saturating_add(1))
        .read_to_string(&mut text)?;
    // A byte order mark is no part of the first price.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

impl SmsLimitSettings {
    /// The numbers that messages go to.
    pub(super) fn reach(&self) -> Reach {
        Reach {
            countries: self.sms_countries.clone(),
            line_types: self.sms_line_types.iter().copied().collect(),
        }
    }
}

impl Settings {
    /// The bounds on messages.
    ///
    /// # Errors
    /// When there is a budget and no prices, or the other way round; prices cannot be read; or messages cost money, and
    /// countries or a limit for all messages are missing.
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
