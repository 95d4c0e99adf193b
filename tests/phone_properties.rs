//! What holds for phone numbers whatever the input is.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a test")]

use phone_identity::domain::phone::{LineTypes, MAX_INPUT_CHARS, PhoneError, PhoneNumber, Region};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    sample::{Index, select},
};

use labelled::rows;

#[allow(dead_code, reason = "each test crate uses its part of it")]
mod labelled;

/// Every ASCII character that a phone number may be written with.
const ALPHABET: &[u8] = b"+0123456789 -.()/";
/// The ones of them that may stand between two digits without a meaning.
const SEPARATORS: &[char] = &[' ', '-', '.', '(', ')', '/'];
/// The zeros of scripts whose digits may be used: ASCII, Arabic-Indic, Persian, Devanagari, full-width.
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
            prop_assert!(input.chars().count() <= MAX_INPUT_CHARS);
            prop_assert!(!input.chars().any(|c| c.is_alphabetic() || c.is_control()));
            prop_assert!(PhoneNumber::from_stored(number.as_str().to_owned()).is_ok());
        }
    }

    #[test]
    fn what_is_accepted_is_read_as_itself_again(
        input in inside_the_door(),
        region in maybe_region(),
        other in maybe_region(),
    ) {
        if let Ok(number) = PhoneNumber::parse(&input, region) {
            prop_assert_eq!(PhoneNumber::parse(number.as_str(), other), Ok(number));
        }
    }

    #[test]
    fn what_may_be_taken_may_be_looked_up(input in inside_the_door(), region in maybe_region()) {
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
        // What follows the + is no calling code. libphonenumber then tries whether it is the prefix for
        // calling abroad of the region, as in "+00 44 ...". That is the one thing a region can do here, and
        // it makes of a refused number an accepted one, never of one number another.
        if alone != Err(PhoneError::CountryCodeUnknown) {
            prop_assert_eq!(PhoneNumber::parse(&input, Some(region)), alone);
            prop_assert_eq!(key(&input, Some(region)), key(&input, None));
        }
    }
}
