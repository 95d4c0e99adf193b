//! Keyset pagination of lists of users.
//!
//! A page begins after the position of the last user of the previous page, never after a number of rows. Its cost is
//! therefore the same for each page, and users that are inserted or deleted before it do not shift it. A page is read
//! in up to three parts, each of which is one index range scan on every database: the users that are equal to the last
//! one in the sort column and follow it by id; the rest; and the users without a time of sign-in, which some databases
//! sort first and some last. With one condition (`OR`, or a comparison of rows), some databases would not use the range
//! scan and would read all preceding rows.

use sea_orm::sea_query::SimpleExpr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select, Value,
};

use super::Account;
use crate::clock::Timestamp;
use crate::domain::phone::{NumberPrefix, PhoneNumber};
use crate::domain::user::{UserId, UserStatus};
use crate::store::StoreError;
use crate::store::entity::user::{Column, Entity, StoredStatus};
use crate::store::times::comparable;

/// Half-open range of times.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TimeRange {
    /// The first time in the range.
    pub start: Option<Timestamp>,
    /// The first time after the range.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    fn holds(self, column: Column, backend: DbBackend) -> Condition {
        Condition::all()
            .add_option(self.start.map(|start| column.gte(comparable(start, backend))))
            .add_option(self.end.map(|end| column.lt(comparable(end, backend))))
    }
}

/// Filter of a list: a user has to match all fields that are set.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Prefix of the number.
    pub prefix: Option<NumberPrefix>,
    /// The status.
    pub status: Option<UserStatus>,
    /// Whether the user is staff.
    pub is_staff: Option<bool>,
    /// Whether the user is a superuser.
    pub is_superuser: Option<bool>,
    /// Whether the number is verified.
    pub phone_verified: Option<bool>,
    /// Time of registration.
    pub created: TimeRange,
    /// Time of the last sign-in. A user without a sign-in matches no range.
    pub last_login: TimeRange,
}

impl UserFilter {
    fn condition(&self, backend: DbBackend) -> Condition {
        let is = |column: Column, value: Option<bool>| value.map(|value| column.eq(value));
        Condition::all()
            .add_option(self.prefix.as_ref().map(starts_with))
            .add_option(
                self.status
                    .map(|status| Column::Status.eq(StoredStatus::from(status))),
            )
            .add_option(is(Column::IsStaff, self.is_staff))
            .add_option(is(Column::IsSuperuser, self.is_superuser))
            .add_option(self.phone_verified.map(|verified| {
                if verified {
                    Column::PhoneVerifiedAt.is_not_null()
                } else {
                    Column::PhoneVerifiedAt.is_null()
                }
            }))
            .add(self.created.holds(Column::CreatedAt, backend))
            .add(self.last_login.holds(Column::LastLoginAt, backend))
    }
}

/// A range and not LIKE, for which databases that do not compare text by its bytes use no index. For `+` and digits
/// alone, every collation has the same order.
fn starts_with(prefix: &NumberPrefix) -> Condition {
    Condition::all()
        .add(Column::PhoneNumber.gte(prefix.as_str()))
        .add(Column::PhoneNumber.lte(prefix.greatest()))
}

/// Sort column of a list. Equal users are sorted by id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The number, digit by digit.
    PhoneNumber,
    /// Time of registration.
    CreatedAt,
    /// Time of the last sign-in. Users without a sign-in come first.
    LastLoginAt,
}

/// Position of a user in a list. The user may be deleted by now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UserListPosition {
    /// In the order of numbers.
    PhoneNumber(PhoneNumber),
    /// In the order of times. The time of the last sign-in may be missing.
    Time(Option<Timestamp>, UserId),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct List {
    /// Filter of the list.
    pub filter: UserFilter,
    /// Order of the list.
    pub order: Order,
    /// Whether the order is reversed.
    pub descending: bool,
    /// End of the previous page. `None`: the first page. A position of another order counts as none.
    pub after: Option<UserListPosition>,
    /// Maximum number of users in the page.
    pub limit: u64,
}

impl List {
    /// Returns the position of a user in this list.
    #[must_use]
    pub fn position_of(&self, account: &Account) -> UserListPosition {
        let user = &account.user;
        match self.order {
            Order::PhoneNumber => UserListPosition::PhoneNumber(user.phone_number.clone()),
            Order::CreatedAt => UserListPosition::Time(Some(user.created_at), user.id),
            Order::LastLoginAt => UserListPosition::Time(user.last_login_at, user.id),
        }
    }

