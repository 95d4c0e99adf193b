//! The change log: what was taken back or changed, numbered in the order in which it was committed, for every replica to
//! read. It holds ids only, and no foreign keys: an entry outlives what it is about.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::entity::{change_log, identity_change};
use super::{StoreError, Transaction, only};
use crate::clock::Timestamp;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;

/// The epoch of a copy that nobody has used yet.
const LEFT_EPOCH: Uuid = Uuid::nil();

/// What happened that others have to know of. A sign-in and a use of a session are not among it: they make nothing false
/// that was true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// One session was revoked.
    SessionRevoked {
        /// Whose session it was.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// Several sessions of a person were revoked, perhaps all.
    SessionsRevoked {
        /// The person.
        user: UserId,
    },
    /// A person was changed, and perhaps their sessions revoked.
    UserChanged {
        /// The person.
        user: UserId,
    },
    /// A person was deleted, with all their sessions.
    UserDeleted {
        /// The person.
        user: UserId,
    },
}

impl Change {
    /// Whom it is about.
    #[must_use]
    pub fn user(&self) -> UserId {
        match *self {
            Self::SessionRevoked { user, .. }
            | Self::SessionsRevoked { user }
            | Self::UserChanged { user }
            | Self::UserDeleted { user } => user,
        }
    }

    /// The name in column `kind`.
    fn kind(&self) -> &'static str {
        match self {
            Self::SessionRevoked { .. } => "session_revoked",
            Self::SessionsRevoked { .. } => "sessions_revoked",
            Self::UserChanged { .. } => "user_changed",
            Self::UserDeleted { .. } => "user_deleted",
        }
    }

    fn session(&self) -> Option<SessionId> {
        match *self {
            Self::SessionRevoked { session, .. } => Some(session),
            _ => None,
        }
    }
}

/// Writes changes into the log and commits the transaction in which they happened. The head of the log is locked last, right
/// before the commit, so that the order of the numbers is the order of the commits.
///
/// # Errors
/// When the database fails; whether the transaction was committed is then not known.
pub async fn commit(tx: Transaction, changes: &[Change], now: Timestamp) -> Result<(), StoreError> {
    if !changes.is_empty() {
        append(&tx, changes, now).await?;
    }
    tx.commit().await
}

async fn append(tx: &Transaction, changes: &[Change], now: Timestamp) -> Result<(), StoreError> {
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    change_log::Entity::update_many()
        .col_expr(
            change_log::Column::LastSeq,
            Expr::col(change_log::Column::LastSeq).add(count),
        )
        .exec(tx)
        .await?;
    let last = head(tx).await?.last_seq;
    let rows = (last - count + 1..)
        .zip(changes)
        .map(|(seq, change)| identity_change::ActiveModel {
            seq: Set(seq),
            kind: Set(change.kind().to_owned()),
            user_id: Set(Some(change.user().0)),
            session_id: Set(change.session().map(|session| session.0)),
            at: Set(now),
        });
    identity_change::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// How far the log goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Which history the numbers belong to. A database that was restored has to get a new one.
    pub epoch: Uuid,
    /// The number of the last change that was committed; 0 before the first.
    pub last_seq: i64,
}

/// Reads how far the log goes.
///
/// # Errors
/// When the database fails.
pub async fn head(db: &impl ConnectionTrait) -> Result<Head, StoreError> {
    let row = only(change_log::Entity::find_by_id(change_log::ID).all(db).await?);
    let row = row.ok_or_else(no_head)?;
    Ok(Head {
        epoch: row.epoch,
        last_seq: row.last_seq,
    })
}

fn no_head() -> DbErr {
    DbErr::RecordNotFound("change_log has no row".to_owned())
}

/// An entry of the log, as far as it has to be understood to forget what is out of date.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub seq: i64,
    /// Whom it is about. `None`: that is not known, so it may be about everybody.
    pub user: Option<UserId>,
    /// When it was written.
    pub at: Timestamp,
}

/// Reads at most `limit` entries after number `after`, in order. What a newer version wrote and this one has no name
/// for is about the person that it names, as all is.
///
/// # Errors
/// When the database fails.
pub async fn page(db: &impl ConnectionTrait, after: i64, limit: u64) -> Result<Vec<Entry>, StoreError> {
    let rows = identity_change::Entity::find()
        .filter(identity_change::Column::Seq.gt(after))
        .order_by_asc(identity_change::Column::Seq)
        .limit(limit)
        .all(db)
        .await?;
    let entries = rows.into_iter().map(|row| Entry {
        seq: row.seq,
        user: row.user_id.map(UserId),
        at: row.at,
    });
    Ok(entries.collect())
}

/// Removes the entries up to number `last`.
///
/// # Errors
/// When the database fails.
pub async fn prune(db: &impl ConnectionTrait, last: i64) -> Result<u64, StoreError> {
    let pruned = identity_change::Entity::delete_many()
        .filter(identity_change::Column::Seq.lte(last))
        .exec(db)
        .await?;
    Ok(pruned.rows_affected)
}

/// Begins another history: whoever has read the log forgets everybody. For a database that was restored or taken over from
/// one that failed, where a number may mean another change than it did before.
///
/// # Errors
/// When the database fails, or the log has no head.
pub async fn renew_epoch(db: &impl ConnectionTrait) -> Result<Uuid, StoreError> {
    let epoch = Uuid::new_v4();
    if set_epoch(db, epoch, Condition::all()).await? == 0 {
        return Err(no_head().into());
    }
    Ok(epoch)
}

/// Marks a copy of a database: it has no epoch of its own, but gets one when it is used, however often it is restored.
///
/// # Errors
/// When the database fails, or the log has no head.
pub async fn leave_epoch(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if set_epoch(db, LEFT_EPOCH, Condition::all()).await? == 0 {
        return Err(no_head().into());
    }
    Ok(())
}

/// Gives a copy of a database an epoch of its own, and leaves every other one as it is.
///
/// # Errors
/// When the database fails.
pub async fn replace_left_epoch(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    // Most starts need no lock for it.
    if head(db).await?.epoch != LEFT_EPOCH {
        return Ok(());
    }
    let is_copy = Condition::all().add(change_log::Column::Epoch.eq(LEFT_EPOCH));
    set_epoch(db, Uuid::new_v4(), is_copy).await?;
    Ok(())
}

async fn set_epoch(db: &impl ConnectionTrait, epoch: Uuid, condition: Condition) -> Result<u64, StoreError> {
    let set = change_log::Entity::update_many()
        .col_expr(change_log::Column::Epoch, Expr::value(epoch))
        .filter(condition)
        .exec(db)
        .await?;
    Ok(set.rows_affected)
}
