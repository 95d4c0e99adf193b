//! Output of commands: a standard output that is full or closed is an error of the command, and never a panic.

use std::io::{self, Write as _};

use super::Failure;

/// Prints a line to standard output. A closed pipe is no failure: its reader needs no more.
///
/// # Errors
/// [`Failure::Failed`] when the line cannot be written.
pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    match write_line(line) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| unwritable(&error)),
    }
}

/// Writes a line to standard output, and flushes it.
///
/// # Errors
/// When it cannot be written, also to a closed pipe.
pub(super) fn write_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a line to standard error. There is no other place to report that this fails.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The failure of a command whose output cannot be written.
pub(super) fn unwritable(error: &io::Error) -> Failure {
    Failure::Failed(format!("standard output cannot be written: {error}"))
}
