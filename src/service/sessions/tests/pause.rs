//! A process that is stopped in the middle of a check, and goes on much later: it must not say yes by what it knew
//! then.
//!
//! The stop is where the check asks for the time since boot. What was loaded before is old when it goes on.

use std::sync::Mutex;

use super::*;

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

/// What happens to a replica that is stopped, by its clock and what it knows of the changes.
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
async fn the_clock_is_asked_after_the_look_into_memory() {
    check_with_a_stop(|clock, _, _| clock.advance(Duration::from_secs(10))).await;
}

/// The reader of the change log may run while the check is stopped. What it finds out is about what is in memory then,
/// and not about what the check has looked up already.
#[tokio::test]
async fn until_when_all_is_known_is_asked_before_the_look_into_memory() {
    check_with_a_stop(|clock, freshness, user| {
        clock.advance(Duration::from_secs(10));
        freshness.forget(user);
        freshness.publish(clock.since_boot());
    })
    .await;
}
