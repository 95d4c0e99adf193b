//! Sanitizer of inputs for the phone number parser: it maps, removes or rejects each character.
//!
//! libphonenumber accepts far more than numbers: letters as keypad digits, `tel:` links with parameters, extensions,
//! and most punctuation of Unicode. Two ports of it agree on ordinary numbers and differ on such inputs, and
//! `1;phone-context=a;tel:` makes the port in use here panic. So the sanitizer only accepts the characters of numbers.
//! All rules are in [`fold`].

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use rlibphonenumber::PHONE_NUMBER_UTIL;

use super::PhoneError;

/// Maximum length of an input in characters (Unicode scalar values, not bytes), without the characters that are
/// removed.
///
/// The longest number of libphonenumber has 20 digits, which leaves one separator for each digit.
pub const MAX_INPUT_CHARS: usize = 40;

/// Maximum length of an input in bytes, including the characters that [`fold`] removes: one of them for each of
/// [`MAX_INPUT_CHARS`] characters, at four bytes a character.
pub(crate) const MAX_INPUT_BYTES: usize = 2 * 4 * MAX_INPUT_CHARS;

/// The result of folding a character.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Folded {
    /// The character stands for this ASCII character.
    Ascii(char),
    /// The character has no meaning, and is removed.
    Removed,
    /// The character is not allowed.
    Refused,
}

/// Folds a character of a phone number or a one-time code.
///
/// Folds the decimal digits of all scripts (Unicode category Nd), the full-width plus sign, and the hyphens, dashes and
/// minus signs that word processors and phones use in place of `-`. Removes the characters that copying from a page or
/// a contact card adds: format characters (category Cf), spaces (Zs), and line ends. Refuses all others: letters, other
/// punctuation, and control characters such as tabs.
#[must_use]
pub(crate) fn fold(c: char) -> Folded {
    match c {
        '0'..='9' | '+' | ' ' | '-' | '.' | '(' | ')' | '/' => Folded::Ascii(c),
        '\u{FF0B}' => Folded::Ascii('+'),
        // Hyphen, non-breaking hyphen, figure dash, en dash, em dash, horizontal bar; minus sign; full-width hyphen.
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FF0D}' => Folded::Ascii('-'),
        _ if is_removed(c) => Folded::Removed,
        _ if c.is_ascii() => Folded::Refused,
        // The parser's table of decimal digits, so that sanitizer and parser have the same digits. It contains category
        // Nd only: no superscripts, circled digits or number words.
        _ => PHONE_NUMBER_UTIL
            .normalize_digits_only(c.encode_utf8(&mut [0; 4]))
            .chars()
            .next()
            .map_or(Folded::Refused, Folded::Ascii),
    }
}

/// Whether [`fold`] removes `c`. The ASCII space is not removed: the parser ignores it, and an input of spaces does not
/// count as empty.
pub(crate) fn is_removed(c: char) -> bool {
    match c {
        // Line ends of Unicode section 5.8, except vertical tab and form feed.
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
        _ if c.is_ascii() => false,
        _ => matches!(
            CodePointMapData::<GeneralCategory>::new().get(c),
            GeneralCategory::Format | GeneralCategory::SpaceSeparator
        ),
    }
}

