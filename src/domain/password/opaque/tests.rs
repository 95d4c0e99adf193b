//! Tests of the form of passwords. They compare it with the crate whose Unicode 6.3 tables produced the stored hashes.

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::precis_core::{DerivedPropertyValue, FreeformClass, StringClass as _};
use proptest::prelude::*;

use super::enforce;

/// The form of a password with the tables of Unicode 6.3. `None`: it was rejected.
fn old_form(input: &str) -> Option<String> {
    let form = OpaqueString::enforce(input).ok()?.into_owned();
    let again = OpaqueString::enforce(form.as_str()).ok()?;
    (again == form).then_some(form)
}

fn form(input: &str) -> Result<String, char> {
    enforce(input).map(|form| form.as_str().to_owned())
}

/// A password that was chosen with the old tables remains valid: the character alone, within a word, and in the
/// contexts of the context rules. The contexts exclude ideographs, Hangul and private use, because no context rule
/// concerns them.
#[test]
fn every_code_point_that_was_allowed_keeps_its_form() {
    let contexts: [fn(char) -> String; 11] = [
        |c| c.to_string(),
        |c| format!("word{c}word"),
        |c| format!("e{c}\u{301}"),
        |c| format!("l{c}l"),
        |c| format!("{c}\u{94d}\u{200d}{c}"),
        |c| format!("{c}\u{200c}{c}"),
        |c| format!("\u{628}\u{200c}{c}\u{628}"),
        |c| format!("\u{628}{c}\u{200c}\u{628}"),
        |c| format!("{c}\u{5f3}"),
        |c| format!("\u{375}{c}"),
        |c| format!("{c}\u{30fb}{c}\u{665}"),
    ];
    let mut allowed = [0; 11];
    let has_contexts = |c| {
        let is_excluded = matches!(
            c,
            '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{f8ff}' | '\u{12000}'..='\u{1cfff}' | '\u{1f900}'..
        );
        !is_excluded
    };
    let class = FreeformClass::default();
    let was_allowed = |c: &char| {
        !matches!(
            class.get_value_from_char(*c),
            DerivedPropertyValue::Disallowed | DerivedPropertyValue::Unassigned
        )
    };
    for c in ('\0'..=char::MAX).filter(was_allowed) {
        let count = if has_contexts(c) { contexts.len() } else { 1 };
        for (context, allowed) in contexts.iter().zip(&mut allowed).take(count) {
            let input = context(c);
            if let Some(old) = old_form(&input) {
                assert_eq!(form(&input), Ok(old), "{input:?}");
                *allowed += 1;
            }
        }
    }
    // Unicode 6.3 has 110,187 characters without private use. A test that compared nothing would fail here.
    assert!(allowed[0] > 100_000, "{allowed:?}");
    assert!(allowed[1..].iter().all(|count| *count > 50), "{allowed:?}");
}

/// Characters of Unicode 7 to 17, from the code charts.
#[test]
fn printable_characters_of_later_versions_are_allowed() {
    for (input, old) in [
        ("quiet lake \u{20bd}", false),                  // ruble sign, 7.0
        ("quiet lake \u{20be}", false),                  // lari sign, 8.0
        ("quiet lake \u{20bf}", false),                  // bitcoin sign, 10.0
        ("quiet lake \u{20c0}", false),                  // som sign, 14.0
        ("quiet lake \u{20b8}", true),                   // tenge sign, 5.2
        ("\u{1f98a}\u{1f9e0}\u{1faab}\u{1fae8}", false), // fox 9.0, brain 11.0, low battery 14.0, shaking face 15.0
        ("\u{1e900}\u{1e922}", false),                   // Adlam, 9.0
        ("\u{10d40}", false),                            // Garay digit, 16.0
        ("\u{1c80}\u{1c88}", false),                     // Cyrillic Extended-C, 9.0
        ("\u{8e0}", false),                              // Arabic mark, 7.0 and later
        ("\u{2e5d}", false),                             // oblique hyphen, 14.0
    ] {
        assert_eq!(form(input).as_deref(), Ok(input), "{input:?}");
        assert_eq!(old_form(input).is_some(), old, "{input:?}");
    }
}

