//! The change log: revocations and changes, numbered in the order of their commits, which every replica reads. It holds
//! only ids, and no foreign keys: an entry outlives the rows that it refers to.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, Order};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, JoinType,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::entity::{Columns, change_log, identity_change};
use super::identity::{stamp, stamp_columns};
use super::{Incarnation, Pool, StoreError, Transaction, only};
use crate::clock::Timestamp;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;

/// The epoch of a copy that no process has used yet.
const LEFT_EPOCH: Uuid = Uuid::nil();

/// A change that other replicas have to apply. Sign-ins and uses of sessions are not logged: they invalidate no cached
/// answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevocationChange {
    /// One session was revoked.
    SessionRevoked {
        /// The user of the session.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// Several or all sessions of a user were revoked.
    SessionsRevoked {
        /// The user.
        user: UserId,
    },
    /// A user was changed, and the user's sessions may be revoked.
    UserChanged {
        /// The user.
        user: UserId,
    },
    /// A user was deleted, with all sessions.
    UserDeleted {
        /// The user.
        user: UserId,
    },
}

impl RevocationChange {
    /// The user that the change is about.
    #[must_use]
    pub fn user(&self) -> UserId {
        match *self {
            Self::SessionRevoked { user, .. }
            | Self::SessionsRevoked { user }
            | Self::UserChanged { user }
            | Self::UserDeleted { user } => user,
        }
    }

    /// The value of column `kind`.
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

/// Writes changes into the log and commits the transaction in which they happened. The head of the log is locked last,
/// right before the commit, so that the order of the numbers is the order of the commits.
///
/// # Errors
/// The database fails. It is then unknown whether the transaction was committed.
pub async fn commit(tx: Transaction, changes: &[RevocationChange], now: Timestamp) -> Result<(), StoreError> {
    if !changes.is_empty() {
        // The log has tables of its own, so it may be written ahead of deferred statements.
        let deferred = tx.take_deferred().await;
        append(&tx, changes, now).await?;
        tx.defer_again(deferred).await;
    }
    tx.commit().await
}

async fn append(tx: &Transaction, changes: &[RevocationChange], now: Timestamp) -> Result<(), StoreError> {
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
            entry_id: Set(Some(Uuid::new_v4())),
        });
    identity_change::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// The head of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Identifies the history that the numbers belong to. A restored database has to get a new one.
    pub epoch: Uuid,
    /// Number of the last committed change; 0 before the first.
    pub last_seq: i64,
    /// Minimum version level of a process that may serve on this database: see [`VERSION_LEVEL`].
    pub version_floor: i32,
}

/// Version level of this program. A feature that an older replica would unknowingly undo raises the floor in the
/// database to the first level that supports the feature; a replica below the floor does not serve.
pub const VERSION_LEVEL: i32 = 1;

/// Reads the head of the log.
///
/// # Errors
/// The database fails.
pub async fn head(db: &impl ConnectionTrait) -> Result<Head, StoreError> {
    let row = only(change_log::Entity::find_by_id(change_log::ID).all(db).await?);
    let row = row.ok_or_else(no_head)?;
    Ok(Head {
        epoch: row.epoch,
        last_seq: row.last_seq,
        version_floor: row.version_floor,
    })
}

fn no_head() -> DbErr {
    DbErr::RecordNotFound("change_log has no row".to_owned())
}

/// Raises the version floor, and leaves a higher floor unchanged. Call it in the transaction that first uses the
/// feature that an older replica does not support; replicas notice it within the staleness bound.
///
/// # Errors
/// The database fails.
pub async fn raise_version_floor(db: &impl ConnectionTrait, floor: i32) -> Result<(), StoreError> {
    change_log::Entity::update_many()
        .col_expr(change_log::Column::VersionFloor, Expr::value(floor))
        .filter(change_log::Column::VersionFloor.lt(floor))
        .exec(db)
        .await?;
    Ok(())
}

/// An entry of the log, reduced to the fields that invalidation needs.
#[derive(Clone, Copy, Debug)]
pub struct ChangeLogEntry {
    /// Number of the entry.
    pub seq: i64,
    /// The user that the entry is about. `None`: unknown, so it may be about all users.
    pub user: Option<UserId>,
    /// Time at which the entry was written.
    pub at: Timestamp,
    /// Distinguishes the entry from the entry with this number in another history. `None`: an older version wrote it.
    pub entry_id: Option<Uuid>,
}

impl From<identity_change::Model> for ChangeLogEntry {
    fn from(row: identity_change::Model) -> Self {
        Self {
            seq: row.seq,
            user: row.user_id.map(UserId),
            at: row.at,
            entry_id: row.entry_id,
        }
    }
}

