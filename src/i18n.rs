//! The four languages in which people may be written to. The texts are Fluent files in `locales/`.

use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use unic_langid::LanguageIdentifier;

/// The most bytes of an `accept-language` value that are looked at.
const MAX_ACCEPT_LANGUAGE: usize = 256;

/// A language that there are texts in.
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
    /// Every language, in the order of the enum.
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

    /// The language that an `accept-language` value (RFC 9110 section 12.5.4) wants most, of those that there are;
    /// English if it wants none of them. A region or script is passed over: `ru-UZ` is Russian.
    #[must_use]
    pub fn accepted(accept_language: &str) -> Self {
        if accept_language.len() > MAX_ACCEPT_LANGUAGE {
            return Self::default();
        }
        let mut best = (0.0, Self::default());
        for item in accept_language.split(',') {
            let (range, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight
                .trim()
                .strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok())
                .unwrap_or(0.0);
            let primary = range.split(['-', '_']).next().unwrap_or_default().trim();
            // Of equal weights the first counts.
            if let Some(language) = Self::of_primary(primary)
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The language of a language tag (BCP 47). `None`: there are no texts in it.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::of_primary(tag.split(['-', '_']).next().unwrap_or_default())
    }

    fn of_primary(primary: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// The text with this id, with numbers put in. A text that is missing comes in English, or as its id; a test sees
    /// to it that none is missing.
    #[must_use]
    pub fn text(self, id: &str, numbers: &[(&str, usize)]) -> String {
        let mut args = FluentArgs::new();
        for &(name, number) in numbers {
            args.set(name, number);
        }
        self.format(id, &args)
    }

    /// As [`Self::text`], with a code put in as it is: a number would lose its leading zeros.
    #[must_use]
    pub fn text_with_code(self, id: &str, code: &str) -> String {
        let mut args = FluentArgs::new();
        args.set("code", code);
        self.format(id, &args)
    }

    fn format(self, id: &str, args: &FluentArgs<'_>) -> String {
        [self, Self::English]
            .into_iter()
            .find_map(|language| {
                let bundle = &BUNDLES[language as usize];
                let pattern = bundle.get_message(id)?.value()?;
                Some(
                    bundle
                        .format_pattern(pattern, Some(args), &mut Vec::new())
                        .into_owned(),
                )
            })
            .unwrap_or_else(|| id.to_owned())
    }
}

/// The files of a language.
macro_rules! texts {
    ($tag:literal) => {
        [
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

/// The texts are part of the program and a test parses them, so what would be wrong with them is left out here.
fn bundle(language: Language, texts: &[&str]) -> FluentBundle<FluentResource> {
    let language: LanguageIdentifier = language.tag().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![language]);
    // Marks around what is put in matter between scripts of different direction, which these are not.
    bundle.set_use_isolating(false);
    for texts in texts {
        let resource = FluentResource::try_new((*texts).to_owned()).unwrap_or_else(|(resource, _)| resource);
        bundle.add_resource_overriding(resource);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_language_that_there_is_wins() {
        for (accept_language, expected) in [
            ("", Language::English),
            ("ru", Language::Russian),
            ("RU-uz", Language::Russian),
            ("uz-Cyrl-UZ,ru;q=0.5", Language::Uzbek),
            ("en;q=0.1, tr;q=0.8, ru;q=0.5", Language::Turkish),
            ("de, fr;q=0.9, tr;q=0.1", Language::Turkish),
            ("ru;q=0, uz;q=0.1", Language::Uzbek),
            ("uz, ru", Language::Uzbek),
            ("*", Language::English),
            ("ru;q=NaN", Language::English),
            ("ru;level=1", Language::English),
            (";;,,;q=,", Language::English),
        ] {
            assert_eq!(Language::accepted(accept_language), expected, "{accept_language}");
        }
        assert_eq!(
            Language::accepted(&format!("ru{}", ",ru".repeat(100))),
            Language::English
        );
    }

    #[test]
    fn the_texts_parse_and_numbers_are_put_in() {
        for (language, expected) in Language::ALL.into_iter().zip([
            "The password needs at least 8 characters.",
            "Parol kamida 8 ta belgidan iborat boʻlishi kerak.",
            "Минимальная длина пароля (символов): 8.",
            "Parola en az 8 karakter olmalıdır.",
        ]) {
            assert_eq!(
                language.text("violation-password-too-short", &[("min", 8)]),
                expected
            );
        }
        for texts in [texts!("en"), texts!("uz"), texts!("ru"), texts!("tr")] {
            for text in texts {
                FluentResource::try_new(text.to_owned()).unwrap();
            }
        }
    }
}
