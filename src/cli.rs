//! Command line: parses the settings and runs one command.
//!
//! Exit codes: 0 success, 1 the command failed, 2 a setting or an argument is invalid or the service cannot start.

mod audit;
mod backup;
mod calibrate;
mod dotenv;
mod environment;
mod healthcheck;
mod messages;
mod operator;
mod output;
mod phone_check;
mod serve;
mod service_key;
mod terminal;
mod users;

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chrono::SecondsFormat;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use secrecy::SecretString;
use tokio::runtime::{self, Runtime};

use crate::app::StartError;
use crate::clock::Timestamp;
use crate::config::{Settings, line_of_substitution};
use crate::domain::phone::Region;
use crate::domain::rules::Rules;
use crate::i18n::Language;
use crate::store::changes::VERSION_LEVEL;
use crate::telemetry::logging;
use messages::Messages;

/// The version, and the commit from which it was built (or `unknown`); see build.rs.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("PHONE_IDENTITY_COMMIT"),
    ")"
);

const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;

/// Variables with secrets. clap does not read them, because each of its variables is also an argument, and all users of
/// the machine can read arguments.
const SECRETS: [&str; 6] = [
    "PHONE_IDENTITY_PEPPERS",
    "PHONE_IDENTITY_CODE_KEYS",
    "PHONE_IDENTITY_TWILIO_AUTH_TOKEN",
    "PHONE_IDENTITY_PLAYMOBILE_PASSWORD",
    "PHONE_IDENTITY_WEBHOOK_SECRET",
    "PHONE_IDENTITY_OPERATOR_KEY",
];

