//! Localized messages of commands, in the POSIX locale of the environment, otherwise in the default language.
//!
//! Output for machines (JSON, the TSV of `phone-check`, lines for `.env`, the output of `serve`, the log) is always
//! English. So are errors of settings and faults, because operators search the web for them.

use std::env;
use std::fmt::Display;

use super::Failure;
use super::terminal::printable;
use crate::domain::password::PasswordError;
use crate::domain::phone::{NotAPrefix, PhoneError};
use crate::grpc::violation_text;
use crate::i18n::{Language, TextValue};
use crate::service::error::Problem;

/// Variables of the message locale; the first that is set counts (POSIX, Base Definitions section 8.2).
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

/// Message catalogue of a language.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages(Language);

impl Messages {
    /// Returns the messages in the language of the environment, otherwise in the default one.
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

    /// Returns the text with an id, on one line, for a terminal.
    pub(super) fn say(self, id: &str, values: &[(&str, TextValue<'_>)]) -> String {
        printable(&self.0.text(id, values)).into_owned()
    }

    /// Returns the failure of a command.
    pub(super) fn failed(self, id: &str, values: &[(&str, TextValue<'_>)]) -> Failure {
        Failure::Failed(self.say(id, values))
    }

    /// Returns the failure of a command that cannot start.
    pub(super) fn unusable(self, id: &str, values: &[(&str, TextValue<'_>)]) -> Failure {
        Failure::Unusable(self.say(id, values))
    }

    /// Returns the failure of an invalid phone number.
    pub(super) fn phone_unfit(self, problem: PhoneError) -> Failure {
        if problem == PhoneError::Empty {
            return self.unusable("cli-phone-missing", &[]);
        }
        self.unfit("cli-phone-unfit", "", &problem, problem.into())
    }

    /// Returns the failure of an invalid phone number among several.
    pub(super) fn phone_of_many_unfit(self, number: &str, problem: PhoneError) -> Failure {
        self.unfit("cli-phone-unfit", number, &problem, problem.into())
    }

    /// Returns the failure of an invalid phone number prefix.
    pub(super) fn prefix_unfit(self, problem: NotAPrefix) -> Failure {
        self.unfit(
            "cli-prefix-unfit",
            "",
            &problem,
            Problem::PhoneNumberPrefixInvalid,
        )
    }

    /// Returns the failure of an invalid password.
    pub(super) fn password_unfit(self, problem: PasswordError) -> Failure {
        if problem == PasswordError::Empty {
            return self.unusable("cli-password-missing", &[]);
        }
        self.unfit("cli-password-unfit", "", &problem, problem.into())
    }

    /// The reason completes the sentence in English. In other languages it is the sentence that callers receive.
    fn unfit(self, id: &str, of: &str, english: &dyn Display, problem: Problem) -> Failure {
        let reason = match self.0 {
            Language::English => format!("{of} {english}"),
            language if of.is_empty() => violation_text(problem, language),
            language => format!("{of}: {}", violation_text(problem, language)),
        };
        self.unusable(id, &[("problem", reason.trim_start().into())])
    }
}
