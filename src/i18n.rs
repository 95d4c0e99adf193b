//! Localization: texts for users in four languages. The texts are Fluent files in `locales/`.

use std::str::FromStr;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use thiserror::Error;
use unic_langid::LanguageIdentifier;

/// Maximum length of an `accept-language` value, in bytes. A longer value is ignored.
const MAX_ACCEPT_LANGUAGE: usize = 256;

/// A language with texts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Uzbek, in Latin script.
    Uzbek,
    /// Russian.
    Russian,
    /// Turkish.
    Turkish,
}

impl Language {
    /// All languages, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::English, Self::Uzbek, Self::Russian, Self::Turkish];

    /// The language tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Uzbek => "uz",
            Self::Russian => "ru",
            Self::Turkish => "tr",
        }
    }

    /// The available language with the highest weight in an `accept-language` value (RFC 9110 section 12.5.4). `None`:
    /// the value contains none of them. Region and script are ignored: `ru-UZ` is Russian.
    #[must_use]
    pub fn accepted(accept_language: &str) -> Option<Self> {
        if accept_language.len() > MAX_ACCEPT_LANGUAGE {
            return None;
        }
        let (mut best, mut best_weight) = (None, 0.0);
        for item in accept_language.split(',') {
            let (range, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight
                .trim()
                .strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok())
                .unwrap_or(0.0);
            let primary = range.split(['-', '_']).next().unwrap_or_default().trim();
            // The first of several equal weights wins.
            if let Some(language) = Self::of_primary(primary)
                && weight > best_weight
            {
                (best, best_weight) = (Some(language), weight);
            }
        }
        best
    }

    /// The language of a POSIX locale, such as `uz_UZ.UTF-8`. `C` and `POSIX` are English. `None`: the language has no
    /// texts.
    #[must_use]
    pub fn of_posix(locale: &str) -> Option<Self> {
        let name = locale.split(['.', '@']).next().unwrap_or_default();
        match name {
            "C" | "POSIX" => Some(Self::English),
            name => Self::of_tag(name),
        }
    }

    /// The language of a language tag (BCP 47). `None`: the language has no texts.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::of_primary(tag.split(['-', '_']).next().unwrap_or_default())
    }

    fn of_primary(primary: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// Formats the text with this ID. Codes are values of type text, so that they keep their leading zeros. A missing
    /// text falls back to English, and then to its ID; a test ensures that none is missing.
    #[must_use]
    pub fn text(self, id: &str, values: &[(&str, TextValue<'_>)]) -> String {
        let mut args = FluentArgs::new();
        for &(name, value) in values {
            match value {
                TextValue::Number(number) => args.set(name, number),
                TextValue::Text(text) => args.set(name, FluentValue::from(text)),
            }
        }
        [self, Self::English]
            .into_iter()
            .find_map(|language| {
                let bundle = &BUNDLES[language as usize];
                let pattern = bundle.get_message(id)?.value()?;
                Some(
                    bundle
                        .format_pattern(pattern, Some(&args), &mut Vec::new())
                        .into_owned(),
                )
            })
            .unwrap_or_else(|| id.to_owned())
    }
}

/// A value for a placeholder of a text.
#[derive(Clone, Copy, Debug)]
pub enum TextValue<'a> {
    /// A number.
    Number(usize),
    /// Text, inserted unchanged.
    Text(&'a str),
}

impl From<usize> for TextValue<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for TextValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// The tag is not one of an available language.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not one of en, uz, ru, tr")]
pub struct UnknownLanguage;

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(tag: &str) -> Result<Self, UnknownLanguage> {
        let mut all = Self::ALL.into_iter();
        all.find(|language| language.tag() == tag).ok_or(UnknownLanguage)
    }
}

/// The Fluent files of a language.
macro_rules! texts {
    ($tag:literal) => {
        [
            include_str!(concat!("../locales/", $tag, "/cli.ftl")),
            include_str!(concat!("../locales/", $tag, "/errors.ftl")),
            include_str!(concat!("../locales/", $tag, "/messages.ftl")),
        ]
    };
}

static BUNDLES: LazyLock<[FluentBundle<FluentResource>; 4]> = LazyLock::new(|| {
    [
        bundle(Language::English, &texts!("en")),
        bundle(Language::Uzbek, &texts!("uz")),
        bundle(Language::Russian, &texts!("ru")),
        bundle(Language::Turkish, &texts!("tr")),
    ]
});

/// Parses the texts of a language. They are compiled in, and a test parses them, so syntax errors are ignored here.
fn bundle(language: Language, texts: &[&str]) -> FluentBundle<FluentResource> {
    let language: LanguageIdentifier = language.tag().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![language]);
    // Isolation marks around values are needed between scripts of different direction only. These are all left to
    // right.
    bundle.set_use_isolating(false);
    for texts in texts {
        let resource = FluentResource::try_new((*texts).to_owned()).unwrap_or_else(|(resource, _)| resource);
        bundle.add_resource_overriding(resource);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_available_language_with_the_highest_weight_wins() {
        for (accept_language, expected) in [
            ("", None),
            ("ru", Some(Language::Russian)),
            ("RU-uz", Some(Language::Russian)),
            ("en-GB", Some(Language::English)),
            ("uz-Cyrl-UZ,ru;q=0.5", Some(Language::Uzbek)),
            ("en;q=0.1, tr;q=0.8, ru;q=0.5", Some(Language::Turkish)),
            ("de, fr;q=0.9, tr;q=0.1", Some(Language::Turkish)),
            ("ru;q=0, uz;q=0.1", Some(Language::Uzbek)),
            ("uz, ru", Some(Language::Uzbek)),
            ("de, fr;q=0.9", None),
            ("*", None),
            ("ru;q=0", None),
            ("ru;q=NaN", None),
            ("ru;level=1", None),
            (";;,,;q=,", None),
        ] {
            assert_eq!(Language::accepted(accept_language), expected, "{accept_language}");
        }
        assert_eq!(Language::accepted(&format!("ru{}", ",ru".repeat(100))), None);
    }

    #[test]
    fn posix_locales_and_language_tags_are_parsed() {
        for (locale, expected) in [
            ("uz_UZ.UTF-8", Some(Language::Uzbek)),
            ("uz_UZ@cyrillic", Some(Language::Uzbek)),
            ("ru", Some(Language::Russian)),
            ("tr_TR", Some(Language::Turkish)),
            ("en_US.UTF-8", Some(Language::English)),
            ("C", Some(Language::English)),
            ("C.UTF-8", Some(Language::English)),
            ("POSIX", Some(Language::English)),
            ("de_DE.UTF-8", None),
            ("", None),
        ] {
            assert_eq!(Language::of_posix(locale), expected, "{locale}");
        }
        for language in Language::ALL {
            assert_eq!(language.tag().parse(), Ok(language));
        }
        for unknown in ["", "EN", "en-GB", "de"] {
            assert_eq!(unknown.parse::<Language>(), Err(UnknownLanguage), "{unknown}");
        }
    }

    #[test]
    fn texts_parse_and_numbers_are_inserted() {
        for (language, expected) in Language::ALL.into_iter().zip([
            "The password needs at least 8 characters.",
            "Parol kamida 8 ta belgidan iborat boʻlishi kerak.",
            "Минимальная длина пароля (символов): 8.",
            "Parola en az 8 karakter olmalıdır.",
        ]) {
            assert_eq!(
                language.text("violation-password-too-short", &[("min", 8.into())]),
                expected
            );
        }
        for texts in [texts!("en"), texts!("uz"), texts!("ru"), texts!("tr")] {
            for text in texts {
                FluentResource::try_new(text.to_owned()).unwrap();
            }
        }
    }

    /// The placeholders of each text of a language, by its ID.
    fn values(texts: &[&'static str]) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let mut all = BTreeMap::new();
        for line in texts.iter().flat_map(|text| text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, text) = line.split_once(" = ").expect("a text of one line");
            let values = text
                .split("{ $")
                .skip(1)
                .map(|rest| rest.split(" }").next().unwrap());
            assert!(
                all.insert(id, values.collect()).is_none(),
                "{id} is defined twice"
            );
        }
        all
    }

    /// Appends all source files of the folder to `all`.
    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    /// Each language has one term for user, account and administrator. These words belong to other terms, or to literal
    /// translations that native speakers have corrected.
    #[test]
    fn every_language_has_one_term_for_user_account_and_administrator() {
        for (texts, others) in [
            (
                texts!("en"),
                &["person", "people", "nobody", "somebody", "disabled"][..],
            ),
            (
                texts!("uz"),
                &["odam", "shaxs", "maʼmur", "administrator", "akkaunt"],
            ),
            (texts!("ru"), &["человек", "людей", "учётн", "деактивир"]),
            (texts!("tr"), &["kişi", "işleten", "admin"]),
        ] {
            for line in texts.iter().flat_map(|text| text.lines()) {
                let Some((id, text)) = line.split_once(" = ") else {
                    continue;
                };
                let text = text.to_lowercase();
                assert!(!others.iter().any(|other| text.contains(other)), "{id}: {text}");
            }
        }
    }

    #[test]
    fn no_language_lacks_a_text_and_every_text_is_used() {
        let english = values(&texts!("en"));
        for (language, texts) in [
            (Language::Uzbek, texts!("uz")),
            (Language::Russian, texts!("ru")),
            (Language::Turkish, texts!("tr")),
        ] {
            assert_eq!(values(&texts), english, "{language:?}");
            for id in english.keys().filter(|id| **id != "cli-column-id") {
                assert_ne!(
                    language.text(id, &[]),
                    Language::English.text(id, &[]),
                    "{id} in {language:?}"
                );
            }
        }
        let mut all = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        // The IDs of reasons are derived from their names: see `grpc::status`.
        let is_literal = |id: &str| id.starts_with("cli-") || id.starts_with("sms-");
        let known: BTreeSet<&str> = english.keys().copied().filter(|id| is_literal(id)).collect();
        let used: BTreeSet<&str> = all.split('"').filter(|text| known.contains(text)).collect();
        assert_eq!(used, known, "a text is not used");
        let is_id =
            |text: &&str| is_literal(text) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let prefixes = ["cli-", "sms-"];
        let referenced: BTreeSet<&str> = all
            .split('"')
            .filter(is_id)
            .filter(|id| !prefixes.contains(id))
            .collect();
        assert_eq!(referenced, known, "a text is missing");
    }
}
