//! Tests of registration and look-up. The expected results are from the labelled data of libphonenumber
//! (`tests/data/phone_numbers.tsv`), or from numbering plans where noted.

use super::*;

fn region(code: &str) -> Region {
    Region::parse(code).unwrap()
}

fn look_up(input: &str, region: Option<Region>) -> Result<String, PhoneError> {
    PhoneNumber::parse(input, region).map(|number| number.as_str().to_owned())
}

fn take(input: &str, region: Option<Region>) -> Result<String, PhoneError> {
    PhoneNumber::parse_new(input, region, LineTypes::default()).map(|number| number.as_str().to_owned())
}

fn stored(key: &str) -> PhoneNumber {
    PhoneNumber::from_stored(key.to_owned()).unwrap()
}

#[test]
fn one_number_has_one_key_in_every_notation() {
    let notations = [
        ("+998669050123", None),
        ("+998-66-90-50-12-3", None),
        ("+998 (66) 905.01.23", None),
        (" +998/6690/5012/3 ", None),
        ("66 905 01 23", Some(region("UZ"))),
        ("669050123", Some(region("uz"))),
        ("00 998 669050123", Some(region("MK"))),
        (
            "\u{FF0B}\u{FF19}\u{FF19}\u{FF18} 66\u{2011}905\u{2212}01\u{2013}23",
            None,
        ),
        ("+٩٩٨٦٦٩٠٥٠١٢٣", None),
        // Copied from a contact card, from a page, and with a line end.
        ("\u{202A}+998669050123\u{202C}", None),
        ("+998\u{A0}66\u{A0}905\u{202F}01\u{202F}23", None),
        ("+998669050123\r\n", None),
        ("\u{FEFF}66\u{2009}905 01\u{200B}23\n", Some(region("UZ"))),
    ];
    for (input, region) in notations {
        assert_eq!(take(input, region).as_deref(), Ok("+998669050123"), "{input}");
        assert_eq!(look_up(input, region).as_deref(), Ok("+998669050123"), "{input}");
    }
}

#[test]
fn a_calling_code_takes_precedence_over_the_default_region() {
    for code in ["IT", "US", "GB", "UZ"] {
        assert_eq!(
            take("+1 201 555 0123", Some(region(code))).as_deref(),
            Ok("+12015550123"),
            "{code}"
        );
    }
    // A national number is a different number in each region: 669050123 is Uzbek only in Uzbekistan.
    assert_ne!(
        look_up("669050123", Some(region("PT"))).as_deref(),
        Ok("+998669050123")
    );
}

#[test]
fn plus_and_an_international_prefix_need_the_region_of_the_prefix() {
    // libphonenumber's rule (labelled idd_plus_00): 00 is an international prefix in Ascension, and not a calling code.
    assert_eq!(look_up("+0024740123", None), Err(PhoneError::CountryCodeUnknown));
    assert_eq!(
        look_up("+0024740123", Some(region("AC"))).as_deref(),
        Ok("+24740123")
    );
}

#[test]
fn a_national_number_needs_a_region() {
    for input in ["669050123", "0024762889", "24762889", "12", "(201) 555-0123"] {
        assert_eq!(look_up(input, None), Err(PhoneError::RegionRequired), "{input}");
        assert_eq!(take(input, None), Err(PhoneError::RegionRequired), "{input}");
    }
}