/// Returns `input` in ASCII: at most [`MAX_INPUT_CHARS`] of the characters `+ 0-9 space - . ( ) /`.
///
/// # Errors
/// [`PhoneError::Empty`], [`PhoneError::InputTooLong`] or [`PhoneError::CharacterNotAllowed`].
pub(super) fn sanitize(input: &str) -> Result<String, PhoneError> {
    if input.is_empty() {
        return Err(PhoneError::Empty);
    }
    // First, because an input can be as long as a message.
    if input.len() > MAX_INPUT_BYTES || input.chars().filter(|c| !is_removed(*c)).count() > MAX_INPUT_CHARS {
        return Err(PhoneError::InputTooLong);
    }
    let mut folded = String::with_capacity(MAX_INPUT_CHARS);
    for c in input.chars() {
        match fold(c) {
            Folded::Ascii(c) => folded.push(c),
            Folded::Removed => {}
            Folded::Refused => return Err(PhoneError::CharacterNotAllowed),
        }
    }
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_characters_of_numbers_are_unchanged() {
        let all = "+0123456789 -.()/";
        assert_eq!(sanitize(all).as_deref(), Ok(all));
    }

    #[test]
    fn signs_that_look_like_plus_and_dash_are_folded() {
        assert_eq!(sanitize("\u{FF0B}1").as_deref(), Ok("+1"));
        let dashes = "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{FF0D}";
        assert_eq!(sanitize(dashes).as_deref(), Ok("--------"));
        // The neighbours of the folded ranges are not folded.
        for c in [
            '\u{200F}', '\u{2016}', '\u{2211}', '\u{2213}', '\u{FF0A}', '\u{FF0C}', '\u{FF0E}',
        ] {
            assert_ne!(fold(c), Folded::Ascii('+'), "{c:?}");
            assert_ne!(fold(c), Folded::Ascii('-'), "{c:?}");
        }
    }

    #[test]
    fn decimal_digits_of_every_script_are_folded() {
        // The zeros of some scripts, from the Unicode code charts. The other nine digits follow each zero.
        let zeros = [
            '\u{0660}',  // Arabic-Indic
            '\u{06F0}',  // Extended Arabic-Indic
            '\u{07C0}',  // NKo
            '\u{0966}',  // Devanagari
            '\u{09E6}',  // Bengali
            '\u{0E50}',  // Thai
            '\u{1040}',  // Myanmar
            '\u{17E0}',  // Khmer
            '\u{1810}',  // Mongolian
            '\u{FF10}',  // full-width
            '\u{1D7CE}', // mathematical bold
            '\u{1E950}', // Adlam
            '\u{1FBF0}', // segmented
        ];
        for zero in zeros {
            let digits: String = (0..10)
                .filter_map(|n| char::from_u32(u32::from(zero) + n))
                .collect();
            assert_eq!(sanitize(&digits).as_deref(), Ok("0123456789"), "{zero:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_decimal_digits_are_refused() {
        // Superscript, subscript, circled, parenthesised, Roman, Ethiopic (no zero), a fraction, a Chinese
        // numeral.
        for c in ['²', '₂', '②', '⑵', 'Ⅱ', '\u{136A}', '½', '二'] {
            assert_eq!(fold(c), Folded::Refused, "{c:?}");
        }
    }

    /// Members of each class from the Unicode character database: the first and the last of Cf and of Zs, the
    /// characters that phones and pages add, and the line ends.
    #[test]
    fn format_characters_spaces_and_line_ends_are_removed_at_any_position() {
        let removed = [
            '\u{AD}',
            '\u{600}',
            '\u{61C}',
            '\u{180E}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{200F}',
            '\u{202A}',
            '\u{202B}',
            '\u{202C}',
            '\u{202D}',
            '\u{202E}',
            '\u{2060}',
            '\u{2066}',
            '\u{2067}',
            '\u{2068}',
            '\u{2069}',
            '\u{FEFF}',
            '\u{FFF9}',
            '\u{E007F}', // Cf
            '\u{A0}',
            '\u{1680}',
            '\u{2000}',
            '\u{2007}',
            '\u{2009}',
            '\u{202F}',
            '\u{205F}',
            '\u{3000}', // Zs
            '\n',
            '\r',
            '\u{85}',
            '\u{2028}',
            '\u{2029}', // line ends
        ];
        for c in removed {
            assert_eq!(fold(c), Folded::Removed, "{c:?}");
            for input in [
                format!("{c}+998901234567"),
                format!("+99890{c}1234567"),
                format!("+998901234567{c}{c}"),
            ] {
                assert_eq!(sanitize(&input).as_deref(), Ok("+998901234567"), "{input:?}");
            }
        }
        assert_eq!(sanitize("\u{202A}\r\n").as_deref(), Ok(""));
    }

    #[test]
    fn all_other_characters_are_refused_at_any_position() {
        let refused = [
            '\0',
            '\t',
            '\u{B}',
            '\u{C}',
            '\u{1B}',
            '\u{7F}',
            '\u{80}',
            '\u{9F}', // controls
            '\u{34F}',
            '\u{115F}',
            '\u{FE0F}',
            '\u{E0100}', // invisible, of other categories
            '\u{301}',
            '\u{20E3}',
            '\u{E000}',
            '\u{378}', // marks, private use, unassigned
            'a',
            'x',
            'O',
            'Z',
            'о',
            'é',
            'Ａ', // letters, one of them Cyrillic
            ';',
            '=',
            '*',
            '#',
            ',',
            ':',
            '~',
            '[',
            ']',
            '_',
            '\'',
            '"',
            '\\',
            '%',
            '&',
            '!',
            '?',
            '@',
            '\u{FF08}',
            '\u{FF09}',
            '\u{FF0F}',
            '\u{30FC}',
            '\u{2053}',
            '\u{FFFD}',
            '📞',
        ];
        for c in refused {
            for input in [
                format!("{c}+998901234567"),
                format!("+99890{c}1234567"),
                format!("+998901234567{c}"),
            ] {
                assert_eq!(
                    sanitize(&input),
                    Err(PhoneError::CharacterNotAllowed),
                    "{input:?}"
                );
            }
        }
    }

    #[test]
    fn an_input_has_at_most_forty_characters() {
        assert_eq!(sanitize(""), Err(PhoneError::Empty));
        assert!(sanitize(&"1".repeat(40)).is_ok());
        assert_eq!(sanitize(&"1".repeat(41)), Err(PhoneError::InputTooLong));
        assert_eq!(sanitize(&"1".repeat(300)), Err(PhoneError::InputTooLong));
        // Characters count, not bytes: forty digits of four bytes each are allowed.
        assert!(sanitize(&"\u{1D7CE}".repeat(40)).is_ok());
        assert_eq!(sanitize(&"\u{1D7CE}".repeat(41)), Err(PhoneError::InputTooLong));
        // The length is checked before the characters.
        assert_eq!(sanitize(&"x".repeat(65_536)), Err(PhoneError::InputTooLong));
        assert_eq!(sanitize(&"x".repeat(41)), Err(PhoneError::InputTooLong));
        assert_eq!(sanitize(&"x".repeat(40)), Err(PhoneError::CharacterNotAllowed));
    }

    /// Removed characters do not count as characters. They have a separate limit.
    #[test]
    fn removed_characters_are_limited_in_bytes() {
        let digits = "1\u{200B}".repeat(40);
        assert_eq!(sanitize(&digits).as_deref(), Ok("1".repeat(40).as_str()));
        let marks = |bytes: usize| format!("1{}", "\u{AD}".repeat((bytes - 1) / 2));
        assert_eq!(MAX_INPUT_BYTES, 320);
        assert_eq!(sanitize(&marks(319)).as_deref(), Ok("1"));
        assert_eq!(sanitize(&marks(321)), Err(PhoneError::InputTooLong));
    }
}
