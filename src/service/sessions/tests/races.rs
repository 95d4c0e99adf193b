//! Checks and revocations at the same time: in every order of their steps, and many at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::DateTime;

use super::BOUND;
use super::world::{World, someone};
use crate::domain::access::Caller;
use crate::domain::token::PlainToken;
use crate::service::error::Error;
use crate::service::revocation::fence::{Fence, Version};
use crate::service::sessions::Consistency;
use crate::service::sessions::cache::{Cache, KnownSession};

/// Eight workers check sessions at random, from the cache, with shared queries and with strong consistency, while the
/// sessions are revoked. A check that begins after an acknowledged revocation fails.
#[tokio::test(flavor = "multi_thread")]
async fn no_check_accepts_a_session_after_an_acknowledged_revocation() {
    const WORKERS: u64 = 8;
    const CHECKS: usize = 100_000;
    const SESSIONS: usize = 400;

    let world = World::new();
    let replica = world.replica().await;
    let mut people = Vec::new();
    for _ in 0..SESSIONS {
        people.push((replica.sign_in().await, AtomicBool::new(false)));
    }
    let people = Arc::new(people);
    let checks = Arc::new(AtomicUsize::new(0));
    // The checks go on until the last session is revoked, and for a tenth more.
    let is_done = Arc::new(AtomicBool::new(false));
    let workers = (0..WORKERS).map(|mut random| {
        let (sessions, people, checks) = (replica.sessions.clone(), people.clone(), checks.clone());
        let is_done = is_done.clone();
        tokio::spawn(async move {
            let (mut yes, mut no, mut violations) = (0, 0, 0);
            while checks.fetch_add(1, Ordering::Relaxed) < CHECKS || !is_done.load(Ordering::Relaxed) {
                // Knuth's MMIX generator: another order for every worker, the same in every run.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let draw = usize::try_from(random >> 33).unwrap();
                let (person, is_revoked) = &people[draw % people.len()];
                let consistency = match draw % 7 {
                    0 => Consistency::Strong,
                    _ => Consistency::MinimizeLatency,
                };
                let was_revoked = is_revoked.load(Ordering::SeqCst);
                match sessions.validate(person.token.expose(), consistency).await {
                    Ok(_) if was_revoked => violations += 1,
                    Ok(_) => yes += 1,
                    Err(Error::SessionInvalid) => no += 1,
                    Err(error) => panic!("{error:?}"),
                }
                // An answer from memory does not wait for anything, and would keep the others from running.
                tokio::task::yield_now().await;
            }
            (yes, no, violations)
        })
    });
    let workers: Vec<_> = workers.collect();
    for (number, (person, is_revoked)) in people.iter().enumerate().take(SESSIONS * 3 / 4) {
        // Spread over the run, so that sessions are revoked while they are checked.
        while checks.load(Ordering::Relaxed) < number * CHECKS / SESSIONS {
            tokio::task::yield_now().await;
        }
        replica
            .sessions
            .revoke(person.token.expose(), Caller::default())
            .await
            .unwrap();
        is_revoked.store(true, Ordering::SeqCst);
    }
    let enough = checks.load(Ordering::Relaxed) + CHECKS / 10;
    while checks.load(Ordering::Relaxed) < enough {
        tokio::task::yield_now().await;
    }
    is_done.store(true, Ordering::Relaxed);
    let (mut yes, mut no, mut violations) = (0, 0, 0);
    for worker in workers {
        let counts = worker.await.unwrap();
        yes += counts.0;
        no += counts.1;
        violations += counts.2;
    }
    assert_eq!(violations, 0);
    assert!(
        yes + no >= CHECKS && yes > CHECKS / 20 && no > CHECKS / 20,
        "{yes} {no}"
    );
    let counted = replica.sessions.metrics();
    assert!(counted.hits > counted.misses, "{counted:?}");
}

/// Visits every order of the steps that keeps the order of each actor.
pub(super) fn orders<S: Copy>(actors: &[&[S]], done: &mut Vec<S>, visit: &mut impl FnMut(&[S])) {
    if actors.iter().all(|steps| steps.is_empty()) {
        visit(done);
    }
    for (number, steps) in actors.iter().enumerate() {
        if let Some((next, rest)) = steps.split_first() {
            let mut actors = actors.to_vec();
            actors[number] = rest;
            done.push(*next);
            orders(&actors, done, visit);
            done.pop();
        }
    }
}

/// The steps of a reader that fills the cache, of a revocation and of a check, in every possible order. After the
/// response of the revocation, the cache does not accept the session.
#[test]
fn a_stale_row_is_never_used_in_any_order_of_steps() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum RaceStep {
        Ask(usize),
        Load(usize),
        Keep(usize),
        Commit,
        Answer,
        Check,
    }
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let (user, session) = someone(1, now);
    let token = PlainToken::generate().unwrap().hash();
    let reader = |number| {
        [
            RaceStep::Ask(number),
            RaceStep::Load(number),
            RaceStep::Keep(number),
        ]
    };
    let (first, second) = (reader(0), reader(1));
    let actors: [&[RaceStep]; 4] = [
        &first,
        &second,
        &[RaceStep::Commit, RaceStep::Answer],
        &[RaceStep::Check, RaceStep::Check],
    ];
    let freshness = Fence::new(BOUND);
    let (mut count, mut stale_rows) = (0, 0);
    orders(&actors, &mut Vec::new(), &mut |order| {
        count += 1;
        let cache = Cache::new(10, Arc::default());
        let (mut is_in_database, mut is_answered) = (true, false);
        let mut positions = [None::<Version>; 2];
        let mut rows = [false; 2];
        for step in order {
            match *step {
                RaceStep::Ask(reader) => positions[reader] = Some(freshness.position()),
                RaceStep::Load(reader) => rows[reader] = is_in_database,
                RaceStep::Keep(reader) if rows[reader] => {
                    let known = KnownSession::new(user.clone(), session.clone(), positions[reader].unwrap());
                    cache.insert(token, Arc::new(known));
                    stale_rows += usize::from(is_answered);
                }
                RaceStep::Keep(_) => {}
                RaceStep::Commit => is_in_database = false,
                RaceStep::Answer => {
                    freshness.forget(user.id);
                    is_answered = true;
                }
                RaceStep::Check => {
                    let says_yes = cache
                        .get(&token)
                        .is_some_and(|known| freshness.is_current(known.position(), user.id, &token));
                    assert!(!(is_answered && says_yes), "{order:?}");
                }
            }
        }
    });
    // 10 steps of 4 actors: 10! / (3! 3! 2! 2!). And the race was among them.
    assert_eq!(count, 25_200);
    assert!(stale_rows > 0);
}
