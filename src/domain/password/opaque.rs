//! RFC 8265 OpaqueString with the tables of current Unicode: the normal form of a password, and its allowed characters.
//!
//! The registry of RFC 8264 ends with Unicode 6.3 (2013). Its rules derive from character properties, so this module
//! applies them to the properties of `icu_properties`: a character of a later version is allowed as its neighbours are.
//! Emoji sequences (UTS #51) are allowed in addition. Their joiners and selectors are invisible, so they are allowed
//! only inside of emoji. Every password that the old tables allowed keeps its form, so that stored hashes remain valid
//! (`opaque/tests.rs` compares the two).

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, GeneralCategory, GeneralCategoryGroup,
    HangulSyllableType, JoiningType, NoncharacterCodePoint, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use secrecy::zeroize::Zeroizing;

/// Categories of RFC 8264 FreeformClass (section 4.3): letters, digits, marks, numbers, spaces, symbols, punctuation.
const ALLOWED: GeneralCategoryGroup = GeneralCategoryGroup::Letter
    .union(GeneralCategoryGroup::Mark)
    .union(GeneralCategoryGroup::Number)
    .union(GeneralCategoryGroup::SpaceSeparator)
    .union(GeneralCategoryGroup::Symbol)
    .union(GeneralCategoryGroup::Punctuation);

const ZERO_WIDTH_NON_JOINER: char = '\u{200C}';
const ZERO_WIDTH_JOINER: char = '\u{200D}';

/// Maximum number of tag characters in an emoji, including the end tag (UTS #51, appendix C: a subdivision of a country
/// has six). It limits the work for a character.
const MAX_TAGS: usize = 32;

/// Maximum expansion of UTF-8 by NFC, in bytes for one byte (UAX #15, section 9).
const MAX_GROWTH: usize = 3;

/// Returns the form of a password that is hashed: every space an ASCII space, and NFC.
///
/// # Errors
/// The first character that is not allowed at its position.
pub(super) fn enforce(input: &str) -> Result<Zeroizing<String>, char> {
    check(input)?;
    let form = normalized(input);
    // The NFC of a few characters, such as U+0387, is forbidden. RFC 8264 section 7 requires a stable form: typed in
    // its normal form, the password would be rejected.
    check(&form).map_err(|found| origin(input, found))?;
    Ok(form)
}

/// Returns the first character that is not allowed at its position, as an error.
fn check(text: &str) -> Result<(), char> {
    // A growing vector would leave copies in memory.
    let mut characters = Zeroizing::new(Vec::with_capacity(text.len()));
    characters.extend(text.chars());
    let text = OpaqueText::of(&characters);
    let mut characters = characters.iter().enumerate();
    let found = characters.find(|(index, character)| !text.allows(**character, *index));
    found.map_or(Ok(()), |(_, character)| Err(*character))
}

/// The character of `input` whose normal form contains `found`.
fn origin(input: &str, found: char) -> char {
    let becomes = |character: &char| normalized(character.encode_utf8(&mut [0; 4])).contains(found);
    input.chars().find(becomes).unwrap_or(found)
}

fn normalized(text: &str) -> Zeroizing<String> {
    let category = CodePointMapData::<GeneralCategory>::new();
    // Growing strings would leave copies in memory.
    let mut spaced = Zeroizing::new(String::with_capacity(text.len()));
    spaced.extend(text.chars().map(|character| match category.get(character) {
        GeneralCategory::SpaceSeparator => ' ',
        _ => character,
    }));
    let mut form = Zeroizing::new(String::with_capacity(MAX_GROWTH * spaced.len()));
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    // Writing to a string never fails.
    let _ = normalizer.normalize_to(&spaced, &mut *form);
    form
}

/// A password with the properties of the whole text that the rules need. They are computed once, because a password can
/// have thousands of characters.
struct OpaqueText<'a> {
    characters: &'a [char],
    has_kana_or_han: bool,
    has_arabic_indic: bool,
    has_extended_arabic_indic: bool,
}

impl<'a> OpaqueText<'a> {
    fn of(characters: &'a [char]) -> Self {
        let script = CodePointMapData::<Script>::new();
        let has = |is: fn(char) -> bool| characters.iter().copied().any(is);
        Self {
            characters,
            has_kana_or_han: characters.iter().any(|character| {
                let script = script.get(*character);
                [Script::Hiragana, Script::Katakana, Script::Han].contains(&script)
            }),
            has_arabic_indic: has(is_arabic_indic),
            has_extended_arabic_indic: has(is_extended_arabic_indic),
        }
    }

    fn at(&self, index: usize) -> Option<char> {
        self.characters.get(index).copied()
    }

    fn before(&self, index: usize) -> Option<char> {
        self.at(index.checked_sub(1)?)
    }

