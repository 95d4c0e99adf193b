//! Queries on the outbox: messages that are to be sent.

use std::time::Duration;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};
use uuid::Uuid;

use super::entity::outbox_message::{ActiveModel, Column, Entity, Model};
use super::{StoreError, Transaction, delete_found};
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::code::ChallengeId;
use crate::domain::message::{Content, MAX_LIFETIME, MessageId, Notice, NoticeKind};
use crate::domain::phone::PhoneNumber;
use crate::domain::user::UserId;
use crate::i18n::Language;

/// The template of messages with a code, beside the names of [`NoticeKind`].
const CODE: &str = "code";

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub struct OutboxMessage {
    /// The id.
    pub id: MessageId,
    /// What it says.
    pub content: Content,
    /// How often it was begun to be sent.
    pub tries: u32,
    /// When to send it.
    pub due_at: Timestamp,
    /// When there is no use in it any more.
    pub expires_at: Timestamp,
}

impl OutboxMessage {
    /// One that is to be sent now, and that nobody has begun to send.
    #[must_use]
    pub fn new(content: Content, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id: MessageId::generate(now),
            content,
            tries: 0,
            due_at: now,
            expires_at,
        }
    }
}

impl TryFrom<Model> for OutboxMessage {
    type Error = DbErr;

    fn try_from(row: Model) -> Result<Self, DbErr> {
        let id = row.id;
        let bad = |what: &str| DbErr::Type(format!("outbox_messages.{what} of {id}"));
        let content = match NoticeKind::parse(&row.template) {
            None => Content::Code(ChallengeId(row.challenge_id.ok_or_else(|| bad("challenge_id"))?)),
            Some(kind) => {
                let to = PhoneNumber::from_stored(row.phone_number.unwrap_or_default());
                let language = row.language.as_deref().and_then(Language::of_tag);
                Content::Notice(Notice {
                    kind,
                    to: to.map_err(|_| bad("phone_number"))?,
                    person: UserId(row.user_id.ok_or_else(|| bad("user_id"))?),
                    language: language.unwrap_or_default(),
                })
            }
        };
        Ok(Self {
            id: MessageId(id),
            content,
            tries: u32::try_from(row.tries).unwrap_or_default(),
            due_at: row.due_at,
            expires_at: row.expires_at,
        })
    }
}

/// Adds a message that nobody has begun to send, along with the commit where that is a trip less.
///
/// # Errors
/// When the database fails.
pub async fn insert_with_commit(tx: &Transaction, message: &OutboxMessage) -> Result<(), StoreError> {
    let (template, challenge, notice) = match &message.content {
        Content::Code(challenge) => (CODE, Some(challenge.0), None),
        Content::Notice(notice) => (notice.kind.as_str(), None, Some(notice)),
    };
    let row = ActiveModel {
        id: Set(message.id.0),
        template: Set(template.to_owned()),
        challenge_id: Set(challenge),
        phone_number: Set(notice.map(|notice| notice.to.as_str().to_owned())),
        user_id: Set(notice.map(|notice| notice.person.0)),
        language: Set(notice.map(|notice| notice.language.tag().to_owned())),
        tries: Set(0),
        due_at: Set(message.due_at),
        expires_at: Set(message.expires_at),
    };
    tx.execute_with_commit(Entity::insert(row).build(tx.get_database_backend()))
        .await?;
    Ok(())
}

/// Finds messages that are due, those that are due for the longest time first, `limit` at most. Those that only a newer version
/// can send are left to it. No lease is longer than `longest_lease`, so a message that is due later than that comes from a clock that
/// was ahead, and is due now.
///
/// # Errors
/// When the database fails.
pub async fn find_due(
    db: &impl ConnectionTrait,
    limit: u64,
    longest_lease: Duration,
    now: Timestamp,
) -> Result<Vec<OutboxMessage>, StoreError> {
    let is_due = Condition::any()
        .add(Column::DueAt.lte(now))
        .add(Column::DueAt.gt(now + longest_lease + MAX_SKEW));
    let templates = NoticeKind::ALL.map(NoticeKind::as_str);
    let rows = Entity::find()
        .filter(is_due)
        .filter(Column::Template.is_in(templates.into_iter().chain([CODE])))
        .order_by_asc(Column::DueAt)
        .limit(limit)
        .all(db)
        .await?;
    let messages = rows.into_iter().map(OutboxMessage::try_from);
    // One that cannot be read must not keep the others back.
    let readable = messages.filter_map(|message| {
        message
            .inspect_err(|error| tracing::error!(%error, "a message cannot be read"))
            .ok()
    });
    Ok(readable.collect())
}

/// Leases a message to send it. `None`: another sender was faster. Limits the expiry to that of a new message: a clock that was
/// ahead must not prolong the retries.
///
/// # Errors
/// When the database fails.
pub async fn take(
    db: &impl ConnectionTrait,
    read: OutboxMessage,
    lease: Duration,
    now: Timestamp,
) -> Result<Option<OutboxMessage>, StoreError> {
    let expires_at = Ord::min(read.expires_at, now + MAX_LIFETIME);
    let taken = Entity::update_many()
        .filter(Column::Id.eq(read.id.0))
        .filter(Column::DueAt.eq(read.due_at))
        .col_expr(Column::DueAt, Expr::value(now + lease))
        .col_expr(Column::ExpiresAt, Expr::value(expires_at))
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
        .exec(db)
        .await?;
    Ok((taken.rows_affected > 0).then(|| OutboxMessage {
        tries: read.tries.saturating_add(1),
        expires_at,
        ..read
    }))
}

