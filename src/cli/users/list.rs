//! `users list`.

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

/// How many people are read at a time.
const PAGE_SIZE: u64 = 500;

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only numbers that begin so, such as +9989
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Only people of this status
    #[arg(long)]
    status: Option<StatusFilter>,
    /// Only people who are, or are not, staff
    #[arg(long, value_name = "BOOL")]
    staff: Option<bool>,
    /// Only people who are, or are not, superusers
    #[arg(long, value_name = "BOOL")]
    superuser: Option<bool>,
    /// Only people whose number is, or is not, verified
    #[arg(long, value_name = "BOOL")]
    verified: Option<bool>,
    /// Only people who joined at this time or later: 2026-11-24, or 2026-11-24T07:40:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    joined_from: Option<Timestamp>,
    /// Only people who joined before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    joined_before: Option<Timestamp>,
    /// Only people who last signed in at this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    last_login_from: Option<Timestamp>,
    /// Only people who last signed in before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    last_login_before: Option<Timestamp>,
    /// What to order by
    #[arg(long, default_value = "number")]
    order: OrderBy,
    /// The other way round
    #[arg(long)]
    descending: bool,
    /// Most people that are listed
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
    /// By when they joined
    Joined,
    /// By when they last signed in; who never did comes first
    LastLogin,
}

/// A day, or a time.
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
    /// Which people, and in all how many of them.
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
        // The reader of a closed pipe needs no more.
        Err(UserCommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|problem| printer.failed(problem)),
    }
}

async fn print_pages(
    admin: &Admin,
    (mut list, mut missing): (List, u64),
    printer: &mut Printer,
) -> Result<(), UserCommandError> {
    printer.heading()?;
    while missing > 0 {
        list.limit = missing.min(PAGE_SIZE);
        let page = admin.list(&OPERATOR, list.clone()).await?;
        for user in &page.users {
            printer.user(user)?;
        }
        missing = missing.saturating_sub(list.limit);
        list.after = page.end;
        if list.after.is_none() {
            return Ok(());
        }
    }
    note(&printer.messages.say("cli-more-people", &[]));
    Ok(())
}
