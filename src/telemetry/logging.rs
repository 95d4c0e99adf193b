//! Logs: on standard error, for people on a terminal and as JSON elsewhere.
//!
//! The level is that of this program. What it stands on logs warnings only: at finer levels its messages show headers
//! and statements, and with them tokens.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, fmt};

/// The form of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How important a message has to be to be logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogLevel {
    /// Faults.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And one line a call.
    Info,
    /// And what helps to find a fault.
    Debug,
    /// And all else.
    Trace,
}

/// Begins to log. To be called once, first of all.
///
/// # Errors
/// When it was called before.
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