/// One example of each kind in UTS #51.
#[test]
fn emoji_sequences_are_allowed_unchanged() {
    for input in [
        "\u{2764}\u{fe0f}",                                                    // presentation
        "\u{263a}\u{fe0e}",                                                    // text presentation
        "1\u{fe0f}\u{20e3}",                                                   // keycap
        "#\u{fe0f}\u{20e3}*\u{fe0f}\u{20e3}",                                  // keycaps
        "\u{1f44b}\u{1f3fd}",                                                  // skin tone
        "\u{1f1fa}\u{1f1ff}",                                                  // flag
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",                         // family
        "\u{1f469}\u{1f3fd}\u{200d}\u{1f692}",                                 // profession with skin tone
        "\u{1f469}\u{200d}\u{2764}\u{fe0f}\u{200d}\u{1f48b}\u{200d}\u{1f468}", // kiss
        "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",                                  // rainbow flag
        "\u{1f3c3}\u{200d}\u{2640}\u{fe0f}\u{200d}\u{27a1}\u{fe0f}",           // direction
        "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",     // subdivision flag
    ] {
        for input in [
            input.to_owned(),
            format!("at {input} sea"),
            format!("{input}{input}"),
        ] {
            assert_eq!(form(&input).as_deref(), Ok(input.as_str()), "{input:?}");
        }
    }
}

/// Invisible characters outside of emoji would make a password that its owner cannot see.
#[test]
fn joiners_selectors_and_tags_are_rejected_outside_of_emoji() {
    for (input, character) in [
        ("a\u{200d}b", '\u{200d}'),
        ("1\u{200d}2", '\u{200d}'),
        ("\u{1f468}\u{200d}", '\u{200d}'),
        ("\u{200d}\u{1f468}", '\u{200d}'),
        ("\u{1f468}\u{200d}\u{200d}\u{1f469}", '\u{200d}'),
        ("\u{1f468}\u{200d}a", '\u{200d}'),
        ("\u{fe0f}", '\u{fe0f}'),
        ("a\u{fe0f}", '\u{fe0f}'),
        ("\u{2764}\u{fe0f}\u{fe0f}", '\u{fe0f}'),
        ("\u{2764}\u{fe00}", '\u{fe00}'),
        ("\u{845b}\u{e0100}", '\u{e0100}'),
        ("a\u{e0067}\u{e007f}", '\u{e0067}'),
        ("1\u{e0067}\u{e007f}", '\u{e0067}'),
        ("\u{1f3f4}\u{e0067}\u{e0062}", '\u{e0067}'),
        ("\u{1f3f4}\u{e007f}", '\u{e007f}'),
        ("\u{1f3f4}\u{e0067}\u{e007f}\u{e007f}", '\u{e0067}'),
        ("\u{1f3f4}\u{e0001}", '\u{e0001}'),
        ("x\u{378}", '\u{378}'),   // unassigned
        ("x\u{e000}", '\u{e000}'), // private use
        ("x\u{fffe}", '\u{fffe}'), // noncharacter
        ("x\u{1100}", '\u{1100}'), // old jamo
        ("x\u{640}", '\u{640}'),   // RFC 8264, section 9.6
        ("x\u{ad}", '\u{ad}'),     // soft hyphen
        ("x\u{2028}", '\u{2028}'), // line end
        ("x\u{387}", '\u{387}'),   // NFC makes U+00B7 of it
    ] {
        assert_eq!(form(input), Err(character), "{input:?}");
    }
    // The maximum number of tags, and one more.
    for (tags, is_allowed) in [(31, true), (32, false)] {
        let input = format!("\u{1f3f4}{}\u{e007f}", "\u{e0067}".repeat(tags));
        assert_eq!(form(&input).is_ok(), is_allowed, "{tags}");
    }
}

/// Strings that are often allowed: letters, marks, digits and the characters with context rules.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "\\PC{1,40}",
        "[a-zl·é\\u{301}\\u{308}가-힣ا-ي۰-۹٠-٩क-ह्\\u{200c}\\u{200d}ーア-ン・א-ת׳΄-ω͵ ]{1,24}",
        "[\u{1f3fb}-\u{1f3ff}\u{1f468}\u{1f469}\u{2764}\u{fe0f}\u{200d}\u{20e3}\u{e0061}-\u{e007f}\u{1f3f4}1]{1,12}",
    ]
}

proptest! {
    #[test]
    fn every_password_that_was_allowed_keeps_its_form(input in text()) {
        if let Some(old) = old_form(&input) {
            prop_assert_eq!(form(&input), Ok(old));
        }
    }

    #[test]
    fn normalization_is_idempotent_and_errors_name_a_character_of_the_input(input in text()) {
        match form(&input) {
            Ok(once) => prop_assert_eq!(form(&once), Ok(once)),
            Err(character) => prop_assert!(input.contains(character)),
        }
    }
}
