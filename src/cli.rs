//! The command line: reads the settings, and runs one command.
//!
//! Exit codes: 0 done, 1 the command could not do it, 2 a setting or an argument is bad or the service cannot start.

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

/// The version and the commit of which it was built, or `unknown`: see build.rs.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("PHONE_IDENTITY_COMMIT"),
    ")"
);

const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;

/// The variables of secrets. clap does not read them, since what clap reads can be given as an argument, which all
/// users of the machine see.
const SECRETS: [&str; 6] = [
    "PHONE_IDENTITY_PEPPERS",
    "PHONE_IDENTITY_CODE_KEYS",
    "PHONE_IDENTITY_TWILIO_AUTH_TOKEN",
    "PHONE_IDENTITY_PLAYMOBILE_PASSWORD",
    "PHONE_IDENTITY_WEBHOOK_SECRET",
    "PHONE_IDENTITY_OPERATOR_KEY",
];

/// Who is this phone number, does this password belong to it, and is this session still good? Over gRPC.
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
    /// Serve gRPC (what happens without a command, too)
    Serve,
    /// Bring the schema of the database up to date
    Migrate,
    /// Copy the SQLite database into a new file, while it is used
    Backup {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// After the database was restored: make all running processes forget what they know of it
    AfterRestore,
    /// Create a person who is staff and superuser
    Createsuperuser {
        /// Phone number of the new superuser
        #[arg(long, alias = "phone_number", value_name = "NUMBER")]
        phone_number: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Set a person's password, and end their sessions
    Changepassword {
        /// Phone number of the person, or the id
        #[arg(value_name = "NUMBER|ID")]
        person: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Show the audit log, the newest event first
    Audit(audit::AuditArguments),
    /// Look after people, as service PhoneIdentityAdmin does for superusers
    Users {
        #[command(subcommand)]
        command: users::UsersCommand,
        /// Print one JSON object a line instead of a table
        #[arg(long, global = true)]
        json: bool,
    },
    /// Make, list and revoke the keys by which calling services prove who they are
    ServiceKey {
        #[command(subcommand)]
        command: service_key::ServiceKeyCommand,
    },
    /// Say how phone numbers are read: a line of TSV each, with input, E.164, line type, region, and ok or the reason
    PhoneCheck {
        /// Region of national numbers, in the place of the default one
        #[arg(long, value_name = "REGION")]
        region: Option<Region>,
        /// Phone numbers; without any they are read from standard input, a line NUMBER[<TAB>REGION] each
        #[arg(value_name = "NUMBER", allow_hyphen_values = true)]
        numbers: Vec<String>,
    },
    /// Ask a running server by gRPC whether it serves; the exit code is 0 if it says SERVING, and else 1
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Measure this machine, and propose Argon2id parameters as lines for .env
    Calibrate {
        /// Longest time that a hash may take, 1s at most
        #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = calibrate::target)]
        target: Duration,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct PasswordSource {
    /// Read the password from the first line of standard input, without asking
    #[arg(long)]
    password_stdin: bool,
}

/// Why a command ended without having done its work.
enum Failure {
    /// It could not do it.
    Failed(String),
    /// A setting or an argument is bad, or the service cannot start.
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

/// Runs the program as one of another version level, as the tests of the version floor do.
#[must_use]
pub fn main_at_level(version_level: i32) -> ExitCode {
    // Until the settings are known.
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

/// The maximum size of `.env` in bytes.
const MAX_DOTENV_BYTES: u64 = 1024 * 1024;

/// Puts the variables of `.env` in the working directory into the environment, unless they are set.
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
            "line {line} of .env has a $ that would be substituted: put the value into single quotes, or write \\$"
        )));
    }
    dotenvy::from_read(text.as_bytes()).map_err(|error| match error {
        dotenvy::Error::Io(error) => unreadable(error),
        // The error quotes the line, which may contain a secret.
        _ => Failure::Unusable(".env has a line that is not NAME=value".to_owned()),
    })
}

/// Reads the command line. `None`: it asked for help or the version, which was printed.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Cli>, Failure> {
    // An empty variable means unset; to clap it would be an empty value.
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
            // Whoever closed the pipe has seen enough.
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
        // The error has the value in it.
        Err(env::VarError::NotUnicode(_)) => Err(Failure::Unusable(format!("{name} is not UTF-8"))),
    }
}

/// Whether this is `--some-thing=`. Empty means unset, as it does in the environment; templates of deployments make
/// such.
fn is_empty_flag(arg: &OsString) -> bool {
    arg.to_str()
        .and_then(|arg| arg.strip_prefix("--")?.strip_suffix('='))
        .is_some_and(|name| !name.contains('='))
}

/// What clap says over several lines, on one and without the advice that follows.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    said.filter(|line| !line.is_empty())
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
        Command::Changepassword { person, password } => runtime(&settings)?.block_on(
            operator::change_password(settings, &person, password.password_stdin, messages),
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
            // Of a container that is asked every few seconds: one thread is enough.
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?
                .block_on(healthcheck::healthcheck(&settings, arguments, messages, out))
        }
        Command::Calibrate { target } => {
            begin_to_log(&settings)?;
            calibrate::calibrate(&settings, target, messages, io::stdout().lock())
        }
    }
}

/// Starts the log, checks the environment, and creates the runtime of async commands.
fn runtime(settings: &Settings) -> Result<Runtime, Failure> {
    begin_to_log(settings)?;
    environment::check()?;
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unusable(format!("cannot start: {error}")))
}

fn begin_to_log(settings: &Settings) -> Result<(), Failure> {
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

/// A time as it is stored, to the microsecond.
fn exact(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
