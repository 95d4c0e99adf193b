//! The settings: one struct, read once from flags, environment and `.env`, and checked once.
//!
//! A setting called `--some-thing` is also `PHONE_IDENTITY_SOME_THING`. An empty value means unset. Secrets come by
//! environment or `..._FILE` only, and no help and no error shows them.

mod access;
mod codes;
mod dotenv;
mod error;
mod hashing;
mod operations;
mod registration;
mod sms;
mod sms_limits;
mod throttle;
mod values;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{ArgAction, Args};
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::phone::{LineType, LineTypes, Region};
use crate::domain::rules::Rules;
use crate::domain::session::Lifetimes;
use crate::i18n::Language;
use crate::service::accounts::Policy;
use crate::service::audit;
use crate::service::sessions;
use crate::store::{self, changes::VERSION_LEVEL};
use crate::telemetry::logging::{LogFormat, LogLevel};
pub use access::{AccessSettings, TlsSettings};
pub use codes::CodeSettings;
pub(crate) use dotenv::line_of_substitution;
pub use error::ConfigError;
pub use hashing::HashingSettings;
pub use operations::OperationsSettings;
pub use registration::RegistrationSettings;
pub use sms::SmsSettings;
pub use sms_limits::SmsLimitSettings;
pub use throttle::ThrottleSettings;
pub(crate) use values::{duration, positive_duration};
pub use wire::WireSettings;

use values::{database_timeout, listen_address, password_min_length, secret};

const DEFAULT_DATABASE_URL: &str = "sqlite://phone-identity.db";

/// All settings, as given.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Address to serve gRPC on. Port 0 picks a free one and prints it
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051",
        value_parser = listen_address
    )]
    pub listen: SocketAddr,

    /// Database: sqlite://FILE (made if it is missing), postgres://USER:PASSWORD@HOST/DATABASE or
    /// mysql://USER:PASSWORD@HOST/DATABASE [default: sqlite://phone-identity.db]
    #[arg(
        global = true,
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,

    /// File with the database URL, in the place of --database-url
    #[arg(global = true, long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,

    /// Maximum number of connections to the database (SQLite: that read), beside one for the change log and two for
    /// lists
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,

    /// How long to wait for a connection to the database, and for what another transaction has locked
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION",
        default_value = "2s", value_parser = database_timeout)]
    pub database_acquire_timeout: Duration,

    /// Timeout of a statement, and of a transaction that stands still. On SQLite it applies to lists only
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION",
        default_value = "5s", value_parser = database_timeout)]
    pub database_statement_timeout: Duration,

    /// How long the start waits for a database that is not reached, or does not accept writes yet
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_START_TIMEOUT", value_name = "DURATION",
        default_value = "30s", value_parser = duration)]
    pub database_start_timeout: Duration,

    /// Region of national phone numbers that come without one, such as UZ [default: none, they are refused]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_DEFAULT_REGION",
        value_name = "REGION"
    )]
    pub default_region: Option<Region>,

    /// Language of texts for people who ask for none that there is: en, uz, ru or tr
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_DEFAULT_LANGUAGE",
        value_name = "LANGUAGE",
        default_value = "en"
    )]
    pub default_language: Language,

    /// Line types that may register, separated by commas
    #[arg(global = true, long, env = "PHONE_IDENTITY_ALLOWED_LINE_TYPES", value_name = "TYPES", value_delimiter = ',',
        default_values_t = LineTypes::default().iter())]
    pub allowed_line_types: Vec<LineType>,

    /// Fewest characters of a new password
    #[arg(global = true, long, env = "PHONE_IDENTITY_PASSWORD_MIN_LENGTH", value_name = "NUMBER", default_value = "8",
        value_parser = password_min_length)]
    pub password_min_length: usize,

    /// Have I Been Pwned download of SHA-1 hashes, ordered by hash; new passwords that it has are rejected [default:
    /// none]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_BREACHED_PASSWORDS_FILE",
        value_name = "FILE"
    )]
    pub breached_passwords_file: Option<PathBuf>,

    /// Absolute lifetime of a session: from signing in to the end
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_LIFETIME", value_name = "DURATION", default_value = "30d",
        value_parser = positive_duration)]
    pub session_lifetime: Duration,

    /// Idle lifetime of a session: from the last use to the end
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_IDLE_LIFETIME", value_name = "DURATION",
        default_value = "14d", value_parser = positive_duration)]
    pub session_idle_lifetime: Duration,

    /// Most live sessions of a person; the oldest gives way
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_SESSIONS", value_name = "NUMBER", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_sessions: u32,

    /// Most sessions that are kept in memory; each takes about 500 bytes
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_CACHE_CAPACITY", value_name = "NUMBER",
        default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub session_cache_capacity: u32,

    /// How long a session that another process revoked may still be good here; at most this long the database may be
    /// out of reach before checks are refused
    #[arg(global = true, long, env = "PHONE_IDENTITY_STALENESS_BOUND", value_name = "DURATION", default_value = "1s",
        value_parser = positive_duration)]
    pub staleness_bound: Duration,

    /// How often the change log is read, by which one process knows of what another revoked; less than the staleness
    /// bound
    #[arg(global = true, long, env = "PHONE_IDENTITY_CHANGE_LOG_INTERVAL", value_name = "DURATION",
        default_value = "250ms", value_parser = positive_duration)]
    pub change_log_interval: Duration,

    /// How often sessions that have ended are removed from the database
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLEANUP_INTERVAL", value_name = "DURATION", default_value = "1m",
        value_parser = positive_duration)]
    pub cleanup_interval: Duration,

    /// How long events stay in the audit log
    #[arg(global = true, long, env = "PHONE_IDENTITY_AUDIT_RETENTION", value_name = "DURATION", default_value = "90d",
        value_parser = positive_duration)]
    pub audit_retention: Duration,

    /// Maximum number of events in the audit log; the oldest beyond it are removed. 0: no limit
    #[arg(global = true, long, env = "PHONE_IDENTITY_AUDIT_MAX_ROWS", value_name = "NUMBER", default_value = "10000000",
        value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub audit_max_rows: u64,

    /// How long after signing in a person needs no password to change their account
    #[arg(global = true, long, env = "PHONE_IDENTITY_REAUTHENTICATION_WINDOW", value_name = "DURATION",
        default_value = "5m", value_parser = duration)]
    pub reauthentication_window: Duration,

    /// Shortest time after which a failed sign-in is answered
    #[arg(global = true, long, env = "PHONE_IDENTITY_MIN_FAILED_SIGN_IN_DURATION", value_name = "DURATION",
        default_value = "100ms", value_parser = duration)]
    pub min_failed_sign_in_duration: Duration,

    /// Accept a database and secret files that all users of the machine can read or write, with a warning at the start
    #[arg(global = true, long, env = "PHONE_IDENTITY_ALLOW_READABLE_SECRETS", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub allow_readable_secrets: bool,

    /// How attempts are slowed down.
    #[command(flatten)]
    pub throttle: ThrottleSettings,

    /// How passwords are hashed.
    #[command(flatten)]
    pub hashing: HashingSettings,

    /// Registering and changing a phone number.
    #[command(flatten)]
    pub registration: RegistrationSettings,

    /// One-time codes.
    #[command(flatten)]
    pub codes: CodeSettings,

    /// SMS.
    #[command(flatten)]
    pub sms: SmsSettings,

    /// Bounds on SMS.
    #[command(flatten)]
    pub sms_limits: SmsLimitSettings,

    /// Who may call.
    #[command(flatten)]
    pub access: AccessSettings,

    /// Bounds on connections and calls.
    #[command(flatten)]
    pub wire: WireSettings,

    /// What operators look at.
    #[command(flatten)]
    pub operations: OperationsSettings,

    /// Form of the log [default: pretty on a terminal, else json]
    #[arg(global = true, long, env = "PHONE_IDENTITY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Least important messages that are logged
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: LogLevel,

    /// The version level of the program, which is no setting: see [`VERSION_LEVEL`].
    #[arg(skip = VERSION_LEVEL)]
    pub version_level: i32,
}