/// What has not been sent, nor been given up.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// How many messages.
    pub messages: u64,
    /// The one that was written first.
    pub oldest: Option<MessageId>,
}

/// Looks at what is to be sent.
///
/// # Errors
/// When the database fails.
pub async fn backlog(db: &impl ConnectionTrait) -> Result<Backlog, StoreError> {
    // Ids begin with the time.
    let oldest: Option<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .into_tuple()
        .one(db)
        .await?;
    Ok(Backlog {
        messages: Entity::find().count(db).await?,
        oldest: oldest.map(MessageId),
    })
}

/// Has a message that was taken sent again at another time, unless somebody else has taken it meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn postpone(
    db: &impl ConnectionTrait,
    taken: &OutboxMessage,
    due_at: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(taken.id.0))
        .filter(Column::Tries.eq(taken.tries))
        .col_expr(Column::DueAt, Expr::value(due_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes a message that was taken, unless somebody else has taken it meanwhile. Says whether it did.
///
/// # Errors
/// When the database fails.
pub async fn give_up(tx: &Transaction, taken: &OutboxMessage) -> Result<bool, StoreError> {
    let removed = Entity::delete_many()
        .filter(Column::Id.eq(taken.id.0))
        .filter(Column::Tries.eq(taken.tries))
        .exec(tx)
        .await?;
    Ok(removed.rows_affected > 0)
}

/// Removes a message, whoever has taken it.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &impl ConnectionTrait, id: MessageId) -> Result<(), StoreError> {
    Entity::delete_by_id(id.0).exec(db).await?;
    Ok(())
}

/// Removes the notices to a person who is deleted. A code is not sent when its challenge is gone.
///
/// # Errors
/// When the database fails.
pub async fn delete_of(tx: &Transaction, user: UserId) -> Result<(), StoreError> {
    // There is no index, for the same reason as with challenges.
    let theirs = Entity::find().filter(Column::UserId.eq(user.0));
    delete_found(tx, theirs, Column::Id).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::store::testing;

    /// The one who took it first is slow, and says later than its lease that it failed.
    #[tokio::test]
    async fn whoever_was_too_slow_neither_puts_off_nor_gives_up_what_another_is_sending() {
        let folder = tempfile::tempdir().unwrap();
        let store = testing::in_folder(folder.path()).await;
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let at = |seconds| start + TimeDelta::seconds(seconds);
        let content = Content::Code(ChallengeId::generate());
        let message = OutboxMessage::new(content, start, at(300));
        let tx = store.begin().await.unwrap();
        insert_with_commit(&tx, &message).await.unwrap();
        tx.commit().await.unwrap();
        let (reader, writer) = (store.reader(), store.writer());
        let lease = Duration::from_secs(30);
        let due = async |seconds| find_due(reader, 10, lease, at(seconds)).await.unwrap().pop();

        let slow = take(writer, message.clone(), lease, at(0))
            .await
            .unwrap()
            .unwrap();
        assert!(take(writer, message, lease, at(0)).await.unwrap().is_none());
        assert!(due(29).await.is_none());
        let read = due(30).await.unwrap();
        let other = take(writer, read, lease, at(30)).await.unwrap().unwrap();
        assert_eq!((slow.tries, other.tries), (1, 2));
        postpone(writer, &slow, at(31)).await.unwrap();
        assert!(due(59).await.is_none());
        let gives_up = async |taken: &OutboxMessage| {
            let tx = store.begin().await.unwrap();
            let gave_up = give_up(&tx, taken).await.unwrap();
            tx.commit().await.unwrap();
            gave_up
        };
        assert!(!gives_up(&slow).await);
        postpone(writer, &other, at(40)).await.unwrap();
        assert_eq!(due(40).await.unwrap().tries, 2);
        assert!(gives_up(&other).await);
        assert!(due(40).await.is_none());
    }

    /// A process ends while it sends, on a clock that is ahead. Replicas that are ahead within the allowance keep their leases.
    #[tokio::test]
    async fn a_lease_of_a_clock_that_was_ahead_holds_no_message_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = testing::in_folder(folder.path()).await;
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let lease = Duration::from_secs(30);
        for (ahead, is_due) in [
            (TimeDelta::days(2), true),
            (TimeDelta::minutes(10), false),
            (TimeDelta::zero(), false),
        ] {
            let written = start + ahead;
            let content = Content::Code(ChallengeId::generate());
            let message = OutboxMessage::new(content, written, written + MAX_LIFETIME);
            let tx = store.begin().await.unwrap();
            insert_with_commit(&tx, &message).await.unwrap();
            tx.commit().await.unwrap();
            let (reader, writer) = (store.reader(), store.writer());
            let taken = take(writer, message, lease, written).await.unwrap().unwrap();
            let due = find_due(reader, 10, lease, start).await.unwrap().pop();
            assert_eq!(due.is_some(), is_due, "{ahead}");
            if let Some(due) = due {
                // The retries end as well.
                let again = take(writer, due, lease, start).await.unwrap().unwrap();
                assert_eq!(again.expires_at, start + MAX_LIFETIME);
                assert!(find_due(reader, 10, lease, start).await.unwrap().is_empty());
            }
            delete(writer, taken.id).await.unwrap();
        }
    }
}
