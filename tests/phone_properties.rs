//! Properties of phone numbers for any input.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a test")]

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use phone_identity::domain::phone::{
    LineTypes, MAX_INPUT_CHARS, NumberQuery, PhoneError, PhoneNumber, Region,
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::{Index, select},
};
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region as LibraryRegion};

use labelled::rows;

#[allow(dead_code, reason = "each test crate uses its part of it")]
mod labelled;

/// Every ASCII character that a phone number may be written with.
const ALPHABET: &[u8] = b"+0123456789 -.()/";
/// The ones of them that may stand between two digits without a meaning.
const SEPARATORS: &[char] = &[' ', '-', '.', '(', ')', '/'];
/// Characters that copying adds to a number: format characters (Cf), spaces (Zs) and line ends.
const INVISIBLE: &[char] = &[
    '\u{AD}', '\u{61C}', '\u{200B}', '\u{200C}', '\u{200D}', '\u{200E}', '\u{200F}', '\u{202A}', '\u{202C}',
    '\u{202D}', '\u{202E}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{FEFF}', '\u{A0}', '\u{2003}', '\u{2007}',
    '\u{2009}', '\u{202F}', '\u{3000}', '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}',
];
/// The zeros of the accepted scripts: ASCII, Arabic-Indic, Persian, Devanagari, full-width.
const ZEROS: &[char] = &['0', '\u{0660}', '\u{06F0}', '\u{0966}', '\u{FF10}'];

fn region() -> impl Strategy<Value = Region> {
    // With and without a trunk prefix, shared calling codes, long and unusual prefixes for calling abroad.
    select(vec![
        "UZ", "US", "CA", "DE", "IT", "RU", "KZ", "AR", "BR", "MX", "AU", "JP", "SG", "GG", "VA", "AC",
    ])
    .prop_map(|code| code.parse().expect("a region"))
}

fn maybe_region() -> impl Strategy<Value = Option<Region>> {
    prop_oneof![Just(None), region().prop_map(Some)]
}

/// Strings that the door lets through: noise, and digits in a row, which are numbers far more often.
fn inside_the_door() -> impl Strategy<Value = String> {
    let noise = vec(select(ALPHABET).prop_map(char::from), 1..=MAX_INPUT_CHARS).prop_map(String::from_iter);
    prop_oneof![
        noise,
        "\\+?[0-9]{2,20}",
        "\\+[1-9]{1,3}0{0,3}[0-9]{4,12}",
        "00?[0-9]{4,14}"
    ]
}

/// International numbers that libphonenumber calls valid, in E.164 form.
fn valid_number() -> impl Strategy<Value = String> {
    let numbers: Vec<String> = rows()
        .into_iter()
        .filter_map(|row| Some(row.taken?.e164))
        .collect();
    assert!(numbers.len() > 10_000, "the labelled numbers are missing");
    select(numbers)
}

/// Returns whether the sanitizer removes a character, by the Unicode character database.
fn is_removed(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
        || (c != ' '
            && matches!(
                category,
                GeneralCategory::Format | GeneralCategory::SpaceSeparator
            ))
}

fn key(input: &str, region: Option<Region>) -> Result<String, PhoneError> {
    PhoneNumber::parse_new(input, region, LineTypes::all()).map(|number| number.as_str().to_owned())
}

