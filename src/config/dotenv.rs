//! Pre-check of `.env` for substitutions: dotenvy replaces `$NAME` by a variable, so a secret such as `abc$def` would
//! silently lose its end.

/// State of the lexer: the position of a character, as dotenvy parses the file.
#[derive(Clone, Copy)]
enum LexPosition {
    /// Before the first character of a line.
    LineStart,
    /// Outside of quotes.
    Plain,
    /// Outside of quotes after white space, where `#` begins a comment.
    AfterSpace,
    SingleQuotes,
    DoubleQuotes,
    /// After a backslash; the field is true inside of double quotes.
    Escaped {
        in_quotes: bool,
    },
    Comment,
}

/// Returns the number (from 1) of the first line with a `$` that dotenvy does not read literally: a `$` that is neither
/// in single quotes nor after a backslash. `None`: the file has no such line.
pub(crate) fn line_of_substitution(text: &str) -> Option<usize> {
    let mut line = 1;
    let mut position = LexPosition::LineStart;
    for character in text.trim_start_matches('\u{feff}').chars() {
        position = match (position, character) {
            (
                LexPosition::Plain
                | LexPosition::AfterSpace
                | LexPosition::DoubleQuotes
                | LexPosition::LineStart,
                '$',
            ) => {
                return Some(line);
            }
            (LexPosition::LineStart | LexPosition::AfterSpace, '#') => LexPosition::Comment,
            (
                LexPosition::Comment | LexPosition::LineStart | LexPosition::Plain | LexPosition::AfterSpace,
                '\n',
            ) => LexPosition::LineStart,
            (LexPosition::Comment, _) => LexPosition::Comment,
            (LexPosition::SingleQuotes, '\'') | (LexPosition::DoubleQuotes, '"') => LexPosition::Plain,
            (LexPosition::SingleQuotes, _) => LexPosition::SingleQuotes,
            (LexPosition::DoubleQuotes, '\\') => LexPosition::Escaped { in_quotes: true },
            (LexPosition::DoubleQuotes | LexPosition::Escaped { in_quotes: true }, _) => {
                LexPosition::DoubleQuotes
            }
            (LexPosition::Escaped { in_quotes: false }, '\n') => LexPosition::LineStart,
            (LexPosition::Escaped { in_quotes: false }, _) => LexPosition::Plain,
            (LexPosition::LineStart, space) if space.is_whitespace() => LexPosition::LineStart,
            (LexPosition::Plain | LexPosition::AfterSpace, space) if space.is_whitespace() => {
                LexPosition::AfterSpace
            }
            (_, '\'') => LexPosition::SingleQuotes,
            (_, '"') => LexPosition::DoubleQuotes,
            (_, '\\') => LexPosition::Escaped { in_quotes: false },
            _ => LexPosition::Plain,
        };
        line += usize::from(character == '\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_dollar_is_literal_in_single_quotes_and_behind_a_backslash_only() {
        for (text, expected) in [
            ("KEY=abc$def", Some(1)),
            ("KEY=\"abc$def\"", Some(1)),
            ("KEY=$", Some(1)),
            ("KEY=abc${def}", Some(1)),
            ("\u{feff}A=1\n\n# two $\nKEY='a'$b", Some(4)),
            ("A=1 # $\nB='$'\nC=\\$x\nD=x#$y", Some(4)),
            ("A='it''s $1'\nB=\"$1\"", Some(2)),
            ("A='two\nlines $x'\nB=a\\\\$b", Some(3)),
            ("KEY='abc$def'", None),
            ("KEY=abc\\$def", None),
            ("KEY=\"abc\\$def\"", None),
            ("  # $HOME\nKEY=1 # costs $1\n", None),
            ("", None),
        ] {
            assert_eq!(line_of_substitution(text), expected, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// dotenvy, the other implementation, keeps each `$` exactly if none is found here. The values have no
        /// comments, because dotenvy drops a `$` in a comment.
        #[test]
        fn it_finds_what_dotenvy_substitutes(values in prop::collection::vec("[a$'\"\\\\ {}]{0,8}", 1..4)) {
            let lines: Vec<String> = values.iter().enumerate().map(|(i, value)| format!("K{i}={value}")).collect();
            let text = lines.join("\n");
            let read: Result<Vec<_>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
            if let Ok(read) = read {
                let kept: usize = read.iter().map(|(_, value)| value.matches('$').count()).sum();
                let is_literal = kept == text.matches('$').count();
                prop_assert_eq!(is_literal, line_of_substitution(&text).is_none(), "{:?}", text);
            }
        }
    }
}