#[test]
fn errors_have_the_right_reason() {
    use PhoneError as E;
    let rows = [
        ("", None, E::Empty),
        ("   ", None, E::NotANumber),
        ("\u{202A}\u{A0}\n", None, E::NotANumber),
        ("+", None, E::NotANumber),
        ("--", Some(region("UZ")), E::NotANumber),
        ("7", Some(region("UZ")), E::NotANumber),
        ("1+2015550123", Some(region("US")), E::NotANumber),
        ("+1 201 555 0123/+1 201 555 0124", None, E::NotANumber),
        ("+999 99 999 99 99", None, E::CountryCodeUnknown),
        ("00 999 99 999 99 99", Some(region("UZ")), E::CountryCodeUnknown),
        ("+998 66", None, E::TooShort),
        ("+998 1", None, E::TooShort),
        ("+1 201 555 01234", None, E::TooLong),
        ("+1 234567890123456789012", None, E::TooLong),
        // Numbers of Andorra have 6, 8 or 9 digits, but not 7.
        ("+376 712 3456", None, E::LengthNotPossible),
    ];
    for (input, region, reason) in rows {
        assert_eq!(look_up(input, region), Err(reason), "{input:?}");
        assert_eq!(take(input, region), Err(reason), "{input:?}");
    }
}

#[test]
fn only_characters_of_numbers_reach_the_parser() {
    let inputs = [
        "+1201555O123",           // the letter O
        "1;phone-context=a;tel:", // makes the parser panic
        "tel:+1-201-555-0123",
        "+1-800-FLOWERS",
        "+998\u{0}901234567",
        "\t+998901234567",
        "+998\u{FE0F}901234567",
    ];
    for input in inputs {
        assert_eq!(
            look_up(input, Some(region("US"))),
            Err(PhoneError::CharacterNotAllowed),
            "{input:?}"
        );
    }
    assert_eq!(
        look_up(&"1".repeat(300), Some(region("US"))),
        Err(PhoneError::InputTooLong)
    );
}

#[test]
fn extensions_are_rejected() {
    for extension in ["ext. 5", "x5", ";ext=5", ",,5", " 5#", "~5", "доб. 5", "anexo 5"] {
        let input = format!("+1 201 555 0123{extension}");
        assert_eq!(
            look_up(&input, None),
            Err(PhoneError::CharacterNotAllowed),
            "{input}"
        );
    }
    // The parser reads these as further digits of the number, never as an extension.
    for input in [
        "+1 201 555 0123 - 503",
        "+1 201 555 0123 / 503",
        "+1 201 555 0123 (503)",
        "+1 201 555 0123. 503",
    ] {
        assert_eq!(look_up(input, None), Err(PhoneError::TooLong), "{input}");
    }
}

#[test]
fn a_number_whose_key_parses_as_another_number_is_rejected() {
    // The trunk prefix of Albania is 0. The parser removes it, and would remove it again from the rest.
    assert_eq!(look_up("+355008001234", None), Err(PhoneError::NotStable));
    assert_eq!(take("+355008001234", None), Err(PhoneError::NotStable));
    assert_eq!(look_up("+35508001234", None).as_deref(), Ok("+3558001234"));
    // National forms, and carrier codes of Brazil and Russia (labelled, with a possible length).
    for (input, code) in [
        ("00500123456", "BR"),
        ("9090866510967", "BR"),
        ("81049005253647", "RU"),
    ] {
        assert_eq!(
            look_up(input, Some(region(code))),
            Err(PhoneError::NotStable),
            "{input}"
        );
    }
}

#[test]
fn registration_needs_a_valid_number_and_look_up_a_possible_one() {
    // No area code of North America starts with 1. +971 2 234567 lacks a digit, but other numbers have its length.
    for input in ["+11234567890", "+9712234567"] {
        assert_eq!(look_up(input, None).as_deref(), Ok(input));
        assert_eq!(take(input, None), Err(PhoneError::NotValid), "{input}");
    }
    // Seven digits are dialled within one area in North America. libphonenumber counts them as possible.
    assert_eq!(
        look_up("555-0123", Some(region("US"))).as_deref(),
        Ok("+15550123")
    );
    assert_eq!(take("555-0123", Some(region("US"))), Err(PhoneError::LocalOnly));
}

