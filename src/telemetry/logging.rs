//! Structured logging to standard error: readable text on a terminal, otherwise JSON.
//!
//! The log level applies to this program. Libraries log warnings and errors only, because their messages of finer
//! levels contain headers and statements, and with them tokens.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, fmt};

/// Log format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Readable text
    Pretty,
    /// One JSON object per line
    Json,
}

/// Minimum severity of messages in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogLevel {
    /// Faults of the service
    Error,
    /// Also conditions that need an operator
    Warn,
    /// Also one line per call
    Info,
    /// Also details for diagnosis
    Debug,
    /// All messages
    Trace,
}

/// Initializes logging. The program calls it once, before it logs.
///
/// # Errors
/// When logging is already initialized.
pub fn init(format: Option<LogFormat>, level: LogLevel) -> Result<(), TryInitError> {
    let is_terminal = io::stderr().is_terminal();
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let targets = Targets::new()
        .with_default(LevelFilter::from_level(level.min(Level::WARN)))
        .with_target("phone_identity", level);
    let default = if is_terminal {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    };
    let output = match format.unwrap_or(default) {
        LogFormat::Pretty => fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(is_terminal)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(io::stderr)
            .boxed(),
    };
    Registry::default().with(output.with_filter(targets)).try_init()
}
