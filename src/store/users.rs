//! Queries on people.

mod hold;
mod list;

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait as _, ExprTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait,
    SqlErr, UpdateMany,
};
use uuid::Uuid;

pub use hold::bound_phone_change;
pub use list::{List, Order, TimeRange, UserFilter, UserListPosition, list};

use super::entity::session;
use super::entity::user::{ActiveModel, Column, Entity, Model, StoredStatus};
use super::sessions::{self, Selection};
use super::{StoreError, Transaction, challenges, only, outbox};
use crate::clock::Timestamp;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::{Locale, User, UserId, UserStatus};

/// A person with what is needed to check a password.
#[derive(Clone, Debug)]
pub struct Account {
    /// The person.
    pub user: User,
    /// The Argon2id PHC string of the password, if there is one.
    pub password_hash: Option<String>,
    /// Version of the credentials. It goes up with a new password or number, a deactivation, a take-over, and when
    /// administration revokes all sessions; a device token or a one-time code of an earlier version is invalid.
    pub credential_version: i64,
    /// Whether it was administration that deactivated the account, so that the person cannot bring it back.
    pub deactivated_by_admin: bool,
    /// When the phone number last changed; registering is no change.
    pub phone_changed_at: Option<Timestamp>,
}

impl TryFrom<Model> for Account {
    type Error = DbErr;

    fn try_from(row: Model) -> Result<Self, DbErr> {
        let password_hash = row.password_hash.clone();
        let credential_version = row.credential_version;
        let deactivated_by_admin = row.deactivated_by_admin;
        let phone_changed_at = row.phone_changed_at;
        Ok(Self {
            user: row.try_into()?,
            password_hash,
            credential_version,
            deactivated_by_admin,
            phone_changed_at,
        })
    }
}

/// Finds a person by phone number.
///
/// # Errors
/// When the database fails.
pub async fn find_by_phone(
    db: &impl ConnectionTrait,
    phone: &PhoneNumber,
) -> Result<Option<Account>, StoreError> {
    let rows = Entity::find()
        .filter(Column::PhoneNumber.eq(phone.as_str()))
        .all(db)
        .await?;
    Ok(only(rows).map(Account::try_from).transpose()?)
}

/// Finds a person by id.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<Option<Account>, StoreError> {
    let rows = Entity::find_by_id(id.0).all(db).await?;
    Ok(only(rows).map(Account::try_from).transpose()?)
}

/// Finds a person and locks the row until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn lock(db: &impl ConnectionTrait, id: UserId) -> Result<Option<Account>, StoreError> {
    let rows = Entity::find_by_id(id.0).lock_exclusive().all(db).await?;
    Ok(only(rows).map(Account::try_from).transpose()?)
}

/// Finds people and locks their rows until the transaction ends, in the order of their ids: two who lock the same
/// people are in no deadlock.
///
/// # Errors
/// When the database fails.
pub async fn lock_many(db: &impl ConnectionTrait, ids: &[UserId]) -> Result<Vec<Account>, StoreError> {
    let rows = Entity::find()
        .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(Account::try_from)
        .collect::<Result<_, _>>()?)
}

/// Adds a person.
///
/// # Errors
/// [`StoreError::PhoneNumberTaken`], decided by the unique index; or when the database fails.
pub async fn insert(
    db: &impl ConnectionTrait,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(user.id.0),
        phone_number: Set(user.phone_number.as_str().to_owned()),
        password_hash: Set(password_hash.map(str::to_owned)),
        credential_version: Set(0),
        status: Set(user.status.into()),
        is_staff: Set(user.is_staff),
        is_superuser: Set(user.is_superuser),
        phone_verified_at: Set(user.phone_verified_at),
        locale: Set(user.locale.as_ref().map(|locale| locale.as_str().to_owned())),
        created_at: Set(user.created_at),
        updated_at: Set(user.updated_at),
        last_login_at: Set(user.last_login_at),
        deactivated_by_admin: Set(false),
        phone_changed_at: Set(None),
    };
    Entity::insert(row)
        .exec_without_returning(db)
        .await
        .map_err(taken_or_other)?;
    Ok(())
}

