//! Folding: one form for all spellings of a word that attackers treat as equal.

use secrecy::zeroize::Zeroizing;

/// Offset from a full-width form to its ASCII character.
const FULL_WIDTH: u32 = 0xFEE0;

/// The Latin letters of a keyboard, and below them the Cyrillic letters on the same keys.
const LATIN_KEYS: &str = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`";
const CYRILLIC_KEYS: &str = "йцукенгшщзхъфывапролджэячсмитьбюё";

/// The characters of a password in lower case, without apostrophes and without the diacritics that users often omit.
pub(super) fn folded(password: &str) -> Zeroizing<Vec<char>> {
    // The lower case of a character has up to three characters. A growing vector would leave copies in memory.
    let mut characters = Zeroizing::new(Vec::with_capacity(3 * password.len()));
    let narrow = |character: char| match character {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(character) - FULL_WIDTH).unwrap_or(character),
        other => other,
    };
    characters.extend(
        password
            .chars()
            .map(narrow)
            .flat_map(char::to_lowercase)
            .filter_map(fold),
    );
    characters
}

fn fold(character: char) -> Option<char> {
    Some(match character {
        // The last one remains of the lower case of İ.
        '\'' | '’' | '‘' | 'ʻ' | 'ʼ' | '`' | '´' | '\u{307}' => return None,
        'ё' => 'е',
        'ş' => 's',
        'ç' => 'c',
        'ğ' => 'g',
        'ñ' => 'n',
        'â' | 'á' | 'à' | 'ä' | 'å' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'ı' | 'î' | 'í' | 'ì' => 'i',
        'ö' | 'ó' | 'ò' | 'ô' => 'o',
        'ü' | 'û' | 'ú' | 'ù' => 'u',
        other => other,
    })
}

/// Other spellings of a word, if they differ from it: digits and signs as letters, and the same keys in the other
/// alphabet.
pub(super) fn spellings(word: &str) -> impl Iterator<Item = Zeroizing<String>> + '_ {
    let readings: [fn(char) -> char; 3] = if word.contains(is_cyrillic) {
        [latin_i, cyrillic, to_latin_keys]
    } else {
        [latin_i, latin_l, to_cyrillic_keys]
    };
    readings.into_iter().filter_map(|reading| read(word, reading))
}

/// The word with its digits and signs replaced by Latin letters. `None`: it has none of them.
pub(super) fn read_as_letters(word: &str) -> Option<Zeroizing<String>> {
    read(word, latin_i)
}

fn read(word: &str, reading: impl Fn(char) -> char) -> Option<Zeroizing<String>> {
    if word.chars().all(|character| reading(character) == character) {
        return None;
    }
    let mut spelling = Zeroizing::new(String::with_capacity(char::MAX_LEN_UTF8 * word.len()));
    // Apostrophes and `ё` are folded as in the list.
    spelling.extend(word.chars().map(reading).filter_map(fold));
    Some(spelling)
}

fn is_cyrillic(character: char) -> bool {
    matches!(character, '\u{400}'..='\u{52F}')
}

fn latin_i(character: char) -> char {
    match character {
        '1' | '!' | '|' => 'i',
        other => latin(other),
    }
}

fn latin_l(character: char) -> char {
    match character {
        '1' | '!' | '|' => 'l',
        other => latin(other),
    }
}

/// Replaces digits, signs and Cyrillic letters that look like Latin letters.
fn latin(character: char) -> char {
    match character {
        '0' | 'о' => 'o',
        '3' | '€' | 'е' => 'e',
        '4' | '@' | 'а' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        '8' => 'b',
        '6' | '9' => 'g',
        'р' => 'p',
        'с' => 'c',
        'х' => 'x',
        'у' => 'y',
        other => other,
    }
}

/// Replaces digits, signs and Latin letters that look like Cyrillic letters.
fn cyrillic(character: char) -> char {
    match character {
        '0' | 'o' => 'о',
        '3' => 'з',
        '4' => 'ч',
        '6' => 'б',
        '8' => 'в',
        '@' | 'a' => 'а',
        '$' | 'c' => 'с',
        'e' => 'е',
        'p' => 'р',
        'x' => 'х',
        'y' => 'у',
        other => other,
    }
}

fn to_latin_keys(character: char) -> char {
    key_of(character, CYRILLIC_KEYS, LATIN_KEYS)
}

fn to_cyrillic_keys(character: char) -> char {
    key_of(character, LATIN_KEYS, CYRILLIC_KEYS)
}

fn key_of(character: char, from: &str, to: &str) -> char {
    let key = from.chars().position(|key| key == character);
    key.and_then(|key| to.chars().nth(key)).unwrap_or(character)
}
