//! `kill -9` of the service, in the middle of 2,000 calls that change something.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audit::audit;
use crate::caller::Caller;
use crate::load::has_room;
use crate::model::{Model, Person};
use crate::place::Place;
use crate::random::Random;
use crate::replica::{Life, Replica};
use crate::{alone, check_all, random, setting};

/// Calls in flight.
const CALLS: usize = 2_000;

/// Users at the start. Each has one call at a time.
const PEOPLE: usize = 1_500;

/// Timeout of the test, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call waits behind 2,000 others.
const FLAGS: [&str; 2] = ["--database-acquire-timeout=30s", "--request-timeout=60s"];

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_calls_survive_a_kill_of_the_service() {
    let _alone = alone().await;
    let rounds = setting("SOAK_ROUNDS").unwrap_or(2);
    let mut random = random();
    let place = Place::new().await;
    let model = Arc::new(Model::new());
    let mut replica = Replica::start(&place, &FLAGS).await;

    let mut calls = JoinSet::new();
    for _ in 0..PEOPLE {
        let caller = caller(&model, &replica.life());
        calls.spawn(async move { caller.register().await });
    }
    calls.join_all().await;
    model.assert_good();
    let count =
        |counter: &std::sync::atomic::AtomicU64| usize::try_from(counter.load(Ordering::SeqCst)).unwrap();
    assert_eq!(count(&model.unavailable), 0, "no process was killed yet");

    for round in 1..=rounds {
        let started = Instant::now();
        let (answered, lost) = (count(&model.acknowledged), count(&model.unavailable));
        let calls = start_calls(&model, &replica.life(), &mut random);
        // Somewhere in the middle of it.
        let enough = answered + random.below(CALLS * 3 / 4);
        model
            .until(PATIENCE, "enough answers", |model| {
                count(&model.acknowledged) >= enough
            })
            .await;
        replica.kill().await;
        calls.join_all().await;
        model.assert_good();
        let (answered, lost) = (
            count(&model.acknowledged) - answered,
            count(&model.unavailable) - lost,
        );
        assert_eq!(answered + lost, CALLS);
        // The last one was a while before the end.
        assert!(lost > 0, "all calls were answered before the kill");
        audit(&place, &model).await;
        replica.start_again(&place).await;
        check_all(&model, &replica.life()).await;
        println!(
            "round {round}: killed after {answered} answers of {CALLS}; {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
    replica.end().await;
}

/// As many of each kind.
fn start_calls(model: &Arc<Model>, life: &Arc<Life>, random: &mut Random) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    let is_signed_in = |person: &Person| person.live_session().is_some();
    for number in 0..CALLS {
        let caller = caller(model, life);
        // A sign-in prefers users without a session.
        let found = match number % 4 {
            0 => None,
            1 => model
                .take(random, |person| !is_signed_in(person))
                .or_else(|| model.take(random, has_room)),
            _ => model.take(random, is_signed_in),
        };
        // If no user is left for the other kinds, after many rounds, a new user registers.
        let Some(person) = found else {
            calls.spawn(async move { caller.register().await });
            continue;
        };
        match (number % 4, person.live_session().cloned()) {
            (2, Some(session)) => calls.spawn(async move { caller.sign_out(person, &session).await }),
            (3, Some(session)) => calls.spawn(async move { caller.change_number(person, &session).await }),
            _ => calls.spawn(async move { caller.sign_in(person).await }),
        };
    }
    calls
}

fn caller(model: &Arc<Model>, life: &Arc<Life>) -> Caller {
    Caller {
        model: model.clone(),
        life: life.clone(),
    }
}