/// What to change about a person; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// The new phone number; it is not verified.
    pub phone_number: Option<PhoneNumber>,
    /// The Argon2id PHC string of the new password.
    pub password_hash: Option<String>,
    /// The new locale, or none.
    pub locale: Option<Option<Locale>>,
    /// The new status.
    pub status: Option<UserStatus>,
    /// Whether the new status is [`UserStatus::Deactivated`] by administration.
    pub by_admin: bool,
    /// Whether the person is staff.
    pub is_staff: Option<bool>,
    /// Whether the person is a superuser.
    pub is_superuser: Option<bool>,
}

impl UserChange {
    /// Whether it ends what was issued before: device tokens and one-time codes.
    fn is_of_credentials(&self) -> bool {
        self.phone_number.is_some()
            || self.password_hash.is_some()
            || self.status == Some(UserStatus::Deactivated)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            phone_number,
            password_hash,
            locale,
            status,
            by_admin: _,
            is_staff,
            is_superuser,
        } = self;
        phone_number.is_none()
            && password_hash.is_none()
            && locale.is_none()
            && status.is_none()
            && is_staff.is_none()
            && is_superuser.is_none()
    }
}

/// Changes a person.
///
/// # Errors
/// [`StoreError::PhoneNumberTaken`], decided by the unique index; or when the database fails.
pub async fn update(
    db: &impl ConnectionTrait,
    id: UserId,
    change: &UserChange,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut update = Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    if let Some(phone_number) = &change.phone_number {
        update = update
            .col_expr(Column::PhoneNumber, Expr::value(phone_number.as_str()))
            .col_expr(Column::PhoneVerifiedAt, Expr::value(None::<Timestamp>))
            .col_expr(Column::PhoneChangedAt, Expr::value(now));
    }
    if let Some(password_hash) = &change.password_hash {
        update = update.col_expr(Column::PasswordHash, Expr::value(password_hash.as_str()));
    }
    if change.is_of_credentials() {
        update = update.col_expr(Column::CredentialVersion, next_version());
    }
    if let Some(locale) = &change.locale {
        update = update.col_expr(
            Column::Locale,
            Expr::value(locale.as_ref().map(|locale| locale.as_str().to_owned())),
        );
    }
    if let Some(status) = change.status {
        let by_admin = change.by_admin && status == UserStatus::Deactivated;
        update = update
            .col_expr(Column::Status, Expr::value(StoredStatus::from(status)))
            .col_expr(Column::DeactivatedByAdmin, Expr::value(by_admin));
    }
    if let Some(is_staff) = change.is_staff {
        update = update.col_expr(Column::IsStaff, Expr::value(is_staff));
    }
    if let Some(is_superuser) = change.is_superuser {
        update = update.col_expr(Column::IsSuperuser, Expr::value(is_superuser));
    }
    update.exec(db).await.map_err(taken_or_other)?;
    Ok(())
}

/// Notes that people hold their numbers.
///
/// # Errors
/// When the database fails.
pub async fn verify_phones(
    db: &impl ConnectionTrait,
    ids: &[UserId],
    now: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
        .col_expr(Column::PhoneVerifiedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .exec(db)
        .await?;
    Ok(())
}

/// Notes that somebody holds the number of a person whom nobody had verified: the password, whoever set it, is gone,
/// and so are known devices and sessions. Says how many sessions it were. To be called under the lock of their row.
///
/// # Errors
/// When the database fails.
pub async fn take_over(tx: &Transaction, id: UserId, now: Timestamp) -> Result<u64, StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .col_expr(Column::PasswordHash, Expr::value(None::<String>))
        .col_expr(Column::CredentialVersion, next_version())
        .col_expr(Column::PhoneVerifiedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .exec(tx)
        .await?;
    sessions::delete(tx, id, &Selection::All).await
}

/// Ends the device tokens and one-time codes that were issued to a user before. Call it under the lock of the user's
/// row.
///
/// # Errors
/// When the database fails.
pub async fn end_credentials(tx: &Transaction, id: UserId) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .col_expr(Column::CredentialVersion, next_version())
        .exec(tx)
        .await?;
    Ok(())
}

fn next_version() -> SimpleExpr {
    Expr::col(Column::CredentialVersion).add(1)
}