proptest! {
    #[test]
    fn no_string_panics_and_only_numbers_get_in(
        input in prop_oneof![any::<String>(), "\\PC{0,50}", "[+0-9x;=*#,a-z:\\s]{0,50}", inside_the_door()],
        region in maybe_region(),
    ) {
        for number in [PhoneNumber::parse(&input, region), PhoneNumber::parse_new(&input, region, LineTypes::all())] {
            let Ok(number) = number else { continue };
            let kept: Vec<char> = input.chars().filter(|c| !is_removed(*c)).collect();
            prop_assert!(kept.len() <= MAX_INPUT_CHARS);
            prop_assert!(!kept.iter().any(|c| c.is_alphabetic() || c.is_control()));
            prop_assert!(PhoneNumber::from_stored(number.as_str().to_owned()).is_ok());
        }
    }

    #[test]
    fn an_accepted_number_is_parsed_as_itself(
        input in inside_the_door(),
        region in maybe_region(),
        other in maybe_region(),
    ) {
        if let Ok(number) = PhoneNumber::parse(&input, region) {
            prop_assert_eq!(PhoneNumber::parse(number.as_str(), other), Ok(number));
        }
    }

    /// A number that current plans do not allow is looked up by a key that no valid number has, so it finds no other
    /// user.
    #[test]
    fn a_query_finds_its_own_number_only(
        input in prop_oneof![inside_the_door(), "\\+[1-9][0-9]{5,19}", "[0-9]{4,14}"],
        region in maybe_region(),
        other in maybe_region(),
    ) {
        if let Ok(query) = NumberQuery::parse(&input, region) {
            let key = query.key().as_str();
            prop_assert_eq!(NumberQuery::parse(key, other), Ok(query.clone()));
            match PhoneNumber::parse(&input, region) {
                Ok(number) => prop_assert_eq!(query.key(), &number),
                Err(_) => prop_assert!(PhoneNumber::parse(key, other).is_err()),
            }
        }
    }

    #[test]
    fn a_number_that_can_be_registered_can_be_looked_up(input in inside_the_door(), region in maybe_region()) {
        if let Ok(number) = PhoneNumber::parse_new(&input, region, LineTypes::all()) {
            prop_assert_eq!(PhoneNumber::parse(&input, region), Ok(number));
        }
    }

    #[test]
    fn separators_do_not_change_the_key(
        number in valid_number(),
        separators in vec((any::<Index>(), select(SEPARATORS)), 0..=20),
    ) {
        let mut written: Vec<char> = number.chars().collect();
        for (place, separator) in separators {
            written.insert(place.index(written.len() + 1), separator);
        }
        prop_assert_eq!(key(&String::from_iter(written), None), Ok(number));
    }

    /// The answer is that for the input without them, a refusal included.
    #[test]
    fn invisible_characters_do_not_change_the_answer(
        input in prop_oneof![valid_number(), inside_the_door(), "[+0-9x;#,a-z ]{0,20}"],
        region in maybe_region(),
        invisible in vec((any::<Index>(), select(INVISIBLE)), 0..=20),
    ) {
        let mut pasted: Vec<char> = input.chars().collect();
        for (place, c) in invisible {
            pasted.insert(place.index(pasted.len() + 1), c);
        }
        let pasted = String::from_iter(pasted);
        if !input.is_empty() || pasted.is_empty() {
            prop_assert_eq!(PhoneNumber::parse(&pasted, region), PhoneNumber::parse(&input, region));
            prop_assert_eq!(key(&pasted, region), key(&input, region));
        }
        // libphonenumber rejects some inputs with such characters. It parses all others to the same key.
        let library = region.and_then(|region| LibraryRegion::from_code(region.as_str()).ok());
        if let (Ok(ours), Ok(theirs)) = (
            PhoneNumber::parse(&pasted, region),
            PHONE_NUMBER_UTIL.parse(&pasted, library),
        ) {
            let theirs = theirs.format_as(PhoneNumberFormat::E164);
            prop_assert_eq!(ours.as_str(), theirs.as_ref());
        }
    }

    #[test]
    fn digits_of_other_scripts_do_not_change_the_key(number in valid_number(), zeros in vec(select(ZEROS), 20)) {
        let written: String = number
            .chars()
            .zip(zeros)
            .map(|(c, zero)| match c.to_digit(10) {
                Some(digit) => char::from_u32(u32::from(zero) + digit).expect("a digit"),
                None => '\u{FF0B}',
            })
            .collect();
        prop_assert_eq!(key(&written, None), Ok(number));
    }

    #[test]
    fn the_default_region_does_not_change_a_number_with_plus(
        input in prop_oneof![
            valid_number(),
            inside_the_door().prop_map(|input| format!("+{}", input.chars().take(39).collect::<String>())),
        ],
        region in region(),
    ) {
        let alone = PhoneNumber::parse(&input, None);
        // The digits after the + are no calling code. libphonenumber then tries them as the international prefix of the
        // region, as in "+00 44 ...". A region can thus turn a rejected number into an accepted one, but never one
        // number into another.
        if alone != Err(PhoneError::CountryCodeUnknown) {
            prop_assert_eq!(PhoneNumber::parse(&input, Some(region)), alone);
            prop_assert_eq!(key(&input, Some(region)), key(&input, None));
        }
    }
}
