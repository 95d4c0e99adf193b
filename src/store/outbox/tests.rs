use chrono::{DateTime, TimeDelta};

use super::order::{first, is_due, longest_waiting, parked_due, unpark};
use super::*;
use crate::clock::MAX_SKEW;
use crate::domain::message::DeliveryClass;
use crate::store::testing;

fn origin(address: &str) -> Origin {
    Origin::new(DeliveryClass::Stranger, Some(address.parse().unwrap()), None)
}

/// The sender with the first lease is slow, and reports its failure after its lease has expired.
#[tokio::test]
async fn a_sender_with_an_expired_lease_neither_postpones_nor_drops_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = testing::in_folder(folder.path()).await;
    let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let at = |seconds| start + TimeDelta::seconds(seconds);
    let content = Content::Code(ChallengeId::generate());
    let message = OutboxMessage::new(content, origin("192.0.2.1"), start, at(300));
    let tx = store.begin().await.unwrap();
    insert(&tx, &message).await.unwrap();
    tx.commit().await.unwrap();
    let (reader, writer) = (store.reader(), store.writer());
    let lease = Duration::from_secs(30);
    let due = async |seconds| parked_due(reader, lease, 10, at(seconds)).await.unwrap().pop();

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

/// A process ends during a delivery, on a clock that is ahead. Leases of replicas stay valid if their clocks are ahead
/// within the allowance.
#[tokio::test]
async fn a_lease_from_a_clock_that_was_ahead_delays_no_message() {
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
        let origin = origin("192.0.2.1");
        let message = OutboxMessage::new(content, origin, written, written + MAX_LIFETIME);
        let tx = store.begin().await.unwrap();
        insert(&tx, &message).await.unwrap();
        tx.commit().await.unwrap();
        let (reader, writer) = (store.reader(), store.writer());
        let taken = take(writer, message, lease, written).await.unwrap().unwrap();
        let due = parked_due(reader, lease, 10, start).await.unwrap().pop();
        assert_eq!(due.is_some(), is_due, "{ahead}");
        if let Some(due) = due {
            // The retries end as well.
            let again = take(writer, due, lease, start).await.unwrap().unwrap();
            assert_eq!(again.expires_at, start + MAX_LIFETIME);
            assert!(parked_due(reader, lease, 10, start).await.unwrap().is_empty());
        }
        delete(writer, taken.id).await.unwrap();
    }
}

/// Networks take turns: a flood of one network has one message in each round, and a new network waits for at most one
/// round. A postponed message is at the end of its own flow, and of no other.
#[tokio::test]
async fn networks_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let store = testing::in_folder(folder.path()).await;
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let insert = async |address: &str, seconds| {
        let at = now + TimeDelta::seconds(seconds);
        let content = Content::Code(ChallengeId::generate());
        let message = OutboxMessage::new(content, origin(address), at, at + MAX_LIFETIME);
        let tx = store.begin().await.unwrap();
        insert(&tx, &message).await.unwrap();
        tx.commit().await.unwrap();
        message
    };
    let (reader, writer) = (store.reader(), store.writer());
    let mut flood = Vec::new();
    for second in 0..6 {
        flood.push(insert("192.0.2.1", second).await.id);
    }
    let other = [
        insert("198.51.100.1", 6).await.id,
        insert("198.51.100.1", 7).await.id,
    ];
    // Another /64 of the same /48 is the same network.
    let site = [
        insert("2001:db8:1:1::1", 8).await.id,
        insert("2001:db8:1:2::1", 9).await.id,
    ];
    let ids = async |limit| {
        let first = first(reader, writer, DeliveryClass::Stranger, limit)
            .await
            .unwrap();
        first.iter().map(|message| message.id).collect::<Vec<_>>()
    };
    let expected = [
        flood[0], other[0], site[0], flood[1], other[1], site[1], flood[2], flood[3],
    ];
    assert_eq!(ids(8).await, expected);

    // The first three messages are sent and postponed. The next round begins.
    let lease = Duration::from_secs(30);
    for message in first(reader, writer, DeliveryClass::Stranger, 3).await.unwrap() {
        let taken = take(writer, message, lease, now).await.unwrap().unwrap();
        postpone(writer, &taken, now + TimeDelta::seconds(20))
            .await
            .unwrap();
    }
    let new = insert("203.0.113.1", 10).await.id;
    assert_eq!(ids(4).await, [flood[1], other[1], site[1], new]);
    let later = now + TimeDelta::seconds(20);
    for message in parked_due(reader, lease, 10, later).await.unwrap() {
        assert!(is_due(&message, lease, later));
        unpark(writer, &message).await.unwrap();
        // A second call has no effect.
        unpark(writer, &message).await.unwrap();
    }
    let expected = [
        flood[1], other[1], site[1], new, other[0], flood[2], site[0], flood[3], flood[4], flood[5], flood[0],
    ];
    let mut rounds = ids(20).await;
    // Within a round, the order is that of the ids.
    for round in [1..4, 4..7] {
        rounds[round].sort_unstable_by_key(|id| id.0);
    }
    let mut sorted = expected;
    for round in [1..4, 4..7] {
        sorted[round].sort_unstable_by_key(|id| id.0);
    }
    assert_eq!(rounds, sorted);
    let longest = longest_waiting(reader, DeliveryClass::Stranger, now + TimeDelta::seconds(5));
    assert_eq!(longest.await.unwrap().unwrap().id, flood[1]);
    let known = first(reader, writer, DeliveryClass::Known, 1).await.unwrap();
    assert!(known.is_empty());
}

