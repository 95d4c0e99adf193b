use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::DateTime;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use secrecy::SecretString;
use tempfile::TempDir;
use uuid::Uuid;

use super::cache::Cache;
use super::freshness::{Freshness, Position};
use super::tail::{PAGE, TailError};
use super::*;
use crate::clock::ManualClock;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, ClientInfo, SessionId};
use crate::domain::token::PlainToken;
use crate::domain::user::{UserId, UserStatus};
use crate::store::{changes, users};

const BOUND: Duration = Duration::from_secs(1);

/// A database, and a clock that stands still.
struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

/// One process: what it holds in memory, and its reader of the change log, which reads when it is told to.
struct Replica {
    store: Store,
    sessions: Sessions,
    tail: Tail,
}

struct SignedIn {
    user: UserId,
    session: SessionId,
    token: PlainToken,
}

impl World {
    fn new() -> Self {
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(start)),
        }
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("test.db").display())
    }

    async fn replica(&self) -> Replica {
        let store = Store::open(&SecretString::from(self.url()), 2).await.unwrap();
        store.migrate().await.unwrap();
        let options = Options {
            lifetimes: Lifetimes {
                absolute: Duration::from_hours(24),
                idle: Duration::from_hours(1),
            },
            cache_capacity: 1000,
            lookup_queries: 1,
            change_log_interval: Duration::from_millis(250),
            change_log_patience: BOUND / 2,
            cleanup_interval: Duration::from_secs(60),
        };
        let changes = ChangeLog::new(self.clock.clone(), BOUND);
        let sessions = Sessions::new(store.clone(), self.clock.clone(), options, changes);
        let mut tail = sessions.tail();
        tail.read().await.unwrap();
        Replica {
            store,
            sessions,
            tail,
        }
    }

    /// The database, behind the back of the replicas.
    async fn database(&self) -> DatabaseConnection {
        Database::connect(self.url()).await.unwrap()
    }
}

impl Replica {
    async fn sign_in(&self) -> SignedIn {
        let now = self.sessions.0.clock.now();
        // People who share a place are forgotten together: these do not.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = UserId(Uuid::from_u128(number.into()));
        let user = User {
            id,
            phone_number: PhoneNumber::parse(&format!("+99890{number:07}"), None).unwrap(),
            status: UserStatus::Active,
            is_staff: false,
            is_superuser: false,
            has_password: true,
            phone_verified_at: None,
            locale: None,
            created_at: now,
            updated_at: now,
            last_login_at: None,
        };
        users::insert(self.store.writer(), &user, "no hash")
            .await
            .unwrap();
        let session = Session {
            id: SessionId::generate(now),
            user_id: id,
            created_at: now,
            last_seen_at: now,
            expires_at: now + Duration::from_hours(24),
            auth_methods: vec![AuthMethod::Password],
            client: ClientInfo::default(),
        };
        let token = PlainToken::generate().unwrap();
        sessions::insert(self.store.writer(), &session, &token.hash())
            .await
            .unwrap();
        SignedIn {
            user: id,
            session: session.id,
            token,
        }
    }

    async fn check(&self, person: &SignedIn) -> Result<(), Error> {
        let checked = self
            .sessions
            .validate(person.token.expose(), Consistency::MinimizeLatency);
        checked.await.map(|_| ())
    }

    /// Checks, and says whether the answer came from memory.
    async fn is_cached(&self, person: &SignedIn) -> bool {
        let hits = self.sessions.metrics().hits;
        self.check(person).await.unwrap();
        self.sessions.metrics().hits > hits
    }