    /// Whether `character` is allowed at this index: RFC 8264 section 8, with the exceptions of section 9.6 and the
    /// context rules of RFC 5892 appendix A.
    fn allows(&self, character: char, index: usize) -> bool {
        match character {
            ' '..='~' => true,
            '\u{B7}' => self.before(index) == Some('l') && self.at(index + 1) == Some('l'),
            '\u{375}' => self.is_script(self.at(index + 1), Script::Greek),
            '\u{5F3}' | '\u{5F4}' => self.is_script(self.before(index), Script::Hebrew),
            '\u{30FB}' => self.has_kana_or_han,
            '\u{640}' | '\u{7FA}' | '\u{302E}' | '\u{302F}' | '\u{3031}'..='\u{3035}' | '\u{303B}' => false,
            ZERO_WIDTH_NON_JOINER => self.follows_virama(index) || self.breaks_cursive(index),
            ZERO_WIDTH_JOINER => self.follows_virama(index) || self.joins_emoji(index),
            '\u{FE0E}' | '\u{FE0F}' => self.before(index).is_some_and(is_emoji),
            '\u{E0020}'..='\u{E007F}' => self.is_emoji_tag(index),
            _ if is_arabic_indic(character) => !self.has_extended_arabic_indic,
            _ if is_extended_arabic_indic(character) => !self.has_arabic_indic,
            _ => is_freeform(character),
        }
    }

    fn is_script(&self, character: Option<char>, script: Script) -> bool {
        character.is_some_and(|character| CodePointMapData::<Script>::new().get(character) == script)
    }

    fn follows_virama(&self, index: usize) -> bool {
        let class = CodePointMapData::<CanonicalCombiningClass>::new();
        self.before(index)
            .is_some_and(|before| class.get(before) == CanonicalCombiningClass::Virama)
    }

    /// RFC 5892 appendix A.1: the non-joiner is between a character that joins to the left and one that joins to the
    /// right.
    fn breaks_cursive(&self, index: usize) -> bool {
        let (before, after) = self.characters.split_at_checked(index).unwrap_or_default();
        joins(before.iter().rev(), JoiningType::LeftJoining)
            && joins(after.iter().skip(1), JoiningType::RightJoining)
    }

    /// Whether the joiner at this index is between two emoji (UTS #51, ED-16): `👨‍👩‍👧`.
    fn joins_emoji(&self, index: usize) -> bool {
        let before = match self.before(index) {
            Some('\u{FE0E}' | '\u{FE0F}') => self.before(index - 1),
            before => before,
        };
        let is_picture = |character: char| !character.is_ascii() && is_emoji(character);
        before.is_some_and(is_picture) && self.at(index + 1).is_some_and(is_picture)
    }

    /// Whether the tag character at this index is part of an emoji (UTS #51, ED-14a). For example, the flag of England
    /// is a black flag, the tags `gbeng`, and an end tag.
    fn is_emoji_tag(&self, index: usize) -> bool {
        const END: char = '\u{E007F}';
        let is_tag = |character: &char| ('\u{E0020}'..=END).contains(character);
        let (before, after) = self.characters.split_at_checked(index).unwrap_or_default();
        let first = before
            .iter()
            .rev()
            .take(MAX_TAGS)
            .take_while(|c| is_tag(c))
            .count();
        let rest = after.iter().take(MAX_TAGS).take_while(|c| is_tag(c)).count();
        let start = index - first;
        let tags = self.characters.get(start..index + rest).unwrap_or_default();
        let has_one_end = tags.iter().position(|tag| *tag == END) == tags.len().checked_sub(1);
        let base = self.before(start);
        (2..=MAX_TAGS).contains(&tags.len())
            && has_one_end
            && base.is_some_and(|base| !base.is_ascii() && is_emoji(base))
    }
}

/// Whether the first character that is not transparent joins on both sides, or on this side.
fn joins<'a>(characters: impl IntoIterator<Item = &'a char>, side: JoiningType) -> bool {
    let kind = |character: &char| match character {
        // Their types were different in Unicode 6.3, and stored passwords may depend on that.
        '\u{847}' => JoiningType::DualJoining,
        '\u{1734}' => JoiningType::Transparent,
        other => CodePointMapData::<JoiningType>::new().get(*other),
    };
    let mut kinds = characters.into_iter().map(kind);
    let first = kinds.find(|kind| *kind != JoiningType::Transparent);
    first.is_some_and(|first| first == JoiningType::DualJoining || first == side)
}

fn is_emoji(character: char) -> bool {
    CodePointSetData::new::<Emoji>().contains(character)
}

fn is_arabic_indic(character: char) -> bool {
    ('\u{660}'..='\u{669}').contains(&character)
}

fn is_extended_arabic_indic(character: char) -> bool {
    ('\u{6F0}'..='\u{6F9}').contains(&character)
}

/// Whether RFC 8264 FreeformClass contains a character without exceptions and context rules.
fn is_freeform(character: char) -> bool {
    let syllable = CodePointMapData::<HangulSyllableType>::new().get(character);
    let is_old_jamo = [
        HangulSyllableType::LeadingJamo,
        HangulSyllableType::VowelJamo,
        HangulSyllableType::TrailingJamo,
    ]
    .contains(&syllable);
    let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(character);
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    !is_old_jamo && !is_ignorable && ALLOWED.contains(category)
}

#[cfg(test)]
mod tests;