impl Settings {
    /// Where the database is.
    ///
    /// # Errors
    /// When it is given twice, or its file cannot be read or is open to other users.
    pub fn database_url(&self) -> Result<SecretString, ConfigError> {
        let url = secret(
            "DATABASE_URL",
            self.database_url.as_ref(),
            self.database_url_file.as_deref(),
            self.allow_readable_secrets,
        )?;
        Ok(url.map_or_else(
            || SecretString::from(DEFAULT_DATABASE_URL),
            |url| SecretString::from(url.expose_secret().trim_end()),
        ))
    }

    /// Which database, and how patient to be with it.
    ///
    /// # Errors
    /// As [`Self::database_url`].
    pub fn store(&self) -> Result<store::Options, ConfigError> {
        Ok(store::Options {
            url: self.database_url()?,
            url_file: self.database_url_file.clone(),
            allow_readable_secrets: self.allow_readable_secrets,
            connections: self.database_connections,
            acquire_timeout: self.database_acquire_timeout,
            statement_timeout: self.database_statement_timeout,
            version_level: self.version_level,
        })
    }

    /// How phone numbers and passwords are read.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            default_region: self.default_region,
            line_types: self.allowed_line_types.iter().copied().collect(),
            password_min_length: self.password_min_length,
        }
    }

    /// How accounts are dealt with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            lifetimes: Lifetimes {
                absolute: self.session_lifetime,
                idle: self.session_idle_lifetime,
            },
            max_sessions: self.max_sessions,
            reauthentication_window: self.reauthentication_window,
            min_failed_sign_in_duration: self.min_failed_sign_in_duration,
            device_lifetime: self.throttle.device_lifetime,
            max_devices: self.throttle.max_devices,
            notices: (!self.sms.sms_providers.is_empty()).then(|| self.sms_limits.reach()),
            // Without codes there is no other way to change a number.
            unverified_phone_change: self.sms.sms_providers.is_empty()
                || self.registration.unverified_phone_change,
            phone_change_hold: self.registration.phone_change_hold,
        }
    }

    /// How the audit log is kept within its limit.
    #[must_use]
    pub fn audit(&self) -> audit::Options {
        audit::Options {
            max_rows: self.audit_max_rows,
            cleanup_interval: self.cleanup_interval,
        }
    }

    /// How sessions are checked.
    ///
    /// # Errors
    /// When the change log would be read more seldom than the staleness bound allows.
    pub fn sessions(&self) -> Result<sessions::Options, ConfigError> {
        if self.change_log_interval >= self.staleness_bound {
            return Err(ConfigError::ChangeLogInterval);
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let connections = usize::try_from(self.database_connections).unwrap_or(usize::MAX);
        Ok(sessions::Options {
            lifetimes: self.policy().lifetimes,
            cache_capacity: usize::try_from(self.session_cache_capacity).unwrap_or(usize::MAX),
            lookup_queries: cores.min(connections),
            change_log_interval: self.change_log_interval,
            change_log_timeout: self.staleness_bound / 2,
            cleanup_interval: self.cleanup_interval,
            audit_retention: self.audit_retention,
        })
    }
}
