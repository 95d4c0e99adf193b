//! `users list`: lists users by filters, in pages.

use std::io;

use chrono::{DateTime, NaiveDate};
use clap::{Args, ValueEnum};

use super::show::Printer;
use super::{OPERATOR, UserCommandError};
use crate::cli::Failure;
use crate::cli::messages::Messages;
use crate::cli::output::note;
use crate::clock::Timestamp;
use crate::domain::phone::NumberPrefix;
use crate::domain::user::UserStatus;
use crate::service::admin::Admin;
use crate::store::users::{List, Order, TimeRange, UserFilter};

/// Number of users per page.
const PAGE_SIZE: u64 = 500;

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only phone numbers with this prefix, such as +9989
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only users with this status
    #[arg(long)]
    status: Option<StatusFilter>,
    /// Only users that are (true) or are not (false) staff
    #[arg(long, value_name = "BOOL")]
    staff: Option<bool>,
    /// Only users that are (true) or are not (false) superusers
    #[arg(long, value_name = "BOOL")]
    superuser: Option<bool>,
    /// Only users with a phone number that is (true) or is not (false) verified
    #[arg(long, value_name = "BOOL")]
    verified: Option<bool>,
    /// Only users created at or after this time: 2026-11-24, or 2026-11-24T07:40:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    joined_from: Option<Timestamp>,
    /// Only users created before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    joined_before: Option<Timestamp>,
    /// Only users with their last sign-in at or after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    last_login_from: Option<Timestamp>,
    /// Only users with their last sign-in before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    last_login_before: Option<Timestamp>,
    /// Sort order
    #[arg(long, default_value = "number")]
    order: OrderBy,
    /// Sort in descending order
    #[arg(long)]
    descending: bool,
    /// Maximum number of users in the list
    #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StatusFilter {
    Active,
    Deactivated,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderBy {
    /// By phone number
    Number,
    /// By time of creation
    Joined,
    /// By time of the last sign-in; users without one come first
    LastLogin,
}

/// Parses a day or a time.
fn time(text: &str) -> Result<Timestamp, String> {
    let day = || {
        Some(
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()?
                .and_time(Default::default())
                .and_utc(),
        )
    };
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .or_else(day)
        .ok_or_else(|| "neither a day such as 2026-11-24 nor a time such as 2026-11-24T07:40:00Z".to_owned())
}

impl ListArguments {
    /// Returns the query, and the maximum number of users in all pages.
    pub(super) fn read(self, messages: Messages) -> Result<(List, u64), Failure> {
        let prefix = self.prefix.as_deref().map(NumberPrefix::parse).transpose();
        let list = List {
            filter: UserFilter {
                prefix: prefix.map_err(|problem| messages.prefix_unfit(problem))?,
                status: self.status.map(|status| match status {
                    StatusFilter::Active => UserStatus::Active,
                    StatusFilter::Deactivated => UserStatus::Deactivated,
                }),
                is_staff: self.staff,
                is_superuser: self.superuser,
                phone_verified: self.verified,
                created: TimeRange {
                    start: self.joined_from,
                    end: self.joined_before,
                },
                last_login: TimeRange {
                    start: self.last_login_from,
                    end: self.last_login_before,
                },
            },
            order: match self.order {
                OrderBy::Number => Order::PhoneNumber,
                OrderBy::Joined => Order::CreatedAt,
                OrderBy::LastLogin => Order::LastLoginAt,
            },
            descending: self.descending,
            after: None,
            limit: PAGE_SIZE,
        };
        Ok((list, self.limit))
    }
}

pub(super) async fn list(admin: &Admin, wanted: (List, u64), printer: &mut Printer) -> Result<(), Failure> {
    match print_pages(admin, wanted, printer).await {
        // The reader of a closed pipe needs no more lines.
        Err(UserCommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|problem| printer.failed(problem)),
    }
}

async fn print_pages(
    admin: &Admin,
    (mut list, mut remaining): (List, u64),
    printer: &mut Printer,
) -> Result<(), UserCommandError> {
    printer.heading()?;
    while remaining > 0 {
        list.limit = remaining.min(PAGE_SIZE);
        let page = admin.list(&OPERATOR, list.clone()).await?;
        for user in &page.users {
            printer.user(user)?;
        }
        remaining = remaining.saturating_sub(list.limit);
        list.after = page.end;
        if list.after.is_none() {
            return Ok(());
        }
    }
    note(&printer.messages.say("cli-more-people", &[]));
    Ok(())
}
