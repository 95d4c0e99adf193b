//! The follower of the change log: damage of the log, unknown kinds of changes, pages, and the first reading.

use sea_orm::ConnectionTrait as _;

use super::{BOUND, Replica, World};
use crate::domain::access::Caller;
use crate::service::revocation::ChangeLog;
use crate::service::revocation::follower::{MAX_ENTRIES, Progress};
use crate::service::sessions::Sessions;

#[tokio::test]
async fn another_epoch_a_regression_and_a_gap_invalidate_all_sessions() {
    for damage in [
        "UPDATE change_log SET epoch = randomblob(16)",
        "UPDATE change_log SET last_seq = 1",
        "UPDATE change_log SET last_seq = last_seq + 1",
        "UPDATE identity_changes SET entry_id = randomblob(16)",
        "UPDATE identity_changes SET entry_id = NULL",
        "DELETE FROM identity_changes",
        "INSERT INTO identity_changes SELECT last_seq + 2, 'user_changed', randomblob(16), NULL, \
         '2026-01-01 00:00:00+00:00', randomblob(16) FROM change_log; \
         UPDATE change_log SET last_seq = last_seq + 2",
    ] {
        let world = World::new();
        let mut replica = world.replica().await;
        let (sign_in, other) = (replica.sign_in().await, replica.sign_in().await);
        for revoked in [&other, &replica.sign_in().await] {
            replica
                .sessions
                .revoke(revoked.token.expose(), Caller::default())
                .await
                .unwrap();
        }
        replica.follower.read().await.unwrap();
        replica.check(&sign_in).await.unwrap();
        assert!(replica.is_cached(&sign_in).await);
        replica.follower.read().await.unwrap();
        assert!(replica.is_cached(&sign_in).await, "nothing happened");

        world.database().await.execute_unprepared(damage).await.unwrap();
        replica.follower.read().await.unwrap();
        assert!(!replica.is_cached(&sign_in).await, "{damage}");
        replica.follower.read().await.unwrap();
        assert!(
            replica.is_cached(&sign_in).await,
            "one invalidation suffices: {damage}"
        );
    }
}

#[tokio::test]
async fn an_unknown_kind_of_change_invalidates_its_user_or_all_users() {
    let world = World::new();
    let mut replica = world.replica().await;
    let (sign_in, other) = (replica.sign_in().await, replica.sign_in().await);
    let append = async |user: &str| {
        let sql = format!(
            "INSERT INTO identity_changes SELECT last_seq + 1, 'from_the_future', {user}, NULL, \
             '2026-01-01 00:00:00+00:00', NULL FROM change_log; UPDATE change_log SET last_seq = last_seq + 1"
        );
        world.database().await.execute_unprepared(&sql).await.unwrap();
    };
    for both in [&sign_in, &other] {
        replica.check(both).await.unwrap();
    }
    append(&format!("x'{}'", sign_in.user.0.simple())).await;
    replica.follower.read().await.unwrap();
    assert!(!replica.is_cached(&sign_in).await);
    assert!(replica.is_cached(&other).await);
    append("NULL").await;
    replica.follower.read().await.unwrap();
    assert!(!replica.is_cached(&sign_in).await);
    assert!(!replica.is_cached(&other).await);
}

/// More changes than one page holds: the first page is not the end, and the changes of the second page are applied
/// before the cache counts as current.
#[tokio::test]
async fn a_full_page_is_not_the_end() {
    let world = World::new();
    let mut replica = world.replica().await;
    let sign_in = replica.sign_in().await;
    replica.check(&sign_in).await.unwrap();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_ENTRIES}) \
         INSERT INTO identity_changes SELECT i, 'user_changed', zeroblob(16), NULL, '2026-01-01 00:00:00+00:00', \
         randomblob(16) FROM n; \
         INSERT INTO identity_changes VALUES ({MAX_ENTRIES} + 1, 'user_changed', x'{}', NULL, \
         '2026-01-01 00:00:00+00:00', randomblob(16)); \
         UPDATE change_log SET last_seq = {MAX_ENTRIES} + 1",
        sign_in.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    assert_eq!(replica.follower.read_once().await.unwrap(), Progress::NotYet);
    assert!(replica.is_cached(&sign_in).await);
    assert_eq!(replica.follower.read_once().await.unwrap(), Progress::UpToHead);
    assert!(!replica.is_cached(&sign_in).await);
}

/// Data from before the first reading of the log may be stale by a change that no later entry reports.
#[tokio::test]
async fn the_first_reading_of_the_log_invalidates_earlier_data() {
    let world = World::new();
    let replica = world.replica().await;
    let sign_in = replica.sign_in().await;
    let options = replica.sessions.0.options;
    let changes = ChangeLog::new(world.clock.clone(), BOUND);
    let sessions = Sessions::new(replica.store.clone(), world.clock.clone(), options, changes);
    let mut late = Replica {
        store: replica.store.clone(),
        follower: sessions.follower(),
        sessions,
    };
    late.check(&sign_in).await.unwrap();
    replica
        .sessions
        .revoke(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    late.follower.read().await.unwrap();
    late.assert_invalid(&sign_in).await;
}
