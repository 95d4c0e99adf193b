//! Lists of people, a page at a time.
//!
//! A page begins after the place where the one before ended, and never after a number of rows: so it costs the same
//! wherever it is, and who comes and goes in front of it moves nothing. It is read in up to three pieces, each of which
//! is one walk along an index on every database: who is equal to the last one in what the list is ordered by and comes
//! after them by id; the rest; and those who have no time of signing in, whom some databases put first and some last.
//! In one condition (`OR`, or a comparison of rows) some databases would not see the walk, and read all that stand
//! before.

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

/// From a time on, and before another one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TimeRange {
    /// The first time in it.
    pub start: Option<Timestamp>,
    /// The first time after it.
    pub end: Option<Timestamp>,
}

impl TimeRange {
    fn holds(self, column: Column, backend: DbBackend) -> Condition {
        Condition::all()
            .add_option(self.start.map(|start| column.gte(comparable(start, backend))))
            .add_option(self.end.map(|end| column.lt(comparable(end, backend))))
    }
}

/// Whom to list: those who pass all that is set.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
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
pub enum UserListPosition {
    /// In the order of numbers.
    PhoneNumber(PhoneNumber),
    /// In the order of times, of which the last sign-in may be none.
    Time(Option<Timestamp>, UserId),
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct List {
    /// Whom to list.
    pub filter: UserFilter,
    /// In which order.
    pub order: Order,
    /// The other way round.
    pub descending: bool,
    /// Where the page before ended. `None`: the first page. One of another order counts as none.
    pub after: Option<UserListPosition>,
    /// The most people of the page.
    pub limit: u64,
}

impl List {
    /// The place of a person in this list.
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

    /// What comes after something in the direction of this list.
    fn beyond(&self, column: Column, value: impl Into<Value>) -> SimpleExpr {
        if self.descending {
            column.lt(value)
        } else {
            column.gt(value)
        }
    }

    /// The pieces that the rest of the list is made of, in order.
    fn pieces(&self, backend: DbBackend) -> Vec<Piece> {
        let column = self.column();
        let all = Condition::all;
        let without_time = all().add(Column::LastLoginAt.is_null());
        // Not IS NOT NULL, which SQLite would not take for a range of the index. Nobody signed in so early.
        let with_time =
            Piece::Ordered(all().add(Column::LastLoginAt.gte(comparable(Timestamp::UNIX_EPOCH, backend))));
        match (self.order, &self.after) {
            (Order::PhoneNumber, Some(UserListPosition::PhoneNumber(number))) => {
                vec![Piece::Ordered(all().add(self.beyond(column, number.as_str())))]
            }
            (Order::CreatedAt | Order::LastLoginAt, Some(UserListPosition::Time(Some(place), id))) => {
                let place = comparable(*place, backend);
                let equal = all()
                    .add(column.eq(place.clone()))
                    .add(self.beyond(Column::Id, id.0));
                let later = all().add(self.beyond(column, place));
                let mut pieces = vec![Piece::Ordered(equal), Piece::Ordered(later)];
                if self.order == Order::LastLoginAt && self.descending {
                    pieces.push(Piece::WithoutTime(without_time));
                }
                pieces
            }
            (Order::LastLoginAt, Some(UserListPosition::Time(None, id))) => {
                let rest = Piece::WithoutTime(without_time.add(self.beyond(Column::Id, id.0)));
                if self.descending {
                    vec![rest]
                } else {
                    vec![rest, with_time]
                }
            }
            (Order::LastLoginAt, _) if self.descending => {
                vec![with_time, Piece::WithoutTime(without_time)]
            }
            (Order::LastLoginAt, _) => vec![Piece::WithoutTime(without_time), with_time],
            (Order::PhoneNumber | Order::CreatedAt, _) => vec![Piece::Ordered(all())],
        }
    }

    /// The people of a piece, in order.
    fn select(&self, piece: Piece, backend: DbBackend) -> Select<Entity> {
        let order = if self.descending {
            sea_orm::Order::Desc
        } else {
            sea_orm::Order::Asc
        };
        let select = Entity::find().filter(self.filter.condition(backend));
        let (condition, by_column) = match piece {
            Piece::Ordered(condition) => (condition, true),
            // MariaDB sorts where NULL is to be ordered by, and PostgreSQL where it is not.
            Piece::WithoutTime(condition) => (condition, backend != DbBackend::MySql),
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

/// A piece of a list, which is one walk along an index.
enum Piece {
    /// People of whom all have what the list is ordered by.
    Ordered(Condition),
    /// People who never signed in, of a list in the order of signing in.
    WithoutTime(Condition),
}

/// Reads a page of a list.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &impl ConnectionTrait, list: &List) -> Result<Vec<Account>, StoreError> {
    let mut accounts: Vec<Account> = Vec::new();
    for piece in list.pieces(db.get_database_backend()) {
        let missing = list
            .limit
            .saturating_sub(u64::try_from(accounts.len()).unwrap_or(u64::MAX));
        if missing == 0 {
            break;
        }
        let select = list.select(piece, db.get_database_backend()).limit(missing);
        for row in select.all(db).await? {
            accounts.push(row.try_into()?);
        }
    }
    Ok(accounts)
}
