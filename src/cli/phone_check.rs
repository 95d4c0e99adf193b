//! `phone-check`: shows what this service makes of phone numbers, one line of tab-separated values for each.
//!
//! The columns are: the input, its E.164 form, line type, region code (or `-` where there is none, when the
//! number may not be taken), and `ok` or the reason of the refusal. A valid number whose line type may not
//! register keeps its values, with the reason `line_type_not_allowed`.
//!
//! Characters of the input that a terminal does not show as they are, such as tabs, no-break spaces and marks
//! of the writing direction, are written as escapes (`\t`, `\u{a0}`, and `\\` for a backslash), so that one
//! number is one line, and what is wrong with it can be seen.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read, Write};

use crate::domain::phone::{LineTypes, NumberRegion, PhoneError, PhoneNumber, Region};
use crate::domain::rules::Rules;

/// The most bytes of a line of input that are read; the rest of a longer line is skipped, and the number is
/// refused. Far more than a number and a region can have.
const MAX_LINE_BYTES: usize = 4096;

/// Checks `numbers` and writes a line for each to `out`.
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

/// Checks the lines of `input` and writes a line for each to `out`. Give it a buffered `out`.
///
/// A line is a number, and after a tab, if it has one, the region of the number; an empty region means the
/// default one. It ends with `\n` or `\r\n`. No line stops the check, whatever is in it: bytes that are not
/// UTF-8 are shown as U+FFFD and refused as characters that are not allowed, and a line of over 4096 bytes is
/// shown cut, and refused as too long.
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

/// Reads the next line into `line`, without its end: `None` at the end of the input, else whether it is the
/// whole line.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    // Room for an end of two bytes, so that a line of exactly the most bytes is still whole.
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
        // The last line of the input, which has no end.
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

/// Takes a number of any line type: whether that type may register is for the row to say.
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

/// Writes `text` with escapes for whatever cannot be seen.
fn write_visible(out: &mut impl Write, text: &str) -> io::Result<()> {
    for c in text.chars() {
        match c {
            // Quotes need no escape here, unlike in a string of Rust, whose escapes these are otherwise.
            '\'' | '"' => write!(out, "{c}")?,
            _ => write!(out, "{}", c.escape_debug())?,
        }
    }
    Ok(())
}
