//! Sign-ins of users: the update of their rows, and the number of their sessions.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DbBackend, EntityTrait as _, ExprTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryResult, QuerySelect as _, QueryTrait, UpdateMany,
};
use uuid::Uuid;

use super::Account;
use crate::clock::Timestamp;
use crate::domain::user::UserId;
use crate::store::entity::session;
use crate::store::entity::user::{Column, Entity, StoredStatus};
use crate::store::{StoreError, Transaction};

/// Records a sign-in of a user, and locks the row until the transaction ends, if the phone number, the password and the
/// status have not changed since they were read. Returns the number of the user's sessions after that, ended or not.
/// `None`: they have changed.
///
/// # Errors
/// The database fails.
pub async fn sign_in(tx: &Transaction, read: &Account, now: Timestamp) -> Result<Option<u64>, StoreError> {
    Ok(sign_in_all(tx, &[read], now).await?.remove(&read.user.id))
}

/// As [`sign_in`], for several users. Omits users that have changed.
///
/// # Errors
/// The database fails.
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
        // A statement of its own: within the update, servers would count the sessions at its start and not after it got
        // the lock.
        let count = session::Entity::find()
            .filter(session::Column::UserId.eq(account.user.id.0))
            .count(tx)
            .await?;
        counts.insert(account.user.id, count);
    }
    Ok(counts)
}

/// Builds the update of the sign-in times of users that have not changed since they were read.
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
