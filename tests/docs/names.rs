//! Replaces what differs in every run (ids, tokens, times) by names, so that outputs can be compared.

use std::collections::HashMap;

/// JSON fields with values that differ in every run and that no pattern recognises.
const OPAQUE: [&str; 2] = ["etag", "nextPageToken"];

/// Names for ids and tokens by the order in which they first appear: equal values keep equal names.
#[derive(Default)]
pub(crate) struct Names(HashMap<String, String>);

impl Names {
    pub(crate) fn normalise(&mut self, text: &str) -> String {
        let text = without_opaque(text);
        let text = text.as_str();
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
        let mut normal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_in_word) {
            normal.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
            normal.push_str(&self.name(&rest[..end]));
            rest = &rest[end..];
        }
        normal + rest
    }

    fn name(&mut self, word: &str) -> String {
        let kind = if word.starts_with("pid_") || word.starts_with("pis_") {
            "token"
        } else if is_uuid(word) {
            "id"
        } else if is_time(word) {
            return "(time)".to_owned();
        } else {
            return word.to_owned();
        };
        let number = self.0.len() + 1;
        let name = self.0.entry(word.to_owned());
        name.or_insert_with(|| format!("({kind} {number})")).clone()
    }
}

/// Returns JSON without the values of opaque fields.
fn without_opaque(text: &str) -> String {
    let mut text = text.to_owned();
    for name in OPAQUE {
        for colon in [":", ": "] {
            let before = format!("\"{name}\"{colon}\"");
            let mut from = 0;
            while let Some(start) = text[from..]
                .find(&before)
                .map(|found| from + found + before.len())
            {
                let end = start + text[start..].find('"').expect("a value that ends");
                text.replace_range(start..end, "(opaque)");
                from = start;
            }
        }
    }
    text
}

fn is_uuid(word: &str) -> bool {
    uuid::Uuid::try_parse(word).is_ok()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && chrono::DateTime::parse_from_rfc3339(word).is_ok()
}
