//! Output of commands. A full or closed standard output fails the command and never panics.

use std::io::{self, Write as _};

use super::Failure;

/// Prints a line to standard output. A closed pipe is not a failure, because its reader needs no more lines.
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
/// When the line cannot be written, also because of a closed pipe.
pub(super) fn write_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a line to standard error. Errors are ignored, because no other place could report them.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Returns the failure of a command that cannot write its output.
pub(super) fn unwritable(error: &io::Error) -> Failure {
    Failure::Failed(format!("standard output cannot be written: {error}"))
}
