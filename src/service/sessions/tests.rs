//! The check engine on a real database, with followers of the change log that read when a test calls them.

mod cache;
mod cleanup;
mod failover;
mod pause;
mod races;
mod world;

use std::time::Duration;

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::service::revocation::follower::{FollowError, MAX_ENTRIES, Progress};
use crate::store;
use world::{Replica, World};

const BOUND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_second_check_is_answered_from_memory() {
    let world = World::new();
    let replica = world.replica().await;
    let person = replica.sign_in().await;
    assert!(!replica.is_cached(&person).await);
    assert!(replica.is_cached(&person).await);
    let strong = replica
        .sessions
        .validate(person.token.expose(), Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(strong.session().id, person.session);
    let counted = replica.sessions.metrics();
    assert_eq!(
        (counted.hits, counted.misses, counted.strong, counted.cached),
        (1, 1, 1, 1)
    );
}

#[tokio::test]
async fn a_revocation_is_effective_here_at_once_and_elsewhere_after_reading_the_log() {
    let world = World::new();
    let (here, mut there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    for replica in [&here, &there] {
        replica.check(&person).await.unwrap();
        assert!(replica.is_cached(&person).await);
    }
    here.sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    here.assert_invalid(&person).await;
    // Within the bound this one does not know yet, unless it is asked to be sure.
    assert!(there.is_cached(&person).await);
    let strong = there
        .sessions
        .validate(person.token.expose(), Consistency::Strong)
        .await;
    assert!(matches!(strong, Err(Error::SessionInvalid)));
    there.assert_invalid(&person).await;

    let person = here.sign_in().await;
    there.check(&person).await.unwrap();
    here.sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    there.tail.read().await.unwrap();
    there.assert_invalid(&person).await;
}

/// Revoked there, and then once more here: this one answers that it is revoked, and must not say otherwise afterwards.
#[tokio::test]
async fn revoking_a_session_again_evicts_it_from_the_cache() {
    let world = World::new();
    let (here, there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    here.check(&person).await.unwrap();
    there
        .sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    assert!(here.is_cached(&person).await);
    here.sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    here.assert_invalid(&person).await;
}

/// The same for RevokeSessions, which finds nothing left to revoke.
#[tokio::test]
async fn revoking_sessions_again_evicts_them_from_the_cache() {
    let world = World::new();
    let (here, there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    here.check(&person).await.unwrap();
    let actor = here
        .sessions
        .actor(person.token.expose(), Caller::default())
        .await
        .unwrap();
    there
        .sessions
        .revoke_selected(&actor, Selection::All)
        .await
        .unwrap();
    assert!(here.is_cached(&person).await);
    let again = here.sessions.revoke_selected(&actor, Selection::All).await;
    assert_eq!(again.unwrap(), 0);
    here.assert_invalid(&person).await;
}

/// A row that this version cannot read, such as one with a status of a newer version, fails the check of its own
/// session. Other checks that share the query succeed.
#[tokio::test]
async fn an_unreadable_row_fails_only_its_own_check() {
    let world = World::new();
    let replica = world.replica().await;
    let (odd, good) = (replica.sign_in().await, replica.sign_in().await);
    let sql = format!(
        "UPDATE users SET status = 'odd' WHERE id = x'{}'",
        odd.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    let (odd, good) = tokio::join!(replica.check(&odd), replica.check(&good));
    assert!(matches!(odd, Err(Error::Internal(_))), "{odd:?}");
    good.unwrap();
}

/// A reader notes the position before its query is sent, and not when it is answered: what is forgotten in between
/// counts.
#[tokio::test]
async fn a_session_evicted_during_a_query_is_not_cached() {
    let world = World::new();
    let replica = world.replica().await;
    let person = replica.sign_in().await;
    // Both connections are taken, so that the query waits for one.
    let reader = replica.store.reader();
    let held = (reader.occupy().await, reader.occupy().await);
    let checking = tokio::spawn({
        let (sessions, token) = (replica.sessions.clone(), person.token.expose().to_owned());
        async move { sessions.validate(&token, Consistency::MinimizeLatency).await }
    });
    // On the one thread of this test, others run until all of them wait.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    replica.sessions.0.freshness.forget(person.user);
    drop(held);
    checking.await.unwrap().unwrap();
    assert!(!replica.is_cached(&person).await);
    assert!(replica.is_cached(&person).await);
}

/// If the follower cannot read the log, the cache is valid until the staleness bound. After that, a check that cannot
/// query the database has no result.
#[tokio::test]
async fn after_the_staleness_bound_every_check_queries_the_database() {
    let world = World::new();
    let mut replica = world.replica().await;
    let person = replica.sign_in().await;
    replica.check(&person).await.unwrap();
    world.clock.advance(BOUND);
    assert!(replica.is_cached(&person).await);
    world.clock.advance(Duration::from_micros(1));
    assert!(!replica.is_cached(&person).await);
    replica.tail.read().await.unwrap();
    assert!(replica.is_cached(&person).await);

    replica.store.clone().close().await.unwrap();
    assert!(matches!(
        replica.tail.read().await,
        Err(FollowError::Store(store::StoreError::Unavailable(_)))
    ));
    world.clock.advance(BOUND);
    assert!(replica.is_cached(&person).await);
    world.clock.advance(Duration::from_micros(1));
    let checked = replica.check(&person).await;
    assert!(
        matches!(checked, Err(Error::DatabaseUnavailable(_))),
        "{checked:?}"
    );
}

#[tokio::test]
async fn another_epoch_a_regression_and_a_gap_clear_the_cache() {
    for damage in [
        "UPDATE change_log SET epoch = randomblob(16)",
        "UPDATE change_log SET last_seq = 1",
        "UPDATE change_log SET last_seq = last_seq + 1",
        "UPDATE identity_changes SET entry_id = randomblob(16)",
        "UPDATE identity_changes SET entry_id = NULL",
        "DELETE FROM identity_changes",
        "INSERT INTO identity_changes SELECT last_seq + 2, 'user_changed', randomblob(16), NULL, \
         '2026-01-01 00:00:00+00:00', randomblob(16) FROM change_log; UPDATE change_log SET last_seq = \
         last_seq + 2",
    ] {
        let world = World::new();
        let mut replica = world.replica().await;
        let (person, other) = (replica.sign_in().await, replica.sign_in().await);
        for gone in [&other, &replica.sign_in().await] {
            replica
                .sessions
                .revoke(gone.token.expose(), Caller::default())
                .await
                .unwrap();
        }
        replica.tail.read().await.unwrap();
        replica.check(&person).await.unwrap();
        assert!(replica.is_cached(&person).await);
        replica.tail.read().await.unwrap();
        assert!(replica.is_cached(&person).await, "nothing happened");

        world.database().await.execute_unprepared(damage).await.unwrap();
        replica.tail.read().await.unwrap();
        assert!(!replica.is_cached(&person).await, "{damage}");
        replica.tail.read().await.unwrap();
        assert!(replica.is_cached(&person).await, "once is enough: {damage}");
    }
}

#[tokio::test]
async fn an_unknown_kind_evicts_its_user_or_all_users() {
    let world = World::new();
    let mut replica = world.replica().await;
    let (person, bystander) = (replica.sign_in().await, replica.sign_in().await);
    let append = async |user: &str| {
        let sql = format!(
            "INSERT INTO identity_changes SELECT last_seq + 1, 'from_the_future', {user}, NULL, \
             '2026-01-01 00:00:00+00:00', NULL FROM change_log; UPDATE change_log SET last_seq = last_seq + 1"
        );
        world.database().await.execute_unprepared(&sql).await.unwrap();
    };
    for both in [&person, &bystander] {
        replica.check(both).await.unwrap();
    }
    append(&format!("x'{}'", person.user.0.simple())).await;
    replica.tail.read().await.unwrap();
    assert!(!replica.is_cached(&person).await);
    assert!(replica.is_cached(&bystander).await);
    append("NULL").await;
    replica.tail.read().await.unwrap();
    assert!(!replica.is_cached(&person).await);
    assert!(!replica.is_cached(&bystander).await);
}

/// More changes than one page holds: the first page is not the end, and what stands on the second is known, too, before
/// memory is called fresh.
#[tokio::test]
async fn a_full_page_is_not_the_last() {
    let world = World::new();
    let mut replica = world.replica().await;
    let person = replica.sign_in().await;
    replica.check(&person).await.unwrap();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_ENTRIES}) \
         INSERT INTO identity_changes SELECT i, 'user_changed', zeroblob(16), NULL, '2026-01-01 \
         00:00:00+00:00', randomblob(16) FROM n; \
         INSERT INTO identity_changes VALUES ({MAX_ENTRIES} + 1, 'user_changed', x'{}', NULL, '2026-01-01 \
         00:00:00+00:00', randomblob(16)); \
         UPDATE change_log SET last_seq = {MAX_ENTRIES} + 1",
        person.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    assert_eq!(replica.tail.read_once().await.unwrap(), Progress::NotYet);
    assert!(replica.is_cached(&person).await);
    assert_eq!(replica.tail.read_once().await.unwrap(), Progress::UpToHead);
    assert!(!replica.is_cached(&person).await);
}

/// A change before the first reading of the log may be missing from the cache, and the log does not report it.
#[tokio::test]
async fn the_first_reading_of_the_log_clears_the_cache() {
    let world = World::new();
    let replica = world.replica().await;
    let person = replica.sign_in().await;
    let options = replica.sessions.0.options;
    let changes = ChangeLog::new(world.clock.clone(), BOUND);
    let sessions = Sessions::new(replica.store.clone(), world.clock.clone(), options, changes);
    let mut late = Replica {
        store: replica.store.clone(),
        tail: sessions.tail(),
        sessions,
    };
    late.check(&person).await.unwrap();
    replica
        .sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    late.tail.read().await.unwrap();
    late.assert_invalid(&person).await;
}

#[tokio::test]
async fn an_idle_timeout_in_the_cache_is_confirmed_in_the_database() {
    let world = World::new();
    let (mut here, there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    here.check(&person).await.unwrap();
    world.clock.advance(Duration::from_mins(30));
    there.check(&person).await.unwrap();
    there.sessions.flush().await;
    world.clock.advance(Duration::from_mins(30));
    here.tail.read().await.unwrap();
    assert!(
        !here.is_cached(&person).await,
        "it ended here, and was used there"
    );
    world.clock.advance(Duration::from_hours(1));
    here.tail.read().await.unwrap();
    assert!(matches!(here.check(&person).await, Err(Error::SessionExpired)));
}
