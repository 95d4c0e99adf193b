//! Queries on users.

mod hold;
mod list;
mod sign_in;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, SqlErr,
};

pub use hold::bound_phone_change;
pub use list::{List, Order, TimeRange, UserFilter, UserListPosition, list};
pub use sign_in::{sign_in, sign_in_all};

use super::entity::user::{ActiveModel, Column, Entity, Model, StoredStatus};
use super::sessions::{self, Selection};
use super::{StoreError, Transaction, challenges, only, outbox};
use crate::clock::Timestamp;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::{Locale, User, UserId, UserStatus};

/// A user with the fields that a password check needs.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user: User,
    /// The Argon2id PHC string of the password. `None`: the account has no password.
    pub password_hash: Option<String>,
    /// Version of the credentials. It increases with a new password or number, a deactivation, a take-over, and when an
    /// administrator revokes all sessions. A device token or a one-time code of an earlier version is invalid.
    pub credential_version: i64,
    /// Whether an administrator deactivated the account, so that the user cannot reactivate it.
    pub deactivated_by_admin: bool,
    /// Time of the last change of the phone number. Registration is no change.
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

/// Finds a user by phone number.
///
/// # Errors
/// The database fails.
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

/// Finds a user by id.
///
/// # Errors
/// The database fails.
pub async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<Option<Account>, StoreError> {
    let rows = Entity::find_by_id(id.0).all(db).await?;
    Ok(only(rows).map(Account::try_from).transpose()?)
}

/// Finds a user and locks the row until the transaction ends.
///
/// # Errors
/// The database fails.
pub async fn lock(db: &impl ConnectionTrait, id: UserId) -> Result<Option<Account>, StoreError> {
    let rows = Entity::find_by_id(id.0).lock_exclusive().all(db).await?;
    Ok(only(rows).map(Account::try_from).transpose()?)
}

/// Locks the rows of users until the transaction ends, and returns them. The locks are taken in the order of the ids,
/// so that two calls for the same users cannot deadlock.
///
/// # Errors
/// The database fails.
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

/// Inserts a user.
///
/// # Errors
/// [`StoreError::PhoneNumberTaken`] by the unique index. Other errors: the database fails.
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

/// Changes of a user. `None` keeps the value.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// The new phone number. It is not verified.
    pub phone_number: Option<PhoneNumber>,
    /// The Argon2id PHC string of the new password.
    pub password_hash: Option<String>,
    /// The new locale, or none.
    pub locale: Option<Option<Locale>>,
    /// The new status.
    pub status: Option<UserStatus>,
    /// Whether an administrator sets the status to [`UserStatus::Deactivated`].
    pub by_admin: bool,
    /// Whether the user is staff.
    pub is_staff: Option<bool>,
    /// Whether the user is a superuser.
    pub is_superuser: Option<bool>,
}

impl UserChange {
    /// Whether the change ends earlier credentials: device tokens and one-time codes.
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

/// Changes a user.
///
/// # Errors
/// [`StoreError::PhoneNumberTaken`] by the unique index. Other errors: the database fails.
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

/// Marks the phone numbers of users as verified.
///
/// # Errors
/// The database fails.
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

/// Gives the account of an unverified number to its holder: removes the password and all sessions, ends the known
/// devices, and marks the number as verified. Returns the number of removed sessions. Call it under the lock of the
/// user's row.
///
/// # Errors
/// The database fails.
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

/// Ends the device tokens and one-time codes of a user. Call it under the lock of the user's row.
///
/// # Errors
/// The database fails.
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

/// Replaces a password hash by a stronger hash of the same password, unless the password has changed since `verified`
/// was read.
///
/// # Errors
/// The database fails.
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

/// Deletes a user with the sessions and known devices (foreign keys), and with the unsent codes and notices to the
/// user.
///
/// # Errors
/// The database fails.
pub async fn delete(tx: &Transaction, user: &User) -> Result<(), StoreError> {
    Entity::delete_by_id(user.id.0).exec(tx).await?;
    challenges::delete_of(tx, user.id).await?;
    challenges::end_unowned(tx, &user.phone_number).await?;
    outbox::delete_of(tx, user.id).await
}

/// Returns whether there is an active superuser besides this user. Call [`super::locks::lock_superusers`] first.
///
/// # Errors
/// The database fails.
pub async fn other_superuser_exists(db: &impl ConnectionTrait, id: UserId) -> Result<bool, StoreError> {
    let others = Entity::find()
        .filter(Column::IsSuperuser.eq(true))
        .filter(Column::Status.eq(StoredStatus::Active))
        .filter(Column::Id.ne(id.0))
        .count(db)
        .await?;
    Ok(others > 0)
}

/// Besides that of the random id, the index of the phone number is the only unique index of this table.
fn taken_or_other(error: DbErr) -> StoreError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::PhoneNumberTaken,
        _ => error.into(),
    }
}