    fn column(&self) -> Column {
        match self.order {
            Order::PhoneNumber => Column::PhoneNumber,
            Order::CreatedAt => Column::CreatedAt,
            Order::LastLoginAt => Column::LastLoginAt,
        }
    }

    /// Condition of the values after `value` in the direction of this list.
    fn beyond(&self, column: Column, value: impl Into<Value>) -> SimpleExpr {
        if self.descending {
            column.lt(value)
        } else {
            column.gt(value)
        }
    }

    /// Returns the parts of the rest of the list, in order.
    fn parts(&self, backend: DbBackend) -> Vec<ListPart> {
        let column = self.column();
        let all = Condition::all;
        let without_time = all().add(Column::LastLoginAt.is_null());
        // Not IS NOT NULL, which SQLite does not use for an index range. No sign-in is so early.
        let with_time =
            ListPart::Ordered(all().add(Column::LastLoginAt.gte(comparable(Timestamp::UNIX_EPOCH, backend))));
        match (self.order, &self.after) {
            (Order::PhoneNumber, Some(UserListPosition::PhoneNumber(number))) => {
                vec![ListPart::Ordered(all().add(self.beyond(column, number.as_str())))]
            }
            (Order::CreatedAt | Order::LastLoginAt, Some(UserListPosition::Time(Some(position), id))) => {
                let position = comparable(*position, backend);
                let equal = all()
                    .add(column.eq(position.clone()))
                    .add(self.beyond(Column::Id, id.0));
                let later = all().add(self.beyond(column, position));
                let mut parts = vec![ListPart::Ordered(equal), ListPart::Ordered(later)];
                if self.order == Order::LastLoginAt && self.descending {
                    parts.push(ListPart::WithoutTime(without_time));
                }
                parts
            }
            (Order::LastLoginAt, Some(UserListPosition::Time(None, id))) => {
                let rest = ListPart::WithoutTime(without_time.add(self.beyond(Column::Id, id.0)));
                if self.descending {
                    vec![rest]
                } else {
                    vec![rest, with_time]
                }
            }
            (Order::LastLoginAt, _) if self.descending => {
                vec![with_time, ListPart::WithoutTime(without_time)]
            }
            (Order::LastLoginAt, _) => vec![ListPart::WithoutTime(without_time), with_time],
            (Order::PhoneNumber | Order::CreatedAt, _) => vec![ListPart::Ordered(all())],
        }
    }

    /// Selects the users of a part, in order.
    fn select(&self, part: ListPart, backend: DbBackend) -> Select<Entity> {
        let order = if self.descending {
            sea_orm::Order::Desc
        } else {
            sea_orm::Order::Asc
        };
        let select = Entity::find().filter(self.filter.condition(backend));
        let (condition, by_column) = match part {
            ListPart::Ordered(condition) => (condition, true),
            // MariaDB sorts if the query is ordered by a column that is NULL, and PostgreSQL if it is not.
            ListPart::WithoutTime(condition) => (condition, backend != DbBackend::MySql),
        };
        let mut select = select.filter(condition);
        if by_column {
            select = select.order_by(self.column(), order.clone());
        }
        match self.order {
            Order::PhoneNumber => select,
            Order::CreatedAt | Order::LastLoginAt => select.order_by(Column::Id, order),
        }
    }
}

/// A part of a list, which is one index range scan.
enum ListPart {
    /// Users that all have a value in the sort column.
    Ordered(Condition),
    /// Users without a sign-in, in a list in the order of sign-ins.
    WithoutTime(Condition),
}

/// Reads a page of a list.
///
/// # Errors
/// The database fails.
pub async fn list(db: &impl ConnectionTrait, list: &List) -> Result<Vec<Account>, StoreError> {
    let mut accounts: Vec<Account> = Vec::new();
    for part in list.parts(db.get_database_backend()) {
        let missing = list
            .limit
            .saturating_sub(u64::try_from(accounts.len()).unwrap_or(u64::MAX));
        if missing == 0 {
            break;
        }
        let select = list.select(part, db.get_database_backend()).limit(missing);
        for row in select.all(db).await? {
            accounts.push(row.try_into()?);
        }
    }
    Ok(accounts)
}
