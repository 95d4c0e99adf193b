//! Queries on challenges of one-time codes.

use std::ops::RangeInclusive;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use uuid::Uuid;

use super::entity::challenge::{ActiveModel, Column, Entity, Model};
use super::{StoreError, Transaction, delete_found, only};
use crate::clock::Timestamp;
use crate::domain::code::{Challenge, ChallengeId, Purpose};
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::CounterId;
use crate::domain::user::UserId;
use crate::i18n::Language;

/// Converts a row. `None`: a newer version wrote it for a purpose that this version does not know.
fn challenge(row: Model) -> Result<Option<Challenge>, DbErr> {
    let Some(purpose) = Purpose::parse(&row.purpose) else {
        return Ok(None);
    };
    let phone_number = PhoneNumber::from_stored(row.phone_number)
        .map_err(|error| DbErr::Type(format!("challenges.phone_number of {}: {error}", row.id)))?;
    Ok(Some(Challenge {
        id: ChallengeId(row.id),
        purpose,
        phone_number,
        person: row.user_id.map(UserId),
        credential_version: row.credential_version,
        key_id: row.key_id,
        is_sent: row.is_sent,
        is_known: row.is_known,
        watched: row.watched_source.map(CounterId),
        language: Language::of_tag(&row.language).unwrap_or_default(),
        created_at: row.created_at,
        sent_at: row.sent_at,
        expires_at: row.expires_at,
    }))
}

/// Inserts a challenge without attempts.
///
/// # Errors
/// The database fails.
pub async fn insert(db: &impl ConnectionTrait, challenge: &Challenge) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(challenge.id.0),
        purpose: Set(challenge.purpose.as_str().to_owned()),
        phone_number: Set(challenge.phone_number.as_str().to_owned()),
        user_id: Set(challenge.person.map(|person| person.0)),
        credential_version: Set(challenge.credential_version),
        key_id: Set(challenge.key_id.clone()),
        is_sent: Set(challenge.is_sent),
        is_known: Set(challenge.is_known),
        watched_source: Set(challenge.watched.map(|source| source.0)),
        language: Set(challenge.language.tag().to_owned()),
        attempts: Set(0),
        created_at: Set(challenge.created_at),
        sent_at: Set(challenge.sent_at),
        expires_at: Set(challenge.expires_at),
    };
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// Result of a look-up.
#[derive(Debug)]
pub enum Found {
    /// There is no such challenge.
    Nothing,
    /// A newer version wrote the challenge, for a purpose that this version does not know.
    Unknown,
    /// A challenge.
    Challenge(Challenge),
}

/// Looks up a challenge, whether or not its code may still be tried.
///
/// # Errors
/// The database fails.
pub async fn look_up(db: &impl ConnectionTrait, id: ChallengeId) -> Result<Found, StoreError> {
    let rows = Entity::find_by_id(id.0).all(db).await?;
    Ok(match only(rows).map(challenge).transpose()? {
        None => Found::Nothing,
        Some(None) => Found::Unknown,
        Some(Some(challenge)) => Found::Challenge(challenge),
    })
}

/// Finds a challenge with fewer than `max_attempts` attempts and a code that expires within `expiries`.
///
/// # Errors
/// The database fails.
pub async fn find_live(
    db: &impl ConnectionTrait,
    id: ChallengeId,
    max_attempts: u32,
    expiries: &RangeInclusive<Timestamp>,
) -> Result<Option<Challenge>, StoreError> {
    let rows = Entity::find_by_id(id.0)
        .filter(Column::Attempts.lt(count(max_attempts)))
        .filter(Column::ExpiresAt.between(*expiries.start(), *expiries.end()))
        .all(db)
        .await?;
    Ok(only(rows).map(challenge).transpose()?.flatten())
}

/// Counts an attempt at a code and returns the challenge. `None`: the challenge does not exist, has another purpose,
/// does not expire within `expiries`, or has had `max_attempts` attempts. Then nothing is counted, and no code is
/// correct.
///
/// # Errors
/// The database fails.
pub async fn attempt(
    db: &impl ConnectionTrait,
    id: ChallengeId,
    purpose: Purpose,
    max_attempts: u32,
    expiries: &RangeInclusive<Timestamp>,
) -> Result<Option<Challenge>, StoreError> {
    let counted = Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .filter(Column::Purpose.eq(purpose.as_str()))
        .filter(Column::Attempts.lt(count(max_attempts)))
        .filter(Column::ExpiresAt.between(*expiries.start(), *expiries.end()))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .exec(db)
        .await?;
    if counted.rows_affected == 0 {
        return Ok(None);
    }
    Ok(match look_up(db, id).await? {
        Found::Challenge(challenge) => Some(challenge),
        // A concurrent call has redeemed the challenge and deleted it.
        Found::Nothing | Found::Unknown => None,
    })
}

