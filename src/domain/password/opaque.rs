//! RFC 8265 OpaqueString with the tables of current Unicode: one form for each password, and which characters it may
//! have.
//!
//! The registry of RFC 8264 ends with Unicode 6.3 (2013). Its rules derive from properties, so here they use the
//! properties of `icu_properties`: a character that a later version added is allowed as its neighbours are. Emoji
//! sequences (UTS #51) are allowed in addition: their joiners and selectors are invisible, and allowed between what
//! they join only. Whatever the old tables allowed has the form that it had, so that stored hashes stay valid
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

/// Maximum number of tag characters in an emoji, the one that ends it included (UTS #51, appendix C: a subdivision of a
/// country has six). Bounds the work for a character.
const MAX_TAGS: usize = 32;

/// Maximum number of bytes of UTF-8 that NFC makes of one byte (UAX #15, section 9).
const MAX_GROWTH: usize = 3;

/// The form in which a password is hashed: every space an ASCII space, and NFC.
///
/// # Errors
/// The first character that is not allowed where it is.
pub(super) fn enforce(input: &str) -> Result<Zeroizing<String>, char> {
    check(input)?;
    let form = normalized(input);
    // A few characters, such as U+0387, become one that is forbidden. RFC 8264 section 7 asks for a stable form:
    // written in the other way, the password would be rejected.
    check(&form).map_err(|found| origin(input, found))?;
    Ok(form)
}

/// Finds the first character that is not allowed where it is.
fn check(text: &str) -> Result<(), char> {
    // A vector that grows would leave copies in memory.
    let mut characters = Zeroizing::new(Vec::with_capacity(text.len()));
    characters.extend(text.chars());
    let text = OpaqueText::of(&characters);
    let mut characters = characters.iter().enumerate();
    let found = characters.find(|(place, character)| !text.allows(**character, *place));
    found.map_or(Ok(()), |(_, character)| Err(*character))
}

/// The character of `input` that became `found`.
fn origin(input: &str, found: char) -> char {
    let becomes = |character: &char| normalized(character.encode_utf8(&mut [0; 4])).contains(found);
    input.chars().find(becomes).unwrap_or(found)
}

fn normalized(text: &str) -> Zeroizing<String> {
    let category = CodePointMapData::<GeneralCategory>::new();
    // Strings that grow would leave copies in memory.
    let mut spaced = Zeroizing::new(String::with_capacity(text.len()));
    spaced.extend(text.chars().map(|character| match category.get(character) {
        GeneralCategory::SpaceSeparator => ' ',
        _ => character,
    }));
    let mut form = Zeroizing::new(String::with_capacity(MAX_GROWTH * spaced.len()));
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    // Writing to a string does not fail.
    let _ = normalizer.normalize_to(&spaced, &mut *form);
    form
}

/// A password and what the rules ask about all of it, found once: it may have thousands of characters.
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

    fn at(&self, place: usize) -> Option<char> {
        self.characters.get(place).copied()
    }

    fn before(&self, place: usize) -> Option<char> {
        self.at(place.checked_sub(1)?)
    }

    /// Whether `character` may be at this place: RFC 8264 section 8, with the exceptions of section 9.6 and the context
    /// rules of RFC 5892 appendix A.
    fn allows(&self, character: char, place: usize) -> bool {
        match character {
            ' '..='~' => true,
            '\u{B7}' => self.before(place) == Some('l') && self.at(place + 1) == Some('l'),
            '\u{375}' => self.is_script(self.at(place + 1), Script::Greek),
            '\u{5F3}' | '\u{5F4}' => self.is_script(self.before(place), Script::Hebrew),
            '\u{30FB}' => self.has_kana_or_han,
            '\u{640}' | '\u{7FA}' | '\u{302E}' | '\u{302F}' | '\u{3031}'..='\u{3035}' | '\u{303B}' => false,
            ZERO_WIDTH_NON_JOINER => self.follows_virama(place) || self.breaks_cursive(place),
            ZERO_WIDTH_JOINER => self.follows_virama(place) || self.joins_emoji(place),
            '\u{FE0E}' | '\u{FE0F}' => self.before(place).is_some_and(is_emoji),
            '\u{E0020}'..='\u{E007F}' => self.is_emoji_tag(place),
            _ if is_arabic_indic(character) => !self.has_extended_arabic_indic,
            _ if is_extended_arabic_indic(character) => !self.has_arabic_indic,
            _ => is_freeform(character),
        }
    }

    fn is_script(&self, character: Option<char>, script: Script) -> bool {
        character.is_some_and(|character| CodePointMapData::<Script>::new().get(character) == script)
    }

    fn follows_virama(&self, place: usize) -> bool {
        let class = CodePointMapData::<CanonicalCombiningClass>::new();
        self.before(place)
            .is_some_and(|before| class.get(before) == CanonicalCombiningClass::Virama)
    }

    /// RFC 5892 appendix A.1: between a character that joins what follows and one that joins what precedes it.
    fn breaks_cursive(&self, place: usize) -> bool {
        let (before, after) = self.characters.split_at_checked(place).unwrap_or_default();
        joins(before.iter().rev(), JoiningType::LeftJoining)
            && joins(after.iter().skip(1), JoiningType::RightJoining)
    }

    /// Whether the joiner at this place stands between two emoji (UTS #51, ED-16): `👨‍👩‍👧`.
    fn joins_emoji(&self, place: usize) -> bool {
        let before = match self.before(place) {
            Some('\u{FE0E}' | '\u{FE0F}') => self.before(place - 1),
            before => before,
        };
        let is_picture = |character: char| !character.is_ascii() && is_emoji(character);
        before.is_some_and(is_picture) && self.at(place + 1).is_some_and(is_picture)
    }

    /// Whether the tag character at this place is part of an emoji (UTS #51, ED-14a): the flag of England is a black
    /// flag, the tags `gbeng`, and a tag that ends them.
    fn is_emoji_tag(&self, place: usize) -> bool {
        const END: char = '\u{E007F}';
        let is_tag = |character: &char| ('\u{E0020}'..=END).contains(character);
        let (before, after) = self.characters.split_at_checked(place).unwrap_or_default();
        let first = before
            .iter()
            .rev()
            .take(MAX_TAGS)
            .take_while(|c| is_tag(c))
            .count();
        let rest = after.iter().take(MAX_TAGS).take_while(|c| is_tag(c)).count();
        let start = place - first;
        let tags = self.characters.get(start..place + rest).unwrap_or_default();
        let has_one_end = tags.iter().position(|tag| *tag == END) == tags.len().checked_sub(1);
        let base = self.before(start);
        (2..=MAX_TAGS).contains(&tags.len())
            && has_one_end
            && base.is_some_and(|base| !base.is_ascii() && is_emoji(base))
    }
}

/// Whether the first character that is not transparent joins on both sides, or on this one.
fn joins<'a>(characters: impl IntoIterator<Item = &'a char>, side: JoiningType) -> bool {
    let kind = |character: &char| match character {
        // They had other types in Unicode 6.3, and passwords that join by them may be stored.
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

/// Whether RFC 8264 FreeformClass has a character that no exception and no context rule is about.
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
