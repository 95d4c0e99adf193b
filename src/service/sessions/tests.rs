//! Session checks on a real database, with followers that read the change log on command.

mod cache;
mod change_log;
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
use crate::service::revocation::follower::{FollowError, Follower};
use crate::store::{self, users};

const BOUND: Duration = Duration::from_secs(1);

/// A database, and a clock that stands still.
struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

/// One process: its memory, and its follower of the change log, which reads on command.
struct Replica {
    store: Store,
    sessions: Sessions,
    follower: Follower,
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
            change_log_timeout: BOUND / 2,
            cleanup_interval: Duration::from_secs(60),
            audit_retention: Duration::from_hours(24),
        };
        let changes = ChangeLog::new(clock.clone(), BOUND);
        let sessions = Sessions::new(store.clone(), clock, options, changes);
        let mut follower = sessions.follower();
        follower.read().await.unwrap();
        Replica {
            store,
            sessions,
            follower,
        }
    }

    /// A separate connection to the database, beside the replicas.
    async fn database(&self) -> DatabaseConnection {
        Database::connect(self.url()).await.unwrap()
    }
}

impl Replica {
    async fn sign_in(&self) -> KnownSignIn {
        let now = self.sessions.0.clock.now();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (user, session) = user_with_session(number, now);
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

    async fn check(&self, sign_in: &KnownSignIn) -> Result<(), Error> {
        let checked = self
            .sessions
            .validate(sign_in.token.expose(), Consistency::MinimizeLatency);
        checked.await.map(|_| ())
    }

    /// Checks, and returns whether the cache answered.
    async fn is_cached(&self, sign_in: &KnownSignIn) -> bool {
        let hits = self.sessions.metrics().hits;
        self.check(sign_in).await.unwrap();
        self.sessions.metrics().hits > hits
    }

    async fn assert_invalid(&self, sign_in: &KnownSignIn) {
        let checked = self.check(sign_in).await;
        assert!(matches!(checked, Err(Error::SessionInvalid)), "{checked:?}");
    }
}

/// A user with a session of one day. Users with different numbers share no slot of the fence.
fn user_with_session(number: u32, now: Timestamp) -> (User, Session) {
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
async fn the_cache_answers_the_second_check() {
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
async fn a_revocation_holds_at_once_here_and_on_other_replicas_after_a_reading() {
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
async fn a_second_revocation_invalidates_the_cache_of_its_replica() {
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
async fn a_second_revocation_of_all_sessions_invalidates_the_cache_of_its_replica() {
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

/// A row that this version cannot parse, such as one with a status of a newer version, fails only the check of its own
/// session, not the other checks that share the query.
#[tokio::test]
async fn a_row_that_cannot_be_parsed_fails_only_its_own_check() {
    let world = World::new();
    let replica = world.replica().await;
    let (odd, valid) = (replica.sign_in().await, replica.sign_in().await);
    let sql = format!(
        "UPDATE users SET status = 'odd' WHERE id = x'{}'",
        odd.user.0.simple()
    );
    world.database().await.execute_unprepared(&sql).await.unwrap();
    let (odd, valid) = tokio::join!(replica.check(&odd), replica.check(&valid));
    assert!(matches!(odd, Err(Error::Internal(_))), "{odd:?}");
    valid.unwrap();
}

/// A reader records the version before its query is sent, not when the answer arrives: invalidations in between count.
#[tokio::test]
async fn an_invalidation_during_a_query_discards_its_answer() {
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

/// While the log cannot be read, the cache is valid for the bound and not a moment longer. A session that cannot be
/// looked up after that is neither valid nor invalid.
#[tokio::test]
async fn after_the_staleness_bound_the_database_decides() {
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
async fn an_idle_end_in_the_cache_is_confirmed_in_the_database() {
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
