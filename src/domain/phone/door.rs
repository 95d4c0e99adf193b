//! The door in front of the phone number parser: which characters get through, and as what.
//!
//! libphonenumber reads far more than a number: letters as the digits of a keypad, `tel:` links with
//! parameters, extensions, and most punctuation of Unicode. Two ports of it agree on ordinary numbers and
//! part on such inputs, and `1;phone-context=a;tel:` panics the port in use here. So only what people need to
//! write a number gets through; every rule is in [`fold`].

use rlibphonenumber::PHONE_NUMBER_UTIL;

use super::PhoneError;

/// The most characters (Unicode scalar values, not bytes) that an input may have.
///
/// The longest number that libphonenumber reads has 20 digits, which leaves a separator for each of them.
pub const MAX_INPUT_CHARS: usize = 40;

/// The ASCII character that `c` stands for in a phone number, or `None` when a phone number may not contain
/// `c`.
///
/// Folded are the decimal digits of all scripts (Unicode category Nd), the full-width plus sign, and the
/// hyphens, dashes and minus signs that word processors and phones put in place of `-`. Everything else is
/// refused, most of all what cannot be seen: tabs, line ends, no-break and zero-width spaces, and marks that
/// change the writing direction.
#[must_use]
pub(crate) fn fold(c: char) -> Option<char> {
    match c {
        '0'..='9' | '+' | ' ' | '-' | '.' | '(' | ')' | '/' => Some(c),
        '\u{FF0B}' => Some('+'),
        // Hyphen, non-breaking hyphen, figure dash, en dash, em dash, horizontal bar; minus sign; full-width
        // hyphen.
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FF0D}' => Some('-'),
        _ if c.is_ascii() => None,
        // The parser's own table of decimal digits, so that door and parser cannot disagree about what a
        // digit is. It holds category Nd and nothing else: no superscripts, no circled digits, no number
        // words.
        _ => PHONE_NUMBER_UTIL
            .normalize_digits_only(c.encode_utf8(&mut [0; 4]))
            .chars()
            .next(),
    }
}

/// Lets `input` through in ASCII, made of `+ 0-9 space - . ( ) /` alone and at most [`MAX_INPUT_CHARS`] long.
///
/// # Errors
/// [`PhoneError::Empty`], [`PhoneError::InputTooLong`] or [`PhoneError::CharacterNotAllowed`].
pub(super) fn enter(input: &str) -> Result<String, PhoneError> {
    if input.is_empty() {
        return Err(PhoneError::Empty);
    }
    // A character has at most four bytes, so what has more than this has too many characters. Known without
    // looking at them, because an input may have as many bytes as a message.
    if input.len() > MAX_INPUT_CHARS * 4 || input.chars().count() > MAX_INPUT_CHARS {
        return Err(PhoneError::InputTooLong);
    }
    input
        .chars()
        .map(fold)
        .collect::<Option<String>>()
        .ok_or(PhoneError::CharacterNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_gets_through_unchanged() {
        let all = "+0123456789 -.()/";
        assert_eq!(enter(all).as_deref(), Ok(all));
    }

    #[test]
    fn signs_that_look_like_plus_and_dash_are_folded() {
        assert_eq!(enter("\u{FF0B}1").as_deref(), Ok("+1"));
        let dashes = "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{FF0D}";
        assert_eq!(enter(dashes).as_deref(), Ok("--------"));
        // The neighbours of the folded ranges are other things.
        for c in [
            '\u{200F}', '\u{2016}', '\u{2211}', '\u{2213}', '\u{FF0A}', '\u{FF0C}', '\u{FF0E}',
        ] {
            assert_eq!(fold(c), None, "{c:?}");
        }
    }

    #[test]
    fn decimal_digits_of_every_script_are_folded() {
        // The zeros of some scripts, from the Unicode code charts; the other nine digits follow each of them.
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
            assert_eq!(enter(&digits).as_deref(), Ok("0123456789"), "{zero:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_decimal_digits_are_refused() {
        // Superscript, subscript, circled, parenthesised, Roman, Ethiopic (no zero), a fraction, a Chinese
        // numeral.
        for c in ['²', '₂', '②', '⑵', 'Ⅱ', '\u{136A}', '½', '二'] {
            assert_eq!(fold(c), None, "{c:?}");
        }
    }

    #[test]
    fn everything_else_is_refused_wherever_it_stands() {
        let refused = [
            '\0', '\t', '\n', '\r', '\u{0B}', '\u{7F}', '\u{85}', // controls
            '\u{A0}', '\u{2007}', '\u{202F}', '\u{3000}',
            '\u{2028}', // spaces and line ends that are not U+0020
            '\u{AD}', '\u{200B}', '\u{200D}', '\u{2060}', '\u{FEFF}', // cannot be seen
            '\u{200E}', '\u{200F}', '\u{061C}', '\u{202A}', '\u{202E}', '\u{2066}',
            '\u{2069}', // writing direction
            'a', 'x', 'O', 'Z', 'о', 'é', 'Ａ', // letters, one of them Cyrillic
            ';', '=', '*', '#', ',', ':', '~', '[', ']', '_', '\'', '"', '\\', '%', '&', '!', '?', '@',
            '\u{FF08}', '\u{FF09}', '\u{FF0F}', '\u{30FC}', '\u{2053}', '\u{FFFD}', '📞',
        ];
        for c in refused {
            for input in [
                format!("{c}+998901234567"),
                format!("+99890{c}1234567"),
                format!("+998901234567{c}"),
            ] {
                assert_eq!(enter(&input), Err(PhoneError::CharacterNotAllowed), "{input:?}");
            }
        }
    }

    #[test]
    fn forty_characters_and_no_more() {
        assert_eq!(enter(""), Err(PhoneError::Empty));
        assert!(enter(&"1".repeat(40)).is_ok());
        assert_eq!(enter(&"1".repeat(41)), Err(PhoneError::InputTooLong));
        assert_eq!(enter(&"1".repeat(300)), Err(PhoneError::InputTooLong));
        // Characters count, not bytes: forty digits of four bytes each are allowed.
        assert!(enter(&"\u{1D7CE}".repeat(40)).is_ok());
        assert_eq!(enter(&"\u{1D7CE}".repeat(41)), Err(PhoneError::InputTooLong));
        // The length is looked at first, whatever the characters are.
        assert_eq!(enter(&"x".repeat(65_536)), Err(PhoneError::InputTooLong));
        assert_eq!(enter(&"x".repeat(41)), Err(PhoneError::InputTooLong));
        assert_eq!(enter(&"x".repeat(40)), Err(PhoneError::CharacterNotAllowed));
    }
}
