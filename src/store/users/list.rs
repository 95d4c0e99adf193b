//! Lists of people, a page at a time.
//!
//! A page begins after the place where the one before ended, and never after a number of rows: so it costs the same
//! wherever it is, and who comes and goes in front of it moves nothing. It is read in up to three pieces, each of which is
//! one walk along an index on every database: who is equal to the last one in what the list is ordered by and comes after
//! them by id; the rest; and those who have no time of signing in, whom some databases put first and some last. In one
//! condition (`OR`, or a comparison of rows) some databases would not see the walk, and read all that stand before.

use sea_orm::sea_query::SimpleExpr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};

use super::Account;
use crate::clock::Timestamp;
use crate::domain::phone::{NumberPrefix, PhoneNumber};
use crate::domain::user::{UserId, UserStatus};
use crate::store::StoreError;
use crate::store::entity::user::{Column, Entity, Status};

/// From a time on, and before another one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TimeRange {
    /// The first time in it.
    pub start: Option<Timestamp>,
    /// The first time after it.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    fn holds(self, column: Column) -> Condition {
        Condition::all()
            .add_option(self.start.map(|start| column.gte(start)))
            .add_option(self.end.map(|end| column.lt(end)))
    }
}

/// Whom to list: those who pass all that is set.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// How the number begins.
    pub prefix: Option<NumberPrefix>,
    /// The status.
    pub status: Option<UserStatus>,
    /// Whether they are staff.
    pub is_staff: Option<bool>,
    /// Whether they are superusers.
    pub is_superuser: Option<bool>,
    /// Whether their number is verified.
    pub phone_verified: Option<bool>,
    /// When they joined.
    pub created: TimeRange,
    /// When they last signed in. Who never did is in no range.
    pub last_login: TimeRange,
}

impl Filter {
    fn condition(&self) -> Condition {
        let is = |column: Column, value: Option<bool>| value.map(|value| column.eq(value));
        Condition::all()
            .add_option(self.prefix.as_ref().map(starts_with))
            .add_option(self.status.map(|status| Column::Status.eq(Status::from(status))))
            .add_option(is(Column::IsStaff, self.is_staff))
            .add_option(is(Column::IsSuperuser, self.is_superuser))
            .add_option(self.phone_verified.map(|verified| {
                if verified {
                    Column::PhoneVerifiedAt.is_not_null()
                } else {
                    Column::PhoneVerifiedAt.is_null()
                }
            }))
            .add(self.created.holds(Column::CreatedAt))
            .add(self.last_login.holds(Column::LastLoginAt))
    }
}

/// A range, and not LIKE, which no index serves where text is not compared by its bytes. Of `+` and digits alone, every
/// way of comparing text makes the same order.
fn starts_with(prefix: &NumberPrefix) -> Condition {
    Condition::all()
        .add(Column::PhoneNumber.gte(prefix.as_str()))
        .add(Column::PhoneNumber.lte(prefix.greatest()))
}

/// What people are ordered by. Who is equal in it is ordered by id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// By number, digit by digit.
    PhoneNumber,
    /// By when they joined.
    CreatedAt,
    /// By when they last signed in. Who never did comes before all others.
    LastLoginAt,
}

/// A place in a list: that of a person, who need not be there any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Position {
    /// In the order of numbers.
    PhoneNumber(PhoneNumber),
    /// In the order of times, of which the last sign-in may be none.
    Time(Option<Timestamp>, UserId),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct List {
    /// Whom to list.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// The other way round.
    pub descending: bool,
    /// Where the page before ended. `None`: the first page. One of another order counts as none.
    pub after: Option<Position>,
    /// The most people of the page.
    pub limit: u64,
}

impl List {
    /// The place of a person in this list.
    #[must_use]
    pub fn position_of(&self, account: &Account) -> Position {
        let user = &account.user;
        match self.order {
            Order::PhoneNumber => Position::PhoneNumber(user.phone_number.clone()),
            Order::CreatedAt => Position::Time(Some(user.created_at), user.id),
            Order::LastLoginAt => Position::Time(user.last_login_at, user.id),
        }
    }

    fn column(&self) -> Column {
        match self.order {
            Order::PhoneNumber => Column::PhoneNumber,
            Order::CreatedAt => Column::CreatedAt,
            Order::LastLoginAt => Column::LastLoginAt,
        }
    }

    /// What comes after something in the direction of this list.
    fn beyond(&self, column: Column, value: impl Into<sea_orm::Value>) -> SimpleExpr {
        if self.descending {
            column.lt(value)
        } else {
            column.gt(value)
        }
    }

    /// The pieces that the rest of the list is made of, in order.
    fn pieces(&self) -> Vec<Condition> {
        let column = self.column();
        let all = Condition::all;
        let without_time = all().add(Column::LastLoginAt.is_null());
        // Not IS NOT NULL, which SQLite would not take for a range of the index. Nobody signed in so early.
        let with_time = all().add(Column::LastLoginAt.gte(Timestamp::UNIX_EPOCH));
        match (self.order, &self.after) {
            (Order::PhoneNumber, Some(Position::PhoneNumber(number))) => {
                vec![all().add(self.beyond(column, number.as_str()))]
            }
            (Order::CreatedAt | Order::LastLoginAt, Some(Position::Time(Some(time), id))) => {
                let equal = all().add(column.eq(*time)).add(self.beyond(Column::Id, id.0));
                let mut pieces = vec![equal, all().add(self.beyond(column, *time))];
                if self.order == Order::LastLoginAt && self.descending {
                    pieces.push(without_time);
                }
                pieces
            }
            (Order::LastLoginAt, Some(Position::Time(None, id))) => {
                let rest = without_time.add(self.beyond(Column::Id, id.0));
                if self.descending {
                    vec![rest]
                } else {
                    vec![rest, with_time]
                }
            }
            (Order::LastLoginAt, _) if self.descending => vec![with_time, without_time],
            (Order::LastLoginAt, _) => vec![without_time, with_time],
            (Order::PhoneNumber | Order::CreatedAt, _) => vec![all()],
        }
    }

    fn sorted(&self, select: Select<Entity>) -> Select<Entity> {
        let column = self.column();
        match (self.order, self.descending) {
            (Order::PhoneNumber, false) => select.order_by_asc(column),
            (Order::PhoneNumber, true) => select.order_by_desc(column),
            (_, false) => select.order_by_asc(column).order_by_asc(Column::Id),
            (_, true) => select.order_by_desc(column).order_by_desc(Column::Id),
        }
    }
}

/// Reads a page of a list.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &impl ConnectionTrait, list: &List) -> Result<Vec<Account>, StoreError> {
    let mut accounts: Vec<Account> = Vec::new();
    for piece in list.pieces() {
        let missing = list
            .limit
            .saturating_sub(u64::try_from(accounts.len()).unwrap_or(u64::MAX));
        if missing == 0 {
            break;
        }
        let select = Entity::find()
            .filter(piece)
            .filter(list.filter.condition())
            .limit(missing);
        for row in list.sorted(select).all(db).await? {
            accounts.push(row.try_into()?);
        }
    }
    Ok(accounts)
}
