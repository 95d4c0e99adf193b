//! Session checks on a real database, with followers that read the change log when a test calls them.

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
    let sign_in = replica.sign_in().await;
    assert!(!replica.is_cached(&sign_in).await);
    assert!(replica.is_cached(&sign_in).await);
    let strong = replica
        .sessions
        .validate(sign_in.token.expose(), Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(strong.session().id, sign_in.session);
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
    let sign_in = here.sign_in().await;
    for replica in [&here, &there] {
        replica.check(&sign_in).await.unwrap();
        assert!(replica.is_cached(&sign_in).await);
    }
    here.sessions
        .revoke(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    here.assert_invalid(&sign_in).await;
    // Within the bound, the other replica does not know the revocation yet, except by a strong check.
    assert!(there.is_cached(&sign_in).await);
    let strong = there
        .sessions
        .validate(sign_in.token.expose(), Consistency::Strong)
        .await;
    assert!(matches!(strong, Err(Error::SessionInvalid)));
    there.assert_invalid(&sign_in).await;

    let sign_in = here.sign_in().await;
    there.check(&sign_in).await.unwrap();
    here.sessions
        .revoke(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    there.follower.read().await.unwrap();
    there.assert_invalid(&sign_in).await;
}

/// A session is revoked on another replica and then again on this one. This replica confirms the revocation, and must
/// not accept the session afterwards.
#[tokio::test]
async fn revoking_a_session_again_evicts_it_from_the_cache() {
    let world = World::new();
    let (here, there) = (world.replica().await, world.replica().await);
    let sign_in = here.sign_in().await;
    here.check(&sign_in).await.unwrap();
    there
        .sessions
        .revoke(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    assert!(here.is_cached(&sign_in).await);
    here.sessions
        .revoke(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    here.assert_invalid(&sign_in).await;
}

/// The same for RevokeSessions, which finds no session left to revoke.
#[tokio::test]
async fn revoking_sessions_again_evicts_them_from_the_cache() {
    let world = World::new();
    let (here, there) = (world.replica().await, world.replica().await);
    let sign_in = here.sign_in().await;
    here.check(&sign_in).await.unwrap();
    let actor = here
        .sessions
        .actor(sign_in.token.expose(), Caller::default())
        .await
        .unwrap();
    there
        .sessions
        .revoke_selected(&actor, Selection::All)
        .await
        .unwrap();
    assert!(here.is_cached(&sign_in).await);
    let again = here.sessions.revoke_selected(&actor, Selection::All).await;
    assert_eq!(again.unwrap(), 0);
    here.assert_invalid(&sign_in).await;
}

/// A row that this version cannot parse, such as one with a status of a newer version, fails the check of its own
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

/// A reader records the version before its query is sent, not when the answer arrives: invalidations in between count.
#[tokio::test]
async fn a_session_evicted_during_a_query_is_not_cached() {
    let world = World::new();
    let replica = world.replica().await;
    let sign_in = replica.sign_in().await;
    // Both connections are in use, so the query waits for one.
    let reader = replica.store.reader();
    let held = (reader.occupy().await, reader.occupy().await);
    let checking = tokio::spawn({
        let (sessions, token) = (replica.sessions.clone(), sign_in.token.expose().to_owned());
        async move { sessions.validate(&token, Consistency::MinimizeLatency).await }
    });
    // This test has one thread, so the other tasks run until all of them wait.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    replica.sessions.0.fence.forget(sign_in.user);
    drop(held);
    checking.await.unwrap().unwrap();
    assert!(!replica.is_cached(&sign_in).await);
    assert!(replica.is_cached(&sign_in).await);
}

/// If the follower cannot read the log, the cache is valid until the staleness bound. After that, a check that cannot
/// query the database has no result.
#[tokio::test]
async fn after_the_staleness_bound_every_check_queries_the_database() {
    let world = World::new();
    let mut replica = world.replica().await;
    let sign_in = replica.sign_in().await;
    replica.check(&sign_in).await.unwrap();
    world.clock.advance(BOUND);
    assert!(replica.is_cached(&sign_in).await);
    world.clock.advance(Duration::from_micros(1));
    assert!(!replica.is_cached(&sign_in).await);
    replica.follower.read().await.unwrap();
    assert!(replica.is_cached(&sign_in).await);

    replica.store.clone().close().await.unwrap();
    assert!(matches!(
        replica.follower.read().await,
        Err(FollowError::Store(store::StoreError::Unavailable(_)))
    ));
    world.clock.advance(BOUND);
    assert!(replica.is_cached(&sign_in).await);
    world.clock.advance(Duration::from_micros(1));
    let checked = replica.check(&sign_in).await;
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
        let (sign_in, other) = (replica.sign_in().await, replica.sign_in().await);
        for gone in [&other, &replica.sign_in().await] {
            replica
                .sessions
                .revoke(gone.token.expose(), Caller::default())
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
        assert!(replica.is_cached(&sign_in).await, "once is enough: {damage}");
    }
}

#[tokio::test]
async fn an_unknown_kind_evicts_its_user_or_all_users() {
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
async fn a_full_page_is_not_the_last() {
    let world = World::new();
    let mut replica = world.replica().await;
    let sign_in = replica.sign_in().await;
    replica.check(&sign_in).await.unwrap();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_ENTRIES}) \
         INSERT INTO identity_changes SELECT i, 'user_changed', zeroblob(16), NULL, '2026-01-01 \
         00:00:00+00:00', randomblob(16) FROM n; \
         INSERT INTO identity_changes VALUES ({MAX_ENTRIES} + 1, 'user_changed', x'{}', NULL, '2026-01-01 \
         00:00:00+00:00', randomblob(16)); \
         UPDATE change_log SET last_seq = {MAX_ENTRIES} + 1",
        sign_in.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    assert_eq!(replica.follower.read_once().await.unwrap(), Progress::NotYet);
    assert!(replica.is_cached(&sign_in).await);
    assert_eq!(replica.follower.read_once().await.unwrap(), Progress::UpToHead);
    assert!(!replica.is_cached(&sign_in).await);
}

/// A change before the first reading of the log may be missing from the cache, and the log does not report it.
#[tokio::test]
async fn the_first_reading_of_the_log_clears_the_cache() {
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

#[tokio::test]
async fn an_idle_timeout_in_the_cache_is_confirmed_in_the_database() {
    let world = World::new();
    let (mut here, there) = (world.replica().await, world.replica().await);
    let sign_in = here.sign_in().await;
    here.check(&sign_in).await.unwrap();
    world.clock.advance(Duration::from_mins(30));
    there.check(&sign_in).await.unwrap();
    there.sessions.flush().await;
    world.clock.advance(Duration::from_mins(30));
    here.follower.read().await.unwrap();
    assert!(
        !here.is_cached(&sign_in).await,
        "it ended here, and was used there"
    );
    world.clock.advance(Duration::from_hours(1));
    here.follower.read().await.unwrap();
    assert!(matches!(here.check(&sign_in).await, Err(Error::SessionExpired)));
}
