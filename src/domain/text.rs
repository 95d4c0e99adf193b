//! Text sanitization: control and format characters.
//!
//! An operator reads user agents and names from the database on a terminal. Escape sequences move its cursor, and
//! bidirectional marks reorder a line, so that it reads differently (CVE-2021-42574).

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a character is a control character (Unicode category Cc), a format character (Cf: bidirectional marks,
/// zero-width characters, tags), or a line or paragraph separator (U+2028, U+2029).
#[must_use]
pub fn is_control_or_format(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges are from `extracted/DerivedGeneralCategory.txt` of Unicode 15.1.
    #[test]
    fn control_and_format_characters_are_recognized() {
        let ranges = [
            0x00..=0x1f,
            0x7f..=0x9f,
            0xad..=0xad,
            0x600..=0x605,
            0x61c..=0x61c,
            0x6dd..=0x6dd,
            0x70f..=0x70f,
            0x890..=0x891,
            0x8e2..=0x8e2,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x2064,
            0x2066..=0x206f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0x110bd..=0x110bd,
            0x110cd..=0x110cd,
            0x13430..=0x1343f,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0001..=0xe0001,
            0xe0020..=0xe007f,
        ];
        for character in '\0'..=char::MAX {
            let expected = ranges.iter().any(|range| range.contains(&u32::from(character)));
            assert_eq!(is_control_or_format(character), expected, "{character:?}");
        }
    }
}
