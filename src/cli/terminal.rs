//! Terminal output encoding: stored and foreign texts are printed without control characters.
//!
//! A calling service, a newer version or a manual change of the database may have stored escape sequences or direction
//! marks. A table shows U+FFFD instead of them, and JSON contains them as escapes, so that its values stay exact.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::domain::text::is_control_or_format;

/// Returns a text for a table cell or a message: tabs and line ends become spaces, other control and format characters
/// become U+FFFD.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control_or_format) {
        return Cow::Borrowed(text);
    }
    let shown = |character| match character {
        '\t' | '\n' | '\r' => ' ',
        character if is_control_or_format(character) => char::REPLACEMENT_CHARACTER,
        character => character,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Writes a value as one line of JSON, with escapes for all control and format characters.
pub(super) fn write_json(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    // Buffered, so that only complete lines are written.
    let mut line = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut line, Escaping))?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Compact JSON formatter. serde_json itself escapes the control characters below U+0020, so fragments lack them.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(start) = rest.find(is_control_or_format) {
            let (visible, hidden) = rest.split_at(start);
            writer.write_all(visible.as_bytes())?;
            let mut characters = hidden.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(value: &impl Serialize) -> String {
        let mut line = Vec::new();
        write_json(&mut line, value).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn control_characters_are_replaced_in_a_cell_and_escaped_in_json() {
        for (text, cell, escaped) in [
            ("orders", "orders", r#""orders""#),
            ("Ўткир 用户 🦀", "Ўткир 用户 🦀", "\"Ўткир 用户 🦀\""),
            ("\u{1b}[2Ja", "\u{fffd}[2Ja", r#""\u001b[2Ja""#),
            ("a\tb\r\nc", "a b  c", r#""a\tb\r\nc""#),
            ("\u{202e}a\u{200b}", "\u{fffd}a\u{fffd}", r#""\u202ea\u200b""#),
            ("\u{7f}\u{9b}", "\u{fffd}\u{fffd}", r#""\u007f\u009b""#),
            ("\u{2028}\u{feff}", "\u{fffd}\u{fffd}", r#""\u2028\ufeff""#),
            ("x\u{e0041}\"", "x\u{fffd}\"", r#""x\udb40\udc41\"""#),
        ] {
            assert_eq!(printable(text), cell);
            assert_eq!(json(&text), format!("{escaped}\n"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_printed_without_control_characters_and_json_keeps_it(
            text in any::<String>(),
            number in any::<u64>(),
        ) {
            prop_assert!(!printable(&text).contains(is_control_or_format));
            prop_assert_eq!(printable(&text).chars().count(), text.chars().count());
            let line = json(&serde_json::json!({"text": text.as_str(), "number": number}));
            let line = line.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(is_control_or_format), "{}", line);
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&read["text"], text.as_str());
            prop_assert_eq!(&read["number"], number);
        }
    }
}
