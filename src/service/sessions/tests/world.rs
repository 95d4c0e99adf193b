//! A database with replicas. A replica reads the change log when a test calls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::DateTime;
use sea_orm::{Database, DatabaseConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::BOUND;
use crate::clock::ManualClock;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, SessionId};
use crate::domain::token::PlainToken;
use crate::domain::user::UserId;
use crate::service::revocation::follower::Follower;
use crate::service::sessions::*;
use crate::store::{self, users};

/// A database, and a clock that stands still.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
}

/// A process: its store, its cache and its follower of the change log, which reads when a test calls it.
pub(super) struct Replica {
    pub(super) store: Store,
    pub(super) sessions: Sessions,
    pub(super) follower: Follower,
}

pub(super) struct KnownSignIn {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    pub(super) token: PlainToken,
}

impl World {
    pub(super) fn new() -> Self {
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(start)),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("test.db").display())
    }

    pub(super) async fn replica(&self) -> Replica {
        self.replica_with(self.clock.clone()).await
    }

    pub(super) async fn replica_with(&self, clock: Arc<dyn Clock>) -> Replica {
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
    pub(super) async fn database(&self) -> DatabaseConnection {
        Database::connect(self.url()).await.unwrap()
    }
}

impl Replica {
    pub(super) async fn sign_in(&self) -> KnownSignIn {
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

    pub(super) async fn check(&self, sign_in: &KnownSignIn) -> Result<(), Error> {
        let checked = self
            .sessions
            .validate(sign_in.token.expose(), Consistency::MinimizeLatency);
        checked.await.map(|_| ())
    }

    /// Checks a session. Returns the session, and whether it came from the cache.
    pub(super) async fn is_cached(&self, sign_in: &KnownSignIn) -> bool {
        let hits = self.sessions.metrics().hits;
        self.check(sign_in).await.unwrap();
        self.sessions.metrics().hits > hits
    }

    pub(super) async fn assert_invalid(&self, sign_in: &KnownSignIn) {
        let checked = self.check(sign_in).await;
        assert!(matches!(checked, Err(Error::SessionInvalid)), "{checked:?}");
    }
}

/// Returns a user with a session of one day. Users with different numbers share no slot of the fence.
pub(super) fn user_with_session(number: u32, now: Timestamp) -> (User, Session) {
    let user = User {
        id: UserId(Uuid::from_u128(number.into())),
        ..User::new(
            PhoneNumber::parse(&format!("+99890{number:07}"), None).unwrap(),
            now,
        )
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