/// Notes that a person has signed in, and locks the row until the transaction ends, if the person still has the phone
/// number, the password and the status that were read. Says how many sessions they have then, ended or not; `None`: it
/// is not so.
///
/// # Errors
/// When the database fails.
pub async fn sign_in(tx: &Transaction, read: &Account, now: Timestamp) -> Result<Option<u64>, StoreError> {
    Ok(sign_in_all(tx, &[read], now).await?.remove(&read.user.id))
}

/// As [`sign_in`], of several people. Those of whom it is not so are left out.
///
/// # Errors
/// When the database fails.
pub async fn sign_in_all(
    tx: &Transaction,
    read: &[&Account],
    now: Timestamp,
) -> Result<HashMap<UserId, u64>, StoreError> {
    if tx.get_database_backend() == DbBackend::Sqlite {
        let count = session::Entity::find()
            .select_only()
            .expr(session::Column::Id.count())
            .filter(Expr::col(session::Column::UserId).equals((Entity, Column::Id)));
        let count = Expr::SubQuery(None, Box::new(count.into_query().into()));
        let mut update = signing_in(read, now);
        let returning = Query::returning().exprs([Expr::col(Column::Id), count]);
        QueryTrait::query(&mut update).returning(returning);
        let rows = tx.query_all_raw(update.build(DbBackend::Sqlite)).await?;
        return rows.iter().map(session_count).collect();
    }
    let mut counts = HashMap::new();
    for account in read {
        if signing_in(&[account], now).exec(tx).await?.rows_affected == 0 {
            continue;
        }
        // In a statement of its own: servers would count what was there when the one before began, and not when it got
        // the lock.
        let count = session::Entity::find()
            .filter(session::Column::UserId.eq(account.user.id.0))
            .count(tx)
            .await?;
        counts.insert(account.user.id, count);
    }
    Ok(counts)
}

/// Sets when people have signed in, if all is as it was read.
fn signing_in(read: &[&Account], now: Timestamp) -> UpdateMany<Entity> {
    let unchanged = read.iter().fold(Condition::any(), |any, read| {
        any.add(
            Condition::all()
                .add(Column::Id.eq(read.user.id.0))
                .add(Column::PhoneNumber.eq(read.user.phone_number.as_str()))
                .add(Column::CredentialVersion.eq(read.credential_version))
                .add(Column::Status.eq(StoredStatus::from(read.user.status)))
                .add(Column::DeactivatedByAdmin.eq(read.deactivated_by_admin)),
        )
    });
    Entity::update_many()
        .filter(unchanged)
        .col_expr(Column::LastLoginAt, Expr::value(now))
}

fn session_count(row: &QueryResult) -> Result<(UserId, u64), StoreError> {
    let (id, count): (Uuid, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    Ok((UserId(id), u64::try_from(count).unwrap_or_default()))
}

/// Replaces the hash of a password by a stronger hash of the same password, unless the password has changed since
/// `verified` was read.
///
/// # Errors
/// When the database fails.
pub async fn rehash(
    db: &impl ConnectionTrait,
    id: UserId,
    verified: &str,
    stronger: &str,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .filter(Column::PasswordHash.eq(verified))
        .col_expr(Column::PasswordHash, Expr::value(stronger))
        .exec(db)
        .await?;
    Ok(())
}

/// Deletes a user with the sessions and known devices (foreign keys), and the codes and notices to the user that were
/// not sent yet.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &Transaction, user: &User) -> Result<(), StoreError> {
    Entity::delete_by_id(user.id.0).exec(tx).await?;
    challenges::delete_of(tx, user.id).await?;
    challenges::end_unowned(tx, &user.phone_number).await?;
    outbox::delete_of(tx, user.id).await
}

/// Whether there is an active superuser besides this person. Call [`super::locks::lock_superusers`] first.
///
/// # Errors
/// When the database fails.
pub async fn other_superuser_exists(db: &impl ConnectionTrait, id: UserId) -> Result<bool, StoreError> {
    let others = Entity::find()
        .filter(Column::IsSuperuser.eq(true))
        .filter(Column::Status.eq(StoredStatus::Active))
        .filter(Column::Id.ne(id.0))
        .count(db)
        .await?;
    Ok(others > 0)
}

/// The one unique index that a write to this table can break, besides the random id, is that of the phone number.
fn taken_or_other(error: DbErr) -> StoreError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::PhoneNumberTaken,
        _ => error.into(),
    }
}