/// Result of one reading of the log. All of it is from one moment and one server.
#[derive(Clone, Debug)]
pub struct ChangeLogRead {
    /// The head of the log.
    pub head: Head,
    /// The entry at the start number, and the entries after it, in order.
    pub entries: Vec<ChangeLogEntry>,
    /// The server that answered. It accepts writes.
    pub server: Incarnation,
}

/// Reads the head, the entry with number `from`, and at most `limit` entries after it. `None`: only the last entry.
///
/// # Errors
/// The database fails, or no server that accepts writes answers.
pub async fn read(db: &Pool, from: Option<i64>, limit: u64) -> Result<ChangeLogRead, StoreError> {
    let backend = db.get_database_backend();
    let last = Expr::col((change_log::Entity, change_log::Column::LastSeq));
    let seq = Expr::col((identity_change::Entity, identity_change::Column::Seq));
    let wanted = match from {
        Some(from) => Condition::all().add(seq.gte(from)),
        None => Condition::all().add(seq.eq(last)),
    };
    let select = stamp(backend)
        .columns(HEAD.map(|column| (change_log::Entity, column)))
        .columns(ENTRY.map(|column| (identity_change::Entity, column)))
        .join(
            JoinType::LeftJoin,
            change_log::Entity,
            Expr::col((change_log::Entity, change_log::Column::Id)).eq(change_log::ID),
        )
        .join(JoinType::LeftJoin, identity_change::Entity, wanted)
        .order_by(
            (identity_change::Entity, identity_change::Column::Seq),
            Order::Asc,
        )
        .limit(limit + 1)
        .take();
    let answer = db.query_stamped(backend.build(&select)).await?;
    let mut head = None;
    let mut entries = Vec::with_capacity(answer.rows.len());
    for row in &answer.rows {
        let mut columns = Columns::from(row, stamp_columns(backend));
        let (epoch, last_seq, version_floor) = (columns.take()?, columns.take()?, columns.take()?);
        if let (Some(epoch), Some(last_seq), Some(version_floor)) = (epoch, last_seq, version_floor) {
            head = Some(Head {
                epoch,
                last_seq,
                version_floor,
            });
        }
        if let Some(seq) = columns.take()? {
            entries.push(ChangeLogEntry {
                seq,
                entry_id: columns.take()?,
                user: columns.take::<Option<Uuid>>()?.map(UserId),
                at: columns.take()?,
            });
        }
    }
    Ok(ChangeLogRead {
        head: head.ok_or_else(no_head)?,
        entries,
        server: answer.incarnation,
    })
}

/// The columns of the head and of an entry, in the order in which [`read`] takes them.
const HEAD: [change_log::Column; 3] = [
    change_log::Column::Epoch,
    change_log::Column::LastSeq,
    change_log::Column::VersionFloor,
];
const ENTRY: [identity_change::Column; 4] = [
    identity_change::Column::Seq,
    identity_change::Column::EntryId,
    identity_change::Column::UserId,
    identity_change::Column::At,
];

/// Reads at most `limit` entries after number `after`, in order. An entry of a kind that only a newer version knows is
/// about the user that it names, like any other.
///
/// # Errors
/// The database fails.
pub async fn page(
    db: &impl ConnectionTrait,
    after: i64,
    limit: u64,
) -> Result<Vec<ChangeLogEntry>, StoreError> {
    let rows = identity_change::Entity::find()
        .filter(identity_change::Column::Seq.gt(after))
        .order_by_asc(identity_change::Column::Seq)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(ChangeLogEntry::from).collect())
}

/// Deletes the entries up to number `last`.
///
/// # Errors
/// The database fails.
pub async fn prune(db: &impl ConnectionTrait, last: i64) -> Result<u64, StoreError> {
    let pruned = identity_change::Entity::delete_many()
        .filter(identity_change::Column::Seq.lte(last))
        .exec(db)
        .await?;
    Ok(pruned.rows_affected)
}

/// Begins another history, after which all readers of the log invalidate all users. Needed for a database that was
/// restored or taken over from a failed one, where a number may stand for another change than before.
///
/// # Errors
/// The database fails, or the log has no head.
pub async fn renew_epoch(db: &impl ConnectionTrait) -> Result<Uuid, StoreError> {
    let epoch = Uuid::new_v4();
    if set_epoch(db, epoch, Condition::all()).await? == 0 {
        return Err(no_head().into());
    }
    Ok(epoch)
}

/// Marks a copy of a database: it has no epoch of its own and gets one when it is used, each time that it is restored.
///
/// # Errors
/// The database fails, or the log has no head.
pub async fn leave_epoch(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if set_epoch(db, LEFT_EPOCH, Condition::all()).await? == 0 {
        return Err(no_head().into());
    }
    Ok(())
}

/// Gives a copy of a database an epoch of its own. Leaves any other database unchanged.
///
/// # Errors
/// The database fails.
pub async fn replace_left_epoch(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    // Most starts find another epoch and need no lock.
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
