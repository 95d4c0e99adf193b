//! `phone-check`: parses phone numbers, and prints a line of tab-separated values for each.
//!
//! The columns are: the input, its E.164 form, line type, region code (each `-` for an invalid number), and `ok` or the
//! reason of the rejection. A valid number of a line type that may not register keeps its values, with the reason
//! `line_type_not_allowed`.
//!
//! Invisible characters of the input, such as tabs, no-break spaces and direction marks, are printed as escapes (`\t`,
//! `\u{a0}`, and `\\` for a backslash). So each number is one line, and its problem is visible.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read, Write};

use crate::domain::phone::{LineTypes, NumberRegion, PhoneError, PhoneNumber, Region};
use crate::domain::rules::Rules;

/// Maximum length of an input line in bytes, far more than a number and a region need. The rest of a longer line is
/// skipped, and its number is rejected.
const MAX_LINE_BYTES: usize = 4096;

/// Checks `numbers`, and writes a line for each to `out`.
///
/// # Errors
/// When `out` cannot be written.
pub(super) fn check_arguments<N: AsRef<str>>(
    numbers: impl IntoIterator<Item = N>,
    rules: Rules,
    mut out: impl Write,
) -> io::Result<()> {
    for number in numbers {
        let number = number.as_ref();
        write_row(&mut out, number, check(number, rules), rules)?;
    }
    out.flush()
}

/// Checks the lines of `input`, and writes a line for each to `out`, which should be buffered.
///
/// A line is a number, optionally followed by a tab and the region of the number; an empty region means the default
/// one. It ends with `\n` or `\r\n`. No content of a line stops the check: bytes that are not UTF-8 are printed as
/// U+FFFD and rejected as characters that are not allowed; a line of over 4096 bytes is printed truncated and rejected
/// as too long.
///
/// # Errors
/// When `input` cannot be read or `out` cannot be written.
pub(super) fn check_lines(mut input: impl BufRead, rules: Rules, mut out: impl Write) -> io::Result<()> {
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    while let Some(whole) = read_line(&mut input, &mut line)? {
        let (number, region) = split_at_tab(&line);
        let outcome = if whole {
            check_line(number, region, rules)
        } else {
            Err(PhoneError::InputTooLong)
        };
        write_row(&mut out, &String::from_utf8_lossy(number), outcome, rules)?;
    }
    out.flush()
}

/// Reads the next line into `line`, without its line end. Returns `None` at the end of the input, otherwise whether the
/// line is complete.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    // Two more bytes for the line end, so that a line of exactly the maximum length is complete.
    let limit = MAX_LINE_BYTES + 2;
    input.by_ref().take(limit as u64).read_until(b'\n', line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
    } else if line.len() == limit {
        input.skip_until(b'\n')?;
    } else {
        // The last line of the input, without a line end.
        line.pop_if(|byte| *byte == b'\r');
    }
    let whole = line.len() <= MAX_LINE_BYTES;
    line.truncate(MAX_LINE_BYTES);
    Ok(Some(whole))
}

fn split_at_tab(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b'\t') {
        Some(tab) => (&line[..tab], &line[tab + 1..]),
        None => (line, &[]),
    }
}

fn check_line(number: &[u8], region: &[u8], mut rules: Rules) -> Result<PhoneNumber, PhoneError> {
    if !region.is_empty() {
        let region = str::from_utf8(region).map_err(|_| PhoneError::RegionUnknown)?;
        rules.default_region = Some(Region::parse(region)?);
    }
    check(
        str::from_utf8(number).map_err(|_| PhoneError::CharacterNotAllowed)?,
        rules,
    )
}

/// Parses a number of any line type. The row reports whether the type may register.
fn check(number: &str, rules: Rules) -> Result<PhoneNumber, PhoneError> {
    PhoneNumber::parse_new(number, rules.default_region, LineTypes::all())
}

fn write_row(
    out: &mut impl Write,
    input: &str,
    outcome: Result<PhoneNumber, PhoneError>,
    rules: Rules,
) -> io::Result<()> {
    write_visible(out, input)?;
    match outcome {
        Ok(number) => {
            let line_type = number.line_type();
            let region = number.region();
            writeln!(
                out,
                "\t{}\t{}\t{}\t{}",
                number.as_str(),
                line_type.as_str(),
                region.as_ref().map_or("-", NumberRegion::as_str),
                if rules.line_types.contains(line_type) {
                    "ok"
                } else {
                    PhoneError::LineTypeNotAllowed.reason()
                },
            )
        }
        Err(error) => writeln!(out, "\t-\t-\t-\t{}", error.reason()),
    }
}

/// Writes `text` with escapes for invisible characters.
fn write_visible(out: &mut impl Write, text: &str) -> io::Result<()> {
    for c in text.chars() {
        match c {
            // The escapes are those of Rust strings, except that quotes need none.
            '\'' | '"' => write!(out, "{c}")?,
            _ => write!(out, "{}", c.escape_debug())?,
        }
    }
    Ok(())
}