#[test]
fn registration_needs_an_allowed_line_type() {
    // All of these are labelled.
    let rows = [
        ("+80012345678", LineType::TollFree, "001"),
        ("+376912345", LineType::PremiumRate, "AD"),
        ("+4918012345", LineType::SharedCost, "DE"),
        ("+85230161234", LineType::Uan, "HK"),
    ];
    for (input, line_type, code) in rows {
        assert_eq!(take(input, None), Err(PhoneError::LineTypeNotAllowed), "{input}");
        assert_eq!(look_up(input, None).as_deref(), Ok(input));
        let allowed = [line_type].into_iter().collect();
        let number = PhoneNumber::parse_new(input, None, allowed).unwrap();
        assert_eq!(number.line_type(), line_type, "{input}");
        assert_eq!(
            number.region().as_ref().map(NumberRegion::as_str),
            Some(code),
            "{input}"
        );
    }
    assert_eq!(
        PhoneNumber::parse_new("+998912345678", None, std::iter::empty().collect()),
        Err(PhoneError::LineTypeNotAllowed)
    );
}

#[test]
fn a_stored_key_is_read_unchanged() {
    // A registration would reject the first two: one is not stable, and the other has no calling code.
    for key in ["+355008001234", "+999123456789", "+4912", "+12345678901234567890"] {
        assert_eq!(stored(key).as_str(), key);
    }
    for key in [
        "",
        "+",
        "998901234567",
        "+123",
        "+123456789012345678901",
        "+0998901234567",
        "+998 901234567",
        "+99890123456x",
        "++998901234567",
        "+998901234567\n",
        " +998901234567",
        "+٩٩٨٩٠١٢٣٤٥٦٧",
    ] {
        assert_eq!(
            PhoneNumber::from_stored(key.to_owned()),
            Err(PhoneError::NotANumber),
            "{key:?}"
        );
    }
    assert_eq!(stored("+999123456789").line_type(), LineType::Unknown);
    assert_eq!(stored("+999123456789").region(), None);
}

#[test]
fn the_national_number_follows_the_calling_code() {
    for (key, national) in [
        ("+998901234567", "901234567"),
        ("+12015550123", "2015550123"),
        ("+390212345678", "0212345678"), // in Italy the zero is part of the number
        ("+80012345678", "12345678"),
        ("+999123456789", "999123456789"), // no such calling code
    ] {
        assert_eq!(stored(key).national_number(), national, "{key}");
    }
}

#[test]
fn the_mask_hides_at_least_half_of_the_national_number() {
    for (key, masked) in [
        ("+998901234567", "+998•••••4567"),
        ("+12015550123", "+1••••••0123"),
        ("+3558001234", "+355••••234"),
        ("+24740123", "+247•••23"),
        ("+4912", "+49•2"),
        ("+999123456789", "+••••••••••89"), // no such calling code
        ("+9991", "+••91"),
    ] {
        assert_eq!(stored(key).masked(), masked);
        assert_eq!(
            format!("{:?}", Some(stored(key))),
            format!("Some(PhoneNumber({masked}))")
        );
    }
}

#[test]
fn every_reason_has_a_unique_identifier() {
    use PhoneError as E;
    let all = [
        E::Empty,
        E::InputTooLong,
        E::CharacterNotAllowed,
        E::RegionUnknown,
        E::RegionRequired,
        E::NotANumber,
        E::CountryCodeUnknown,
        E::TooShort,
        E::TooLong,
        E::LengthNotPossible,
        E::LocalOnly,
        E::NotStable,
        E::NotValid,
        E::LineTypeNotAllowed,
    ];
    let identifiers: std::collections::BTreeSet<_> = all.map(PhoneError::reason).into_iter().collect();
    let texts: std::collections::BTreeSet<_> = all.map(|error| error.to_string()).into_iter().collect();
    assert_eq!((identifiers.len(), texts.len()), (all.len(), all.len()));
    for error in all {
        // The identifier is the name of the variant in snake case: LineTypeNotAllowed, line_type_not_allowed.
        let name: String = error
            .reason()
            .split('_')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect();
        assert_eq!(name.to_lowercase(), format!("{error:?}").to_lowercase());
    }
    assert!(E::InputTooLong.to_string().contains(&MAX_INPUT_CHARS.to_string()));
}
