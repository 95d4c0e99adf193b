//! Tests of the output lines of `phone-check`.

use super::*;
use crate::domain::text::is_control_or_format;

fn rules(region: Option<&str>) -> Rules {
    Rules {
        default_region: region.map(|code| code.parse().unwrap()),
        line_types: LineTypes::default(),
        password_min_length: 8,
    }
}

fn lines(input: impl AsRef<[u8]>, region: Option<&str>) -> Vec<String> {
    let mut out = Vec::new();
    check_lines(input.as_ref(), rules(region), &mut out).unwrap();
    String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_line_shows_the_parsed_number() {
    // The expected values are those of the labelled data.
    assert_eq!(
        lines(
            "66 905 01 23\n+1 201 555 0123\n0121 234 5678\tGB\n+870 301 234 567.\t\n",
            Some("UZ")
        ),
        [
            "66 905 01 23\t+998669050123\tfixed_line_or_mobile\tUZ\tok",
            "+1 201 555 0123\t+12015550123\tfixed_line_or_mobile\tUS\tok",
            "0121 234 5678\t+441212345678\tfixed_line\tGB\tok",
            "+870 301 234 567.\t+870301234567\tmobile\t001\tok",
        ]
    );
}

#[test]
fn rejections_show_their_reason_and_no_values() {
    assert_eq!(
        lines(
            "66 905 01 23\n+11234567890\n0121 234 5678\tXX\n5550123\tUS\n+1\tUZ\tUZ\n",
            None
        ),
        [
            "66 905 01 23\t-\t-\t-\tregion_required",
            "+11234567890\t-\t-\t-\tnot_valid",
            "0121 234 5678\t-\t-\t-\tregion_unknown",
            "5550123\t-\t-\t-\tlocal_only",
            "+1\t-\t-\t-\tregion_unknown",
        ]
    );
}

#[test]
fn a_line_type_that_may_not_register_is_the_only_rejection_with_values() {
    let expected = "+800 1234 5678\t+80012345678\ttoll_free\t001\tline_type_not_allowed";
    assert_eq!(lines("+800 1234 5678\n", None), [expected]);
    let mut out = Vec::new();
    let everything = Rules {
        default_region: None,
        line_types: LineTypes::all(),
        password_min_length: 8,
    };
    check_arguments(["+80012345678"], everything, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "+80012345678\t+80012345678\ttoll_free\t001\tok\n"
    );
}

#[test]
fn arguments_are_complete_numbers() {
    let mut out = Vec::new();
    check_arguments(
        ["669050123", "669050123\tUZ", "", "a\nb"],
        rules(Some("UZ")),
        &mut out,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "669050123\t+998669050123\tfixed_line_or_mobile\tUZ\tok\n\
         669050123\\tUZ\t-\t-\t-\tcharacter_not_allowed\n\
         \t-\t-\t-\tempty\n\
         a\\nb\t-\t-\t-\tcharacter_not_allowed\n"
    );
}

#[test]
fn each_input_line_gives_one_output_line() {
    let empty = "\t-\t-\t-\tempty";
    assert_eq!(lines("", None), [""; 0]);
    assert_eq!(lines("\n", None), [empty]);
    assert_eq!(lines("\n\r\n\n", None), [empty; 3]);
    let number = "+998669050123\t+998669050123\tfixed_line_or_mobile\tUZ\tok";
    assert_eq!(lines("+998669050123", None), [number]);
    assert_eq!(lines("+998669050123\r", None), [number]);
    assert_eq!(
        lines("+998669050123\r\n\n+998669050123\tUZ\r\n", None),
        [number, empty, number]
    );
    // Only one \r belongs to the line end.
    assert_eq!(lines("1\r\r\n", None), ["1\\r\t-\t-\t-\tnot_a_number"]);
}

#[test]
fn invisible_characters_are_escaped() {
    let echoed = |input: &str| lines(input, None)[0].split('\t').next().unwrap().to_owned();
    assert_eq!(echoed("\u{202A}+998\u{A0}90\u{200B}\0\u{1B}[31m\u{2028}"), {
        "\\u{202a}+998\\u{a0}90\\u{200b}\\0\\u{1b}[31m\\u{2028}"
    });
    assert_eq!(echoed("\\t 'a' \"b\" é 📞 ٩"), "\\\\t 'a' \"b\" é 📞 ٩");
}

#[test]
fn bytes_that_are_not_utf8_do_not_stop_the_check() {
    assert_eq!(
        lines(
            b"+99866\xFF9050123\n+998669050123\tU\xFF\n+1 201 555 0123\n",
            None
        ),
        [
            "+99866\u{FFFD}9050123\t-\t-\t-\tcharacter_not_allowed",
            "+998669050123\t-\t-\t-\tregion_unknown",
            "+1 201 555 0123\t+12015550123\tfixed_line_or_mobile\tUS\tok",
        ]
    );
}

#[test]
fn a_long_line_is_truncated_at_its_end() {
    // A line of the maximum length, of one byte more, and of far more, each with every line end.
    for length in [
        MAX_LINE_BYTES,
        MAX_LINE_BYTES + 1,
        MAX_LINE_BYTES + 2,
        MAX_LINE_BYTES + 3,
        1_000_000,
    ] {
        for end in ["\n", "\r\n"] {
            let input = format!("{}{end}+1 201 555 0123{end}", "1".repeat(length));
            let shown = "1".repeat(length.min(MAX_LINE_BYTES));
            assert_eq!(
                lines(&input, None),
                [
                    format!("{shown}\t-\t-\t-\tinput_too_long").as_str(),
                    "+1 201 555 0123\t+12015550123\tfixed_line_or_mobile\tUS\tok",
                ],
                "{length} {end:?}"
            );
        }
        assert_eq!(lines("1".repeat(length), None).len(), 1, "{length}");
    }
    // A line of the maximum length is complete with either line end: it is rejected for its region, not for its length.
    for end in ["", "\n", "\r\n"] {
        let region = "X".repeat(MAX_LINE_BYTES - "1\t".len());
        assert_eq!(
            lines(format!("1\t{region}{end}"), None),
            ["1\t-\t-\t-\tregion_unknown"]
        );
        assert_eq!(
            lines(format!("1\t{region}X{end}"), None),
            ["1\t-\t-\t-\tinput_too_long"]
        );
    }
    // The line is too long, although the number alone is not.
    let padded = format!("+12015550123\tUS{}\n+1", " ".repeat(MAX_LINE_BYTES));
    assert_eq!(lines(&padded, None)[0], "+12015550123\t-\t-\t-\tinput_too_long");
}

/// An output that fails.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
    assert_eq!(
        kind(check_lines(&b"1\n"[..], rules(None), Broken)),
        Err(io::ErrorKind::BrokenPipe)
    );
    assert_eq!(
        kind(check_arguments(["1"], rules(None), Broken)),
        Err(io::ErrorKind::BrokenPipe)
    );
    // A buffer may accept all bytes and fail only when it is flushed at the end.
    assert_eq!(
        kind(check_lines(&b"1\n"[..], rules(None), io::BufWriter::new(Broken))),
        Err(io::ErrorKind::BrokenPipe)
    );
}

#[test]
fn control_characters_are_written_as_escapes() {
    for character in ('\0'..=char::MAX).filter(|c| is_control_or_format(*c)) {
        let mut out = Vec::new();
        check_arguments([format!("1{character}2")], rules(None), &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        let (input, rest) = line.split_once('\t').unwrap();
        assert!(!input.contains(is_control_or_format), "{character:?}: {input:?}");
        assert_eq!(
            rest.matches(is_control_or_format).count(),
            4,
            "three tabs and a line end: {rest:?}"
        );
    }
}
