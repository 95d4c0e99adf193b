//! Printer of users: a table, or one JSON object per line. It prints complete phone numbers, because the operator may
//! read them.

use std::io::{self, Write as _};

use chrono::SecondsFormat;
use serde::Serialize;

use super::UserCommandError;
use crate::cli::messages::Messages;
use crate::cli::terminal::{self, printable};
use crate::cli::{Failure, exact};
use crate::clock::Timestamp;
use crate::domain::user::{Locale, UserStatus};
use crate::service::admin::ManagedUser;

/// Prints users to standard output, each as soon as it is read.
pub(super) struct Printer {
    pub(super) messages: Messages,
    json: bool,
    has_heading: bool,
}

impl Printer {
    pub(super) fn new(json: bool, messages: Messages) -> Self {
        Self {
            messages,
            json,
            has_heading: false,
        }
    }

    /// Prints the names of the columns of a table, once.
    pub(super) fn heading(&mut self) -> io::Result<()> {
        if self.json || self.has_heading {
            return Ok(());
        }
        self.has_heading = true;
        let names = [
            "cli-column-id",
            "cli-column-number",
            "cli-column-status",
            "cli-column-flags",
            "cli-column-verified",
            "cli-column-joined",
            "cli-column-last-login",
        ];
        let names = names.map(|id| self.messages.say(id, &[]));
        row(names.each_ref().map(String::as_str))
    }

    /// Returns the failure of an operation, in the language of the operator.
    pub(super) fn failed(&self, problem: impl Into<UserCommandError>) -> Failure {
        Failure::Failed(problem.into().text(self.messages))
    }

    pub(super) fn user(&mut self, managed: &ManagedUser) -> io::Result<()> {
        let user = &managed.user;
        let status = match user.status {
            UserStatus::Active => "active",
            UserStatus::Deactivated => "deactivated",
        };
        if self.json {
            return line(&JsonUser {
                user_id: user.id.to_string(),
                phone_number: user.phone_number.as_str(),
                status,
                deactivated_by_admin: managed.deactivated_by_admin,
                is_staff: user.is_staff,
                is_superuser: user.is_superuser,
                has_password: user.has_password,
                phone_verified_at: user.phone_verified_at.map(exact),
                locale: user.locale.as_ref().map(Locale::as_str),
                created_at: exact(user.created_at),
                updated_at: exact(user.updated_at),
                last_login_at: user.last_login_at.map(exact),
                etag: managed.etag.as_str(),
            });
        }
        self.heading()?;
        let flags = [
            (user.is_staff, "cli-flag-staff"),
            (user.is_superuser, "cli-flag-superuser"),
            (!user.has_password, "cli-flag-no-password"),
        ];
        let flags: Vec<String> = flags
            .into_iter()
            .filter(|flag| flag.0)
            .map(|flag| self.messages.say(flag.1, &[]))
            .collect();
        let status = match user.status {
            UserStatus::Active => "cli-status-active",
            UserStatus::Deactivated if managed.deactivated_by_admin => "cli-status-deactivated-by-admin",
            UserStatus::Deactivated => "cli-status-deactivated",
        };
        row([
            &user.id.to_string(),
            user.phone_number.as_str(),
            &self.messages.say(status, &[]),
            &if flags.is_empty() {
                "-".to_owned()
            } else {
                flags.join(",")
            },
            &seconds(user.phone_verified_at),
            &seconds(Some(user.created_at)),
            &seconds(user.last_login_at),
        ])
    }

    pub(super) fn revoked(&self, managed: &ManagedUser, revoked_count: u64) -> io::Result<()> {
        let user = &managed.user;
        let phone_number = user.phone_number.as_str();
        if self.json {
            return line(&JsonRevoked {
                user_id: user.id.to_string(),
                phone_number,
                revoked_count,
            });
        }
        let count = usize::try_from(revoked_count).unwrap_or(usize::MAX);
        let values = [("number", phone_number.into()), ("count", count.into())];
        let said = self.messages.say("cli-sessions-ended", &values);
        writeln!(io::stdout().lock(), "{said}")
    }

    pub(super) fn deleted(&self, managed: &ManagedUser) -> io::Result<()> {
        let user = &managed.user;
        let phone_number = user.phone_number.as_str();
        if self.json {
            return line(&JsonDeleted {
                user_id: user.id.to_string(),
                phone_number,
                deleted: true,
            });
        }
        let said = self
            .messages
            .say("cli-deleted", &[("number", phone_number.into())]);
        writeln!(io::stdout().lock(), "{said}")
    }
}

/// A user as JSON, with the field names of the proto contract.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonUser<'a> {
    user_id: String,
    phone_number: &'a str,
    status: &'a str,
    deactivated_by_admin: bool,
    is_staff: bool,
    is_superuser: bool,
    has_password: bool,
    phone_verified_at: Option<String>,
    locale: Option<&'a str>,
    created_at: String,
    updated_at: String,
    last_login_at: Option<String>,
    etag: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRevoked<'a> {
    user_id: String,
    phone_number: &'a str,
    revoked_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonDeleted<'a> {
    user_id: String,
    phone_number: &'a str,
    deleted: bool,
}

fn line(value: &impl Serialize) -> io::Result<()> {
    terminal::write_json(io::stdout().lock(), value)
}

fn row(cells: [&str; 7]) -> io::Result<()> {
    let [id, number, status, flags, verified, joined, last_login] = cells.map(printable);
    writeln!(
        io::stdout().lock(),
        "{id:<36}  {number:<21}  {status:<20}  {flags:<17}  {verified:<20}  {joined:<20}  {last_login}"
    )
}

fn seconds(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}
