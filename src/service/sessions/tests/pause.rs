//! A process that stops in the middle of a check and continues much later. It must not accept a session by its old
//! state.
//!
//! The stop is at the point where the check reads the time since boot. All values that were read before it are old
//! afterwards.

use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::domain::user::UserId;

type Resume = Box<dyn FnOnce() + Send>;

/// Does something when it is asked for the time since boot, before it answers.
struct StoppingClock {
    clock: Arc<ManualClock>,
    stop: Mutex<Option<Resume>>,
}

impl Clock for StoppingClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn since_boot(&self) -> Duration {
        let stop = self.stop.lock().unwrap().take();
        if let Some(stop) = stop {
            stop();
        }
        self.clock.since_boot()
    }
}

/// A stopped replica, by its clock and its knowledge of the changes.
type While = fn(&ManualClock, &Fence, UserId);

/// Revokes a session elsewhere, and checks it at a replica that is stopped for ten seconds in the middle of the check.
async fn check_with_a_stop(happens: While) {
    let world = World::new();
    let stopping = Arc::new(StoppingClock {
        clock: world.clock.clone(),
        stop: Mutex::default(),
    });
    let (here, elsewhere) = (world.replica_with(stopping.clone()).await, world.replica().await);
    let person = here.sign_in().await;
    here.check(&person).await.unwrap();
    assert!(here.is_cached(&person).await);
    elsewhere
        .sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
    assert!(here.is_cached(&person).await, "it cannot know yet");

    let (clock, freshness, user) = (
        world.clock.clone(),
        here.sessions.0.freshness.clone(),
        person.user,
    );
    *stopping.stop.lock().unwrap() = Some(Box::new(move || happens(&clock, &freshness, user)));
    here.assert_invalid(&person).await;
    assert!(stopping.stop.lock().unwrap().is_none(), "it was stopped");
}

#[tokio::test]
async fn the_clock_is_read_after_the_cache_look_up() {
    check_with_a_stop(|clock, _, _| clock.advance(Duration::from_secs(10))).await;
}

/// The follower may run during the stop. It updates the cache, and not the values that the check has read already.
#[tokio::test]
async fn freshness_is_read_before_the_cache_look_up() {
    check_with_a_stop(|clock, freshness, user| {
        clock.advance(Duration::from_secs(10));
        freshness.forget(user);
        freshness.publish(clock.since_boot());
    })
    .await;
}