/// Phone-number identity service over gRPC: registration, sign-in by password or one-time code, and session checks
#[derive(Debug, Parser)]
#[command(name = "phone-identity", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC; the default command
    Serve,
    /// Migrate the database schema to this version
    Migrate,
    /// Copy the SQLite database into a new file, while the service uses it
    Backup {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Invalidate the caches of all running replicas after the database was restored
    AfterRestore,
    /// Create a user with the flags staff and superuser
    Createsuperuser {
        /// Phone number of the new superuser
        #[arg(long, alias = "phone_number", value_name = "NUMBER")]
        phone_number: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Set the password of a user, and revoke all sessions of the user
    Changepassword {
        /// Phone number or id of the user
        #[arg(value_name = "NUMBER|ID")]
        user: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List the audit log, newest event first
    Audit(audit::AuditArguments),
    /// Manage users, as service PhoneIdentityAdmin does for superusers
    Users {
        #[command(subcommand)]
        command: users::UsersCommand,
        /// Print one JSON object per line instead of a table
        #[arg(long, global = true)]
        json: bool,
    },
    /// Create, list and revoke the service keys that authenticate calling services
    ServiceKey {
        #[command(subcommand)]
        command: service_key::ServiceKeyCommand,
    },
    /// Parse phone numbers and print a TSV line for each: input, E.164 form, line type, region, and ok or the reason
    PhoneCheck {
        /// Region of national numbers, instead of --default-region
        #[arg(long, value_name = "REGION")]
        region: Option<Region>,
        /// Phone numbers; without any, lines NUMBER[<TAB>REGION] are read from standard input
        #[arg(value_name = "NUMBER", allow_hyphen_values = true)]
        numbers: Vec<String>,
    },
    /// Query the gRPC health of a running server; the exit code is 0 for SERVING, otherwise 1
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Measure this machine, and print recommended Argon2id parameters as lines for .env
    Calibrate {
        /// Maximum duration of a hash, 1ms to 1s
        #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = calibrate::target)]
        target: Duration,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct PasswordSource {
    /// Read the password from the first line of standard input, without a prompt
    #[arg(long)]
    password_stdin: bool,
}

/// Failure of a command.
enum Failure {
    /// The command failed.
    Failed(String),
    /// A setting or an argument is invalid, or the service cannot start.
    Unusable(String),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    main_at_level(VERSION_LEVEL)
}

/// Runs the program with another version level, for the tests of the version floor.
#[must_use]
pub fn main_at_level(version_level: i32) -> ExitCode {
    // Used until the settings are parsed.
    let mut messages = Messages::new(Language::default());
    let outcome = load_dotenv()
        .and_then(|()| parse(env::args_os().filter(|arg| !is_empty_flag(arg))))
        .and_then(|cli| {
            let Some(mut cli) = cli else { return Ok(()) };
            cli.settings.version_level = version_level;
            messages = Messages::new(cli.settings.default_language);
            run(cli, messages)
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (message, code) = match failure {
                Failure::Failed(message) => (message, FAILED),
                Failure::Unusable(message) => (message, UNUSABLE),
            };
            let values = [("problem", message.as_str().into())];
            output::note(&messages.say("cli-error", &values));
            ExitCode::from(code)
        }
    }
}

/// Maximum size of `.env` in bytes.
const MAX_DOTENV_BYTES: u64 = 1024 * 1024;

/// Loads `.env` of the working directory into the environment. Variables that are set take precedence.
fn load_dotenv() -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::Unusable(format!(".env cannot be read: {error}"));
    let Some(file) = dotenv::open(Path::new(""))? else {
        return Ok(());
    };
    let mut text = String::new();
    file.take(MAX_DOTENV_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_DOTENV_BYTES {
        return Err(Failure::Unusable(".env is larger than 1 MiB".to_owned()));
    }
    if let Some(line) = line_of_substitution(&text) {
        return Err(Failure::Unusable(format!(
            "line {line} of .env has a $ that starts a substitution: put the value into single quotes, or write \\$"
        )));
    }
    dotenvy::from_read(text.as_bytes()).map_err(|error| match error {
        dotenvy::Error::Io(error) => unreadable(error),
        // The error contains the line, which may contain a secret.
        _ => Failure::Unusable(".env has a line that is not NAME=value".to_owned()),
    })
}

/// Parses the command line. `None`: it requested the help or the version, which was printed.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Cli>, Failure> {
    // An empty variable means unset, but clap would parse it as an empty value.
    let command = Cli::command().mut_args(|arg| {
        let is_empty = arg
            .get_env()
            .and_then(env::var_os)
            .is_some_and(|value| value.is_empty());
        if is_empty { arg.env(None::<&str>) } else { arg }
    });
    let parsed = command
        .try_get_matches_from(args)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(mut cli) => {
            let [peppers, code_keys, twilio, playmobile, webhook, operator] = SECRETS;
            cli.settings.hashing.peppers = secret_of_environment(peppers)?;
            cli.settings.codes.code_keys = secret_of_environment(code_keys)?;
            let sms = &mut cli.settings.sms;
            sms.twilio_auth_token = secret_of_environment(twilio)?;
            sms.playmobile_password = secret_of_environment(playmobile)?;
            sms.webhook_secret = secret_of_environment(webhook)?;
            cli.settings.access.operator_key = secret_of_environment(operator)?;
            Ok(Some(cli))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // An error means that the reader closed the pipe.
            let _ = error.print();
            Ok(None)
        }
        Err(error) => Err(Failure::Unusable(one_line(&error))),
    }
}

/// Reads one of [`SECRETS`].
fn secret_of_environment(name: &str) -> Result<Option<SecretString>, Failure> {
    match env::var(name) {
        Ok(text) => Ok((!text.is_empty()).then(|| SecretString::from(text))),
        Err(env::VarError::NotPresent) => Ok(None),
        // The error contains the value.
        Err(env::VarError::NotUnicode(_)) => Err(Failure::Unusable(format!("{name} is not UTF-8"))),
    }
}

/// Returns whether an argument is a flag with an empty value, `--some-setting=`. It means unset, as in the environment;
/// deployment templates produce such flags.
fn is_empty_flag(arg: &OsString) -> bool {
    arg.to_str()
        .and_then(|arg| arg.strip_prefix("--")?.strip_suffix('='))
        .is_some_and(|name| !name.contains('='))
}

/// Returns the error of clap on one line, without its usage and advice.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn run(cli: Cli, messages: Messages) -> Result<(), Failure> {
    let Cli { command, settings } = cli;
    match command.unwrap_or(Command::Serve) {
        Command::Serve => runtime(&settings)?.block_on(serve::serve(settings)),
        Command::Migrate => runtime(&settings)?.block_on(operator::migrate(&settings, messages)),
        Command::Backup { file } => runtime(&settings)?.block_on(backup::backup(&settings, &file, messages)),
        Command::AfterRestore => runtime(&settings)?.block_on(backup::after_restore(&settings, messages)),
        Command::Createsuperuser {
            phone_number,
            password,
        } => runtime(&settings)?.block_on(operator::create_superuser(
            settings,
            &phone_number,
            password.password_stdin,
            messages,
        )),
        Command::Changepassword { user, password } => runtime(&settings)?.block_on(
            operator::change_password(settings, &user, password.password_stdin, messages),
        ),
        Command::Audit(arguments) => {
            runtime(&settings)?.block_on(audit::audit(&settings, arguments, messages))
        }
        Command::Users { command, json } => {
            runtime(&settings)?.block_on(users::run(settings, command, json, messages))
        }
        Command::ServiceKey { command } => {
            runtime(&settings)?.block_on(service_key::run(&settings, command, messages))
        }
        Command::PhoneCheck { region, numbers } => {
            let rules = Rules {
                default_region: region.or(settings.default_region),
                ..settings.rules()
            };
            match check_phones(&numbers, rules) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                outcome => outcome.map_err(|error| Failure::Failed(error.to_string())),
            }
        }
        Command::Healthcheck(arguments) => {
            let out = io::stdout().lock();
            // Container health checks run every few seconds, so one thread has to be enough.
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?
                .block_on(healthcheck::healthcheck(&settings, arguments, messages, out))
        }
        Command::Calibrate { target } => {
            init_logging(&settings)?;
            calibrate::calibrate(&settings, target, messages, io::stdout().lock())
        }
    }
}

/// Starts the log, checks the environment, and creates the runtime of async commands.
fn runtime(settings: &Settings) -> Result<Runtime, Failure> {
    init_logging(settings)?;
    environment::check()?;
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unusable(format!("cannot start: {error}")))
}

fn init_logging(settings: &Settings) -> Result<(), Failure> {
    logging::init(settings.log_format, settings.log_level)
        .map_err(|error| Failure::Unusable(error.to_string()))
}

fn check_phones(numbers: &[String], rules: Rules) -> io::Result<()> {
    let out = io::BufWriter::new(io::stdout().lock());
    if numbers.is_empty() {
        phone_check::check_lines(io::stdin().lock(), rules, out)
    } else {
        phone_check::check_arguments(numbers, rules, out)
    }
}

/// Returns a time with microseconds, as it is stored.
fn exact(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
