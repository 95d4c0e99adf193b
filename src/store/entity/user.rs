//! Table `users`.

use sea_orm::entity::prelude::*;

use super::Columns;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::{Locale, User, UserId, UserStatus};

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(unique)]
    pub phone_number: String,
    pub password_hash: Option<String>,
    pub credential_version: i64,
    pub status: StoredStatus,
    pub is_staff: bool,
    pub is_superuser: bool,
    pub phone_verified_at: Option<DateTimeUtc>,
    pub locale: Option<String>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
    pub last_login_at: Option<DateTimeUtc>,
    pub deactivated_by_admin: bool,
    pub phone_changed_at: Option<DateTimeUtc>,
    #[sea_orm(has_many)]
    pub sessions: HasMany<super::session::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Reads all columns, in the order of [`Column`].
    pub(crate) fn from_columns(columns: &mut Columns<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            id: columns.take()?,
            phone_number: columns.take()?,
            password_hash: columns.take()?,
            credential_version: columns.take()?,
            status: columns.take()?,
            is_staff: columns.take()?,
            is_superuser: columns.take()?,
            phone_verified_at: columns.take()?,
            locale: columns.take()?,
            created_at: columns.take()?,
            updated_at: columns.take()?,
            last_login_at: columns.take()?,
            deactivated_by_admin: columns.take()?,
            phone_changed_at: columns.take()?,
        })
    }
}

#[derive(Clone, Copy, Debug, DeriveActiveEnum, EnumIter, Eq, PartialEq)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub(crate) enum StoredStatus {
    #[sea_orm(string_value = "active")]
    Active,
    #[sea_orm(string_value = "deactivated")]
    Deactivated,
}

impl From<UserStatus> for StoredStatus {
    fn from(status: UserStatus) -> Self {
        match status {
            UserStatus::Active => Self::Active,
            UserStatus::Deactivated => Self::Deactivated,
        }
    }
}

impl From<StoredStatus> for UserStatus {
    fn from(status: StoredStatus) -> Self {
        match status {
            StoredStatus::Active => Self::Active,
            StoredStatus::Deactivated => Self::Deactivated,
        }
    }
}

impl TryFrom<Model> for User {
    type Error = DbErr;

    fn try_from(row: Model) -> Result<Self, DbErr> {
        let phone_number = PhoneNumber::from_stored(row.phone_number)
            .map_err(|error| DbErr::Type(format!("users.phone_number of {}: {error}", row.id)))?;
        Ok(Self {
            id: UserId(row.id),
            phone_number,
            status: row.status.into(),
            is_staff: row.is_staff,
            is_superuser: row.is_superuser,
            has_password: row.password_hash.is_some(),
            phone_verified_at: row.phone_verified_at,
            locale: row.locale.map(Locale::from_stored),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_login_at: row.last_login_at,
        })
    }
}
