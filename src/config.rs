//! Settings: one struct, parsed once from flags, environment and `.env`, and validated once.
//!
//! The environment variable of `--some-setting` is `PHONE_IDENTITY_SOME_SETTING`. An empty value means unset. Secrets
//! come from the environment or from a `..._FILE` only. Help and error texts never contain them.

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

/// All settings, as parsed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Address of the gRPC listener
    ///
    /// Port 0 picks a free port and prints the address to standard output.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051",
        value_parser = listen_address
    )]
    pub listen: SocketAddr,

    /// Database URL: sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE or mysql://... [default:
    /// sqlite://phone-identity.db]
    ///
    /// The form for MariaDB is mysql://USER:PASSWORD@HOST/DATABASE. A missing SQLite file is created.
    #[arg(
        global = true,
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,

    /// File with the database URL, instead of --database-url
    #[arg(global = true, long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,

    /// Maximum number of database connections, besides 1 for the change log and 2 for lists
    ///
    /// On SQLite it limits the connections that read; one more connection writes. Range: 1 to 1000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,

    /// Timeout of waiting for a database connection, and for a lock that another transaction holds
    ///
    /// Range: 1ms to 1h.
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_ACQUIRE_TIMEOUT", value_name = "DURATION",
        default_value = "2s", value_parser = database_timeout)]
    pub database_acquire_timeout: Duration,

    /// Timeout of a database statement, and of an idle transaction; on SQLite it applies to lists only
    ///
    /// Range: 1ms to 1h.
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION",
        default_value = "5s", value_parser = database_timeout)]
    pub database_statement_timeout: Duration,

    /// How long the start waits for a database that is unreachable or read-only; 0 tries once
    #[arg(global = true, long, env = "PHONE_IDENTITY_DATABASE_START_TIMEOUT", value_name = "DURATION",
        default_value = "30s", value_parser = duration)]
    pub database_start_timeout: Duration,

    /// Region of national phone numbers that come without one, such as UZ [default: none, such numbers are rejected]
    ///
    /// ISO 3166-1 code of two letters.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_DEFAULT_REGION",
        value_name = "REGION"
    )]
    pub default_region: Option<Region>,

    /// Fallback language of texts when the requested one is not available: en, uz, ru or tr
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

    /// Minimum length of a new password, in characters; range 8 to 128
    #[arg(global = true, long, env = "PHONE_IDENTITY_PASSWORD_MIN_LENGTH", value_name = "NUMBER", default_value = "8",
        value_parser = password_min_length)]
    pub password_min_length: usize,

    /// File of breached passwords; new passwords that it contains are rejected
    ///
    /// The file is a Have I Been Pwned download of SHA-1 hashes, ordered by hash.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_BREACHED_PASSWORDS_FILE",
        value_name = "FILE"
    )]
    pub breached_passwords_file: Option<PathBuf>,

    /// Absolute lifetime of a session, from its sign-in
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_LIFETIME", value_name = "DURATION", default_value = "30d",
        value_parser = positive_duration)]
    pub session_lifetime: Duration,

    /// Idle lifetime of a session, from its last use
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_IDLE_LIFETIME", value_name = "DURATION",
        default_value = "14d", value_parser = positive_duration)]
    pub session_idle_lifetime: Duration,

    /// Maximum number of live sessions per user; a new one revokes the oldest
    ///
    /// Range: 1 to 1000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_SESSIONS", value_name = "NUMBER", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_sessions: u32,

    /// Maximum number of sessions in the cache; each uses about 500 bytes of memory
    ///
    /// Range: 1 to 100000000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_SESSION_CACHE_CAPACITY", value_name = "NUMBER",
        default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub session_cache_capacity: u32,

    /// Maximum time for which another replica may still accept a revoked session
    ///
    /// A replica that cannot read the change log for this long no longer answers session checks from its cache. It
    /// queries the database, and returns UNAVAILABLE if that fails.
    #[arg(global = true, long, env = "PHONE_IDENTITY_STALENESS_BOUND", value_name = "DURATION", default_value = "1s",
        value_parser = positive_duration)]
    pub staleness_bound: Duration,

    /// Interval at which a replica reads the change log for revocations of other replicas
    ///
    /// It must be less than --staleness-bound.
    #[arg(global = true, long, env = "PHONE_IDENTITY_CHANGE_LOG_INTERVAL", value_name = "DURATION",
        default_value = "250ms", value_parser = positive_duration)]
    pub change_log_interval: Duration,

    /// Interval at which expired sessions are removed from the database
    #[arg(global = true, long, env = "PHONE_IDENTITY_CLEANUP_INTERVAL", value_name = "DURATION", default_value = "1m",
        value_parser = positive_duration)]
    pub cleanup_interval: Duration,

    /// How long events are kept in the audit log
    #[arg(global = true, long, env = "PHONE_IDENTITY_AUDIT_RETENTION", value_name = "DURATION", default_value = "90d",
        value_parser = positive_duration)]
    pub audit_retention: Duration,

    /// Maximum number of events in the audit log; the oldest are removed first; 0 disables the limit
    ///
    /// Range: 0 to 1000000000000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_AUDIT_MAX_ROWS", value_name = "NUMBER", default_value = "10000000",
        value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000))]
    pub audit_max_rows: u64,

    /// How long after a sign-in a user can change the account without the current password; 0 always requires it
    #[arg(global = true, long, env = "PHONE_IDENTITY_REAUTHENTICATION_WINDOW", value_name = "DURATION",
        default_value = "5m", value_parser = duration)]
    pub reauthentication_window: Duration,

    /// Minimum response time of a failed sign-in; 0 disables it
    ///
    /// It must be less than --request-timeout.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MIN_FAILED_SIGN_IN_DURATION", value_name = "DURATION",
        default_value = "100ms", value_parser = duration)]
    pub min_failed_sign_in_duration: Duration,

    /// Accept a database and secret files that other users of the machine can read or write; logs a warning
    #[arg(global = true, long, env = "PHONE_IDENTITY_ALLOW_READABLE_SECRETS", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub allow_readable_secrets: bool,

    /// Rate limits.
    #[command(flatten)]
    pub throttle: ThrottleSettings,

    /// Password hashing.
    #[command(flatten)]
    pub hashing: HashingSettings,

    /// Registration, and changes of a phone number.
    #[command(flatten)]
    pub registration: RegistrationSettings,

    /// One-time codes.
    #[command(flatten)]
    pub codes: CodeSettings,

    /// SMS providers.
    #[command(flatten)]
    pub sms: SmsSettings,

    /// SMS limits.
    #[command(flatten)]
    pub sms_limits: SmsLimitSettings,

    /// Authentication of calling services.
    #[command(flatten)]
    pub access: AccessSettings,

    /// Limits of connections and calls.
    #[command(flatten)]
    pub wire: WireSettings,

    /// Metrics and traces.
    #[command(flatten)]
    pub operations: OperationsSettings,

    /// Log format [default: pretty on a terminal, otherwise json]
    #[arg(global = true, long, env = "PHONE_IDENTITY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Minimum severity of messages in the log
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub log_level: LogLevel,

    /// The version level of the program. It is not a setting; see [`VERSION_LEVEL`].
    #[arg(skip = VERSION_LEVEL)]
    pub version_level: i32,
}

impl Settings {
    /// Returns the database URL, or the default one.
    ///
    /// # Errors
    /// When the URL is given twice, or its file cannot be read or is accessible to other users.
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

    /// Returns the options of the store.
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

    /// Returns the rules by which phone numbers and passwords are parsed.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            default_region: self.default_region,
            line_types: self.allowed_line_types.iter().copied().collect(),
            password_min_length: self.password_min_length,
        }
    }

    /// Returns the account policy.
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
            // A server without SMS has no other way to change a phone number.
            unverified_phone_change: self.sms.sms_providers.is_empty()
                || self.registration.unverified_phone_change,
            phone_change_hold: self.registration.phone_change_hold,
        }
    }

    /// Returns the options of the audit log.
    #[must_use]
    pub fn audit(&self) -> audit::Options {
        audit::Options {
            max_rows: self.audit_max_rows,
            cleanup_interval: self.cleanup_interval,
        }
    }

    /// Returns the options of session checks and of the change-log follower.
    ///
    /// # Errors
    /// When --change-log-interval is not less than --staleness-bound.
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