/// The previous version fills none of the new columns, and leaves its leased messages in their lane.
#[tokio::test]
async fn messages_of_the_previous_version_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = testing::in_folder(folder.path()).await;
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let (reader, writer) = (store.reader(), store.writer());
    let sql = "INSERT INTO outbox_messages (id, template, challenge_id, tries, due_at, expires_at) \
               VALUES (?, 'code', ?, 0, ?, ?)";
    for due_in in [0, 30] {
        let due_at = now + TimeDelta::seconds(due_in);
        let id = MessageId::generate(now).0;
        let values = [id.into(), id.into(), due_at.into(), (now + MAX_LIFETIME).into()];
        let statement = sea_orm::Statement::from_sql_and_values(reader.get_database_backend(), sql, values);
        writer.execute_raw(statement).await.unwrap();
    }
    let found = first(reader, writer, DeliveryClass::Stranger, 10).await.unwrap();
    assert_eq!(found.len(), 2);
    let lease = Duration::from_secs(60);
    for message in &found {
        if !is_due(message, lease, now) {
            order::park(writer, message).await.unwrap();
        }
    }
    assert_eq!(
        first(reader, writer, DeliveryClass::Stranger, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    let later = now + TimeDelta::seconds(30);
    let parked = parked_due(reader, lease, 10, later).await.unwrap();
    assert_eq!(parked.len(), 1);
    unpark(writer, &parked[0]).await.unwrap();
    assert_eq!(
        first(reader, writer, DeliveryClass::Stranger, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    // The time is further ahead than any lease: the clock was ahead.
    assert!(is_due(&parked[0], Duration::ZERO, now - MAX_SKEW));
}

/// The reader of a file is read-only. A row that stayed would block all messages.
#[tokio::test]
async fn a_row_that_cannot_be_parsed_does_not_block_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = testing::in_folder(folder.path()).await;
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let (reader, writer) = (store.reader(), store.writer());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let content = Content::Code(ChallengeId::generate());
        let message = OutboxMessage::new(content, origin("192.0.2.1"), now, now + MAX_LIFETIME);
        let tx = store.begin().await.unwrap();
        insert(&tx, &message).await.unwrap();
        tx.commit().await.unwrap();
        ids.push(message.id);
    }
    let broken = ids[0].0;
    Entity::update_many()
        .filter(Column::Id.eq(broken))
        .col_expr(Column::ChallengeId, Expr::value(None::<Uuid>))
        .exec(writer)
        .await
        .unwrap();
    let messages = first(reader, writer, DeliveryClass::Stranger, 8).await.unwrap();
    assert_eq!(
        messages.iter().map(|message| message.id).collect::<Vec<_>>(),
        ids[1..]
    );
    assert_eq!(Entity::find().count(reader).await.unwrap(), 1);
}