    async fn assert_invalid(&self, person: &SignedIn) {
        let checked = self.check(person).await;
        assert!(matches!(checked, Err(Error::SessionInvalid)), "{checked:?}");
    }
}

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
async fn a_revocation_holds_at_once_here_and_elsewhere_when_the_log_was_read() {
    let world = World::new();
    let (here, mut there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    for replica in [&here, &there] {
        replica.check(&person).await.unwrap();
        assert!(replica.is_cached(&person).await);
    }
    here.sessions.revoke(person.token.expose()).await.unwrap();
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
    here.sessions.revoke(person.token.expose()).await.unwrap();
    there.tail.read().await.unwrap();
    there.assert_invalid(&person).await;
}

/// Revoked there, and then once more here: this one answers that it is revoked, and must not say otherwise afterwards.
#[tokio::test]
async fn what_was_revoked_elsewhere_and_is_revoked_again_is_forgotten_here() {
    let world = World::new();
    let (here, there) = (world.replica().await, world.replica().await);
    let person = here.sign_in().await;
    here.check(&person).await.unwrap();
    there.sessions.revoke(person.token.expose()).await.unwrap();
    assert!(here.is_cached(&person).await);
    here.sessions.revoke(person.token.expose()).await.unwrap();
    here.assert_invalid(&person).await;
}

/// While the log cannot be read, memory is good for the bound and not a moment longer; what cannot be looked up then is
/// neither good nor bad.
#[tokio::test]
async fn past_the_bound_the_database_is_asked_and_nothing_is_guessed() {
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
        Err(TailError::Store(crate::store::StoreError::Unavailable(_)))
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
async fn another_epoch_a_regression_and_a_gap_make_everything_forgotten() {
    for damage in [
        "UPDATE change_log SET epoch = randomblob(16)",
        "UPDATE change_log SET last_seq = 1",
        "UPDATE change_log SET last_seq = last_seq + 1",
        "INSERT INTO identity_changes SELECT last_seq + 2, 'user_changed', randomblob(16), NULL, '2026-01-01 00:00:00+00:00' FROM change_log; UPDATE change_log SET last_seq = last_seq + 2",
    ] {
        let world = World::new();
        let mut replica = world.replica().await;
        let (person, other) = (replica.sign_in().await, replica.sign_in().await);
        for gone in [&other, &replica.sign_in().await] {
            replica.sessions.revoke(gone.token.expose()).await.unwrap();
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
async fn a_kind_that_is_not_known_forgets_its_person_or_everybody() {
    let world = World::new();
    let mut replica = world.replica().await;
    let (person, bystander) = (replica.sign_in().await, replica.sign_in().await);
    let append = async |user: &str| {
        let sql = format!(
            "INSERT INTO identity_changes SELECT last_seq + 1, 'from_the_future', {user}, NULL, \
             '2026-01-01 00:00:00+00:00' FROM change_log; UPDATE change_log SET last_seq = last_seq + 1"
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
async fn a_full_page_is_not_the_end() {
    let world = World::new();
    let mut replica = world.replica().await;
    let person = replica.sign_in().await;
    replica.check(&person).await.unwrap();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PAGE}) \
         INSERT INTO identity_changes SELECT i, 'user_changed', zeroblob(16), NULL, '2026-01-01 00:00:00+00:00' FROM n; \
         INSERT INTO identity_changes VALUES ({PAGE} + 1, 'user_changed', x'{}', NULL, '2026-01-01 00:00:00+00:00'); \
         UPDATE change_log SET last_seq = {PAGE} + 1",
        person.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    assert!(!replica.tail.read_once().await.unwrap(), "a full page is the end");
    assert!(replica.is_cached(&person).await);
    assert!(replica.tail.read_once().await.unwrap());
    assert!(!replica.is_cached(&person).await);
}

/// What is read before the first reading of the log may be out of date by a change that nobody will tell of.
#[tokio::test]
async fn the_first_reading_of_the_log_forgets_what_was_read_before() {
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
    replica.sessions.revoke(person.token.expose()).await.unwrap();
    late.tail.read().await.unwrap();
    late.assert_invalid(&person).await;
}

#[tokio::test]
async fn an_idle_end_in_memory_is_confirmed_in_the_database() {
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

#[tokio::test]
async fn what_ended_is_removed_and_what_was_used_meanwhile_is_not() {
    let world = World::new();
    let replica = world.replica().await;
    let (used, unused) = (replica.sign_in().await, replica.sign_in().await);
    world.clock.advance(Duration::from_mins(59));
    replica.check(&used).await.unwrap();
    world.clock.advance(Duration::from_secs(60 + 59));
    // The use of one is not written yet, and the other one's grace is not over.
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
    replica.sessions.revoke(gone.token.expose()).await.unwrap();
    world.clock.advance(Duration::from_hours(24));
    let later = replica.sign_in().await;
    replica.sessions.revoke(later.token.expose()).await.unwrap();
    let seqs = async || -> Vec<i64> {
        let page = changes::page(replica.store.reader(), 0, 10).await.unwrap();
        page.iter().map(|entry| entry.seq).collect()
    };
    replica.sessions.clean_up().await;
    assert_eq!(seqs().await, [1, 2]);
    world.clock.advance(Duration::from_micros(1));
    replica.sessions.clean_up().await;
    assert_eq!(seqs().await, [2]);
    // Whoever has read it all misses nothing.
    replica.tail.read().await.unwrap();
}

/// Eight workers check sessions at random, from memory, sharing queries and strongly, while these are revoked. Whoever
/// begins a check after a revocation was acknowledged is not told that the session is good.
#[tokio::test(flavor = "multi_thread")]
async fn no_check_says_yes_after_a_revocation_was_acknowledged() {
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
    let workers = (0..WORKERS).map(|mut random| {
        let (sessions, people, checks) = (replica.sessions.clone(), people.clone(), checks.clone());
        tokio::spawn(async move {
            let (mut yes, mut no, mut violations) = (0, 0, 0);
            while checks.fetch_add(1, Ordering::Relaxed) < CHECKS {
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
        replica.sessions.revoke(person.token.expose()).await.unwrap();
        is_revoked.store(true, Ordering::SeqCst);
    }
    let (mut yes, mut no, mut violations) = (0, 0, 0);
    for worker in workers {
        let counts = worker.await.unwrap();
        yes += counts.0;
        no += counts.1;
        violations += counts.2;
    }
    assert_eq!(violations, 0);
    assert!(
        yes + no == CHECKS && yes > CHECKS / 10 && no > CHECKS / 10,
        "{yes} {no}"
    );
    let counted = replica.sessions.metrics();
    assert!(counted.hits > counted.misses, "{counted:?}");
}

/// The steps of a reader who fills the cache, of one who revokes, and of one who checks, in every order in which they can
/// come: after the revocation was answered, nothing in memory says yes.
#[test]
fn a_stale_row_is_never_used_in_any_order_of_steps() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Ask(usize),
        Load(usize),
        Keep(usize),
        Commit,
        Answer,
        Check,
    }
    /// Every order of the steps that keeps the order of each actor.
    fn orders(actors: &[&[Step]], done: &mut Vec<Step>, visit: &mut impl FnMut(&[Step])) {
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
    let (user, session, token) = known_parts();
    let reader = |number| [Step::Ask(number), Step::Load(number), Step::Keep(number)];
    let (first, second) = (reader(0), reader(1));
    let actors: [&[Step]; 4] = [
        &first,
        &second,
        &[Step::Commit, Step::Answer],
        &[Step::Check, Step::Check],
    ];
    let freshness = Freshness::new(BOUND);
    let (mut count, mut stale_rows) = (0, 0);
    orders(&actors, &mut Vec::new(), &mut |order| {
        count += 1;
        let cache = Cache::new(10);
        let (mut is_in_database, mut is_answered) = (true, false);
        let mut positions = [None::<Position>; 2];
        let mut rows = [false; 2];
        for step in order {
            match *step {
                Step::Ask(reader) => positions[reader] = Some(freshness.position()),
                Step::Load(reader) => rows[reader] = is_in_database,
                Step::Keep(reader) if rows[reader] => {
                    let known = KnownSession::new(user.clone(), session.clone(), positions[reader].unwrap());
                    cache.insert(token, Arc::new(known));
                    stale_rows += usize::from(is_answered);
                }
                Step::Keep(_) => {}
                Step::Commit => is_in_database = false,
                Step::Answer => {
                    freshness.forget(user.id);
                    is_answered = true;
                }
                Step::Check => {
                    let says_yes = cache
                        .get(&token)
                        .is_some_and(|known| freshness.holds(known.position(), user.id, &token));
                    assert!(!(is_answered && says_yes), "{order:?}");
                }
            }
        }
    });
    // 10 steps of 4 actors: 10! / (3! 3! 2! 2!). And the race was among them.
    assert_eq!(count, 25_200);
    assert!(stale_rows > 0);
}

fn known_parts() -> (User, Session, TokenHash) {
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let user = User {
        id: UserId(Uuid::from_u128(1)),
        phone_number: PhoneNumber::parse("+998901234567", None).unwrap(),
        status: UserStatus::Active,
        is_staff: false,
        is_superuser: false,
        has_password: true,
        phone_verified_at: None,
        locale: None,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    };
    let session = Session {
        id: SessionId(Uuid::from_u128(2)),
        user_id: user.id,
        created_at: now,
        last_seen_at: now,
        expires_at: now + Duration::from_hours(1),
        auth_methods: vec![AuthMethod::Password],
        client: ClientInfo::default(),
    };
    (user, session, PlainToken::generate().unwrap().hash())
}
