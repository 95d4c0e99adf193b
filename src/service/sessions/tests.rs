//! The check engine on a real database, with readers of the change log that read when they are told to.

mod cache;
mod cleanup;
mod failover;
mod pause;
mod races;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::DateTime;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::clock::ManualClock;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, SessionId};
use crate::domain::token::PlainToken;
use crate::domain::user::{UserId, UserStatus};
use crate::service::revocation::follower::{FollowError, Follower, MAX_ENTRIES, Progress};
use crate::store::{self, users};

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
    tail: Follower,
}

struct KnownSignIn {
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
        self.replica_with(self.clock.clone()).await
    }

    async fn replica_with(&self, clock: Arc<dyn Clock>) -> Replica {
        let store = store::testing::in_folder(self.folder.path()).await;
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
            audit_retention: Duration::from_hours(24),
        };
        let changes = ChangeLog::new(clock.clone(), BOUND);
        let sessions = Sessions::new(store.clone(), clock, options, changes);
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
    async fn sign_in(&self) -> KnownSignIn {
        let now = self.sessions.0.clock.now();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (user, session) = someone(number, now);
        users::insert(self.store.writer(), &user, Some("no hash"))
            .await
            .unwrap();
        let token = PlainToken::generate().unwrap();
        sessions::insert(self.store.writer(), &session, &token.hash())
            .await
            .unwrap();
        KnownSignIn {
            user: user.id,
            session: session.id,
            token,
        }
    }

    async fn check(&self, person: &KnownSignIn) -> Result<(), Error> {
        let checked = self
            .sessions
            .validate(person.token.expose(), Consistency::MinimizeLatency);
        checked.await.map(|_| ())
    }

    /// Checks, and says whether the answer came from memory.
    async fn is_cached(&self, person: &KnownSignIn) -> bool {
        let hits = self.sessions.metrics().hits;
        self.check(person).await.unwrap();
        self.sessions.metrics().hits > hits
    }

    async fn assert_invalid(&self, person: &KnownSignIn) {
        let checked = self.check(person).await;
        assert!(matches!(checked, Err(Error::SessionInvalid)), "{checked:?}");
    }
}

/// A person and their session, of a lifetime of a day. Of another number they are others, and share no place with them.
fn someone(number: u32, now: Timestamp) -> (User, Session) {
    let user = User {
        id: UserId(Uuid::from_u128(number.into())),
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
    let session = Session {
        id: SessionId::generate(now),
        user_id: user.id,
        created_at: now,
        last_seen_at: now,
        expires_at: now + Duration::from_hours(24),
        auth_methods: AuthMethods::from_iter([AuthMethod::Password]),
        client: ClientInfo::default(),
    };
    (user, session)
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
async fn what_was_revoked_elsewhere_and_is_revoked_again_is_forgotten_here() {
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
async fn sessions_that_were_revoked_elsewhere_and_are_revoked_again_are_forgotten_here() {
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
/// session and of nobody else who shares the query.
#[tokio::test]
async fn a_row_that_cannot_be_read_fails_nobody_elses_check() {
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
async fn what_is_forgotten_while_a_query_is_under_way_is_not_kept() {
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
async fn another_epoch_a_regression_and_a_gap_make_everything_forgotten() {
    for damage in [
        "UPDATE change_log SET epoch = randomblob(16)",
        "UPDATE change_log SET last_seq = 1",
        "UPDATE change_log SET last_seq = last_seq + 1",
        "UPDATE identity_changes SET entry_id = randomblob(16)",
        "UPDATE identity_changes SET entry_id = NULL",
        "DELETE FROM identity_changes",
        "INSERT INTO identity_changes SELECT last_seq + 2, 'user_changed', randomblob(16), NULL, '2026-01-01 00:00:00+00:00', randomblob(16) FROM change_log; UPDATE change_log SET last_seq = last_seq + 2",
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
async fn a_kind_that_is_not_known_forgets_its_person_or_everybody() {
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
async fn a_full_page_is_not_the_end() {
    let world = World::new();
    let mut replica = world.replica().await;
    let person = replica.sign_in().await;
    replica.check(&person).await.unwrap();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_ENTRIES}) \
         INSERT INTO identity_changes SELECT i, 'user_changed', zeroblob(16), NULL, '2026-01-01 00:00:00+00:00', randomblob(16) FROM n; \
         INSERT INTO identity_changes VALUES ({MAX_ENTRIES} + 1, 'user_changed', x'{}', NULL, '2026-01-01 00:00:00+00:00', randomblob(16)); \
         UPDATE change_log SET last_seq = {MAX_ENTRIES} + 1",
        person.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    assert_eq!(replica.tail.read_once().await.unwrap(), Progress::NotYet);
    assert!(replica.is_cached(&person).await);
    assert_eq!(replica.tail.read_once().await.unwrap(), Progress::UpToHead);
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
    replica
        .sessions
        .revoke(person.token.expose(), Caller::default())
        .await
        .unwrap();
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