/// Takes back one attempt of a challenge, after a correct code.
///
/// # Errors
/// The database fails.
pub async fn take_back_attempt(db: &impl ConnectionTrait, id: ChallengeId) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .filter(Column::Attempts.gt(0))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).sub(1))
        .exec(db)
        .await?;
    Ok(())
}

/// Records that a code is sent again, unless another call has recorded it since the challenge was read. Returns whether
/// it was recorded.
///
/// # Errors
/// The database fails.
pub async fn send_again(tx: &Transaction, read: &Challenge, again: &Challenge) -> Result<bool, StoreError> {
    let noted = Entity::update_many()
        .filter(Column::Id.eq(read.id.0))
        .filter(Column::SentAt.eq(read.sent_at))
        .col_expr(Column::SentAt, Expr::value(again.sent_at))
        .col_expr(
            Column::WatchedSource,
            Expr::value(again.watched.map(|source| source.0)),
        )
        .exec(tx)
        .await?;
    Ok(noted.rows_affected > 0)
}

/// Deletes a challenge after a correct code, unless the code was ended or used since it was checked. Returns whether it
/// deleted the challenge.
///
/// # Errors
/// The database fails.
pub async fn take(tx: &Transaction, id: ChallengeId) -> Result<bool, StoreError> {
    let deleted = Entity::delete_by_id(id.0)
        .filter(Column::IsSent.eq(true))
        .exec(tx)
        .await?;
    Ok(deleted.rows_affected > 0)
}

/// Deletes the challenges of a user, when the user is deleted.
///
/// # Errors
/// The database fails.
pub async fn delete_of(tx: &Transaction, user: UserId) -> Result<(), StoreError> {
    // The table has no index for this query, since every code would have to be written into it.
    let of_user = Entity::find().filter(Column::UserId.eq(user.0));
    delete_found(tx, of_user, Column::Id).await?;
    Ok(())
}

/// Keeps the codes valid by which the holder of an unverified number takes its account over. Call it in the transaction
/// that makes `version` the version of the account's credentials.
///
/// # Errors
/// The database fails.
pub async fn keep_for_holder(tx: &Transaction, user: UserId, version: i64) -> Result<(), StoreError> {
    let take_over = [Purpose::SignIn, Purpose::ResetPassword].map(Purpose::as_str);
    let found = Entity::find()
        .filter(Column::UserId.eq(user.0))
        .filter(Column::Purpose.is_in(take_over))
        .filter(Column::CredentialVersion.eq(version - 1));
    update_found(tx, found, Column::CredentialVersion, Expr::value(version)).await
}

/// Ends the codes to a number that had no user when they were requested and that its user leaves now: the number has
/// changed its owner in the meantime. The rows stay and are not sent: a resend of such a challenge gets the same
/// response as before.
///
/// # Errors
/// The database fails.
pub async fn end_unowned(tx: &Transaction, phone_number: &PhoneNumber) -> Result<(), StoreError> {
    let found = Entity::find()
        .filter(Column::PhoneNumber.eq(phone_number.as_str()))
        .filter(Column::UserId.is_null())
        .filter(Column::IsSent.eq(true));
    update_found(tx, found, Column::IsSent, Expr::value(false)).await
}

/// Sets a column of the challenges that a query finds. They are selected first, so that no lock waits for another
/// challenge.
async fn update_found(
    tx: &Transaction,
    found: Select<Entity>,
    column: Column,
    value: Expr,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = found
        .select_only()
        .column(Column::Id)
        .into_tuple()
        .all(tx)
        .await?;
    if !ids.is_empty() {
        Entity::update_many()
            .filter(Column::Id.is_in(ids))
            .col_expr(column, value)
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Deletes at most `limit` challenges that do not expire within `expiries`, and returns their number.
///
/// # Errors
/// The database fails.
pub async fn remove_expired(
    db: &impl ConnectionTrait,
    limit: u64,
    expiries: &RangeInclusive<Timestamp>,
) -> Result<u64, StoreError> {
    let is_expired = Condition::any()
        .add(Column::ExpiresAt.lt(*expiries.start()))
        .add(Column::ExpiresAt.gt(*expiries.end()));
    let expired = Entity::find()
        .filter(is_expired)
        .order_by_asc(Column::ExpiresAt)
        .limit(limit);
    delete_found(db, expired, Column::Id).await
}

fn count(max_attempts: u32) -> i32 {
    i32::try_from(max_attempts).unwrap_or(i32::MAX)
}
