//! The parser agrees with libphonenumber on 31,123 labelled inputs.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a test")]

use phone_identity::domain::phone::{LineTypes, NumberRegion, PhoneNumber, Region};

use labelled::{Row, Taken, rows};

#[allow(dead_code, reason = "each test crate uses its part of it")]
mod labelled;

/// The result of registering the number of a row, in the terms of the file.
fn take(row: &Row) -> Option<Taken> {
    take_input(row.input, row.default_region())
}

fn take_input(input: &str, region: Option<Region>) -> Option<Taken> {
    let number = PhoneNumber::parse_new(input, region, LineTypes::all()).ok()?;
    Some(Taken {
        e164: number.as_str().to_owned(),
        line_type: number.line_type().as_str().to_owned(),
        region_code: number
            .region()
            .as_ref()
            .map_or("-", NumberRegion::as_str)
            .to_owned(),
    })
}

#[test]
fn taking_agrees_with_libphonenumber_on_every_row() {
    let rows = rows();
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| take(row) != row.taken)
        .map(|row| {
            format!(
                "{} {:?} {:?}: {:?}, not {:?}",
                row.category,
                row.input,
                row.region,
                take(row),
                row.taken
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} rows differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    // So that a file that is cut short, or labelled with nothing but refusals, does not pass.
    assert_eq!(rows.len(), 31_123);
    assert_eq!(rows.iter().filter(|row| row.taken.is_some()).count(), 12_310);
}

#[test]
fn looking_up_finds_every_number_that_was_taken() {
    for row in rows() {
        let Some(taken) = &row.taken else { continue };
        let found = PhoneNumber::parse(row.input, row.default_region());
        assert_eq!(
            found.as_ref().map(PhoneNumber::as_str),
            Ok(taken.e164.as_str()),
            "{:?}",
            row.input
        );
    }
}

/// Inputs as they are copied from contact cards and pages. Google's libphonenumber answers the same for them, or
/// refuses to read them.
#[test]
fn invisible_characters_change_no_answer_of_any_row() {
    // Each pair is put around the input, and the second one between its characters.
    let marks = [
        ("\u{202A}", "\u{202C}"),
        ("\u{2066}", "\u{A0}"),
        ("\u{FEFF}", "\u{200B}"),
        ("", "\r\n"),
    ];
    for (row, (before, after)) in rows().into_iter().zip(marks.into_iter().cycle()) {
        let characters = row.input.chars().enumerate();
        let input: String = characters
            .map(|(index, c)| {
                if index % 5 == 4 {
                    format!("{c}{after}")
                } else {
                    c.to_string()
                }
            })
            .collect();
        let pasted = format!("{before}{input}{after}");
        assert_eq!(
            take_input(&pasted, row.default_region()),
            row.taken,
            "{} {:?} {:?}",
            row.category,
            row.input,
            row.region
        );
    }
}

#[test]
fn looking_up_refuses_what_has_no_stable_form() {
    let folding: Vec<Row> = rows().into_iter().filter(|row| !row.stable).collect();
    assert_eq!(folding.len(), 2_610);
    for row in folding {
        assert!(
            PhoneNumber::parse(row.input, row.default_region()).is_err(),
            "{:?} {:?}",
            row.input,
            row.region
        );
    }
}

#[test]
fn a_key_is_read_as_itself_under_every_default_region() {
    // Regions with national numbers that start with a trunk prefix, with none, or with a calling code of more than one
    // country.
    let regions = [
        None,
        Some("UZ"),
        Some("US"),
        Some("DE"),
        Some("IT"),
        Some("AR"),
        Some("BR"),
        Some("MX"),
        Some("KZ"),
    ]
    .map(|code| code.map(|code| code.parse::<Region>().expect("a region")));
    for row in rows() {
        let Some(taken) = &row.taken else { continue };
        for region in regions {
            let again = PhoneNumber::parse_new(&taken.e164, region, LineTypes::all());
            assert_eq!(
                again.as_ref().map(PhoneNumber::as_str),
                Ok(taken.e164.as_str()),
                "{region:?}"
            );
        }
        assert!(
            PhoneNumber::from_stored(taken.e164.clone()).is_ok(),
            "{}",
            taken.e164
        );
    }
}
