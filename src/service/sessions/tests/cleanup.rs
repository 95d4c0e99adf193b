//! Housekeeping: removal of ended sessions and of old entries of the change log.

use std::time::Duration;

use super::world::World;
use crate::domain::access::Caller;
use crate::store::{changes, sessions};

/// Reads all sessions in batches. A full batch is not taken for the last one, and a partial batch is not skipped.
#[tokio::test]
async fn housekeeping_reads_sessions_in_batches() {
    let world = World::new();
    let replica = world.replica().await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(replica.sign_in().await.session);
    }
    world.clock.advance(Duration::from_mins(58));
    for _ in 0..4 {
        replica.sign_in().await;
    }
    world.clock.advance(Duration::from_mins(2));
    ended.sort_unstable_by_key(|session| session.0);
    let lifetimes = replica.sessions.lifetimes();
    let time = replica.sessions.0.clock.now();
    for limit in 1..=9 {
        let (mut after, mut found, mut alive, mut pieces) = (None, Vec::new(), 0, 0);
        loop {
            let piece = sessions::find_ended(replica.store.reader(), after, limit, lifetimes, time)
                .await
                .unwrap();
            assert!(piece.ended.len() <= usize::try_from(limit).unwrap());
            found.extend(piece.ended);
            alive += piece.alive;
            pieces += 1;
            after = piece.last;
            if after.is_none() {
                break;
            }
        }
        found.sort_unstable_by_key(|session| session.0);
        assert_eq!((&found, alive), (&ended, 4), "{limit}");
        // There are seven sessions, and one more read if the last batch is full.
        assert_eq!(pieces, 7 / limit + 1, "{limit}");
    }
}

#[tokio::test]
async fn ended_sessions_are_removed_and_used_ones_are_not() {
    let world = World::new();
    let replica = world.replica().await;
    let (used, unused) = (replica.sign_in().await, replica.sign_in().await);
    world.clock.advance(Duration::from_mins(59));
    replica.check(&used).await.unwrap();
    world.clock.advance(Duration::from_secs(60 + 59));
    // The use of one session is not written yet, and the grace period of the other has not ended.
    replica.sessions.clean_up().await;
    assert!(
        sessions::exists(replica.store.reader(), unused.session)
            .await
            .unwrap()
    );
    replica.sessions.flush().await;
    world.clock.advance(Duration::from_secs(1));
    replica.sessions.clean_up().await;
    assert!(
        sessions::exists(replica.store.reader(), used.session)
            .await
            .unwrap()
    );
    assert!(
        !sessions::exists(replica.store.reader(), unused.session)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn the_change_log_is_kept_for_a_day() {
    let world = World::new();
    let mut replica = world.replica().await;
    let gone = replica.sign_in().await;
    replica
        .sessions
        .revoke(gone.token.expose(), Caller::default())
        .await
        .unwrap();
    world.clock.advance(Duration::from_hours(24));
    let later = replica.sign_in().await;
    replica
        .sessions
        .revoke(later.token.expose(), Caller::default())
        .await
        .unwrap();
    let seqs = async || -> Vec<i64> {
        let page = changes::page(replica.store.reader(), 0, 10).await.unwrap();
        page.iter().map(|entry| entry.seq).collect()
    };
    replica.sessions.clean_up().await;
    assert_eq!(seqs().await, [1, 2]);
    world.clock.advance(Duration::from_micros(1));
    replica.sessions.clean_up().await;
    assert_eq!(seqs().await, [2]);
    // A follower that has read the whole log misses nothing.
    replica.follower.read().await.unwrap();
}
