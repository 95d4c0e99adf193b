//! In which language commands speak to people: the one of the environment, as POSIX has it, or else the default one.
//!
//! What machines read (JSON, the TSV of `phone-check`, lines for `.env`, what `serve` prints, the log) is English
//! everywhere, and so is what is said of settings and faults, which people look for on the web.

use std::env;
use std::fmt::Display;

use super::Failure;
use super::terminal::printable;
use crate::domain::password::PasswordError;
use crate::domain::phone::{NotAPrefix, PhoneError};
use crate::grpc::violation_text;
use crate::i18n::{Language, TextValue};
use crate::service::error::Problem;

/// What says in which language messages are, the first that is set (POSIX, Base Definitions section 8.2).
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

/// Speaks a language.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages(Language);

impl Messages {
    /// In the language of the environment, or else in the default one.
    pub(super) fn new(default: Language) -> Self {
        let locale = VARIABLES
            .into_iter()
            .filter_map(|name| env::var(name).ok())
            .find(|value| !value.is_empty());
        Self(locale.as_deref().and_then(Language::of_posix).unwrap_or(default))
    }

    #[cfg(test)]
    pub(super) const fn english() -> Self {
        Self(Language::English)
    }

    /// The text with this id, on one line, for a terminal.
    pub(super) fn say(self, id: &str, values: &[(&str, TextValue<'_>)]) -> String {
        printable(&self.0.text(id, values)).into_owned()
    }

    /// Why a command could not do something.
    pub(super) fn failed(self, id: &str, values: &[(&str, TextValue<'_>)]) -> Failure {
        Failure::Failed(self.say(id, values))
    }

    /// Why a command cannot begin.
    pub(super) fn unusable(self, id: &str, values: &[(&str, TextValue<'_>)]) -> Failure {
        Failure::Unusable(self.say(id, values))
    }

    /// What was given is no phone number that can be used.
    pub(super) fn phone_unfit(self, problem: PhoneError) -> Failure {
        self.unfit("cli-phone-unfit", "", &problem, problem.into())
    }

    /// The same of one of several.
    pub(super) fn phone_of_many_unfit(self, number: &str, problem: PhoneError) -> Failure {
        self.unfit("cli-phone-unfit", number, &problem, problem.into())
    }

    /// What was given is no beginning of phone numbers.
    pub(super) fn prefix_unfit(self, problem: NotAPrefix) -> Failure {
        self.unfit(
            "cli-prefix-unfit",
            "",
            &problem,
            Problem::PhoneNumberPrefixInvalid,
        )
    }

    /// What was given is no password that can be used.
    pub(super) fn password_unfit(self, problem: PasswordError) -> Failure {
        self.unfit("cli-password-unfit", "", &problem, problem.into())
    }

    /// In English what is wrong ends the sentence, and else it is one of its own, as callers are told it.
    fn unfit(self, id: &str, of: &str, english: &dyn Display, problem: Problem) -> Failure {
        let said = match self.0 {
            Language::English => format!("{of} {english}"),
            language if of.is_empty() => violation_text(problem, language),
            language => format!("{of}: {}", violation_text(problem, language)),
        };
        self.unusable(id, &[("problem", said.trim_start().into())])
    }
}
