//! Session checks: finds the session of a token, and ends sessions.
//!
//! A check is answered from the cache if that is as reliable as the database: see `revocation::fence`. All other checks
//! query the database, with many checks per query.

mod background;
mod cache;
mod last_seen;
mod lookup;
pub(in crate::service) mod metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use cache::KnownSession;
pub use metrics::{Metrics, SessionSnapshot};

use super::error::{Error, chain};
use super::retry::retry;
use super::revocation::ChangeLog;
use super::revocation::fence::Fence;
use crate::clock::{Clock, Timestamp};
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft};
use crate::domain::session::{Lifetimes, Session};
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::store::changes::RevocationChange;
use crate::store::sessions::Selection;
use crate::store::{self, Store, sessions, users};
use cache::Cache;
use last_seen::LastSeen;
use lookup::Lookups;

/// Maximum delay of `last_seen_at`. A session in use costs one write a minute instead of one a call.
const LAST_SEEN_GRANULARITY: Duration = Duration::from_secs(60);

/// Permitted staleness of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consistency {
    /// At most the staleness bound.
    MinimizeLatency,
    /// None.
    Strong,
}

/// Settings of session checks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lifetimes of sessions.
    pub lifetimes: Lifetimes,
    /// Maximum number of cached sessions.
    pub cache_capacity: usize,
    /// Maximum number of concurrent look-up queries.
    pub lookup_queries: usize,
    /// Interval between two readings of the change log.
    pub change_log_interval: Duration,
    /// Timeout of one reading of the change log: shorter than the staleness bound.
    pub change_log_timeout: Duration,
    /// Interval of the housekeeping.
    pub cleanup_interval: Duration,
    /// Retention of audit events.
    pub audit_retention: Duration,
}

/// An authenticated user with a valid session.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The user.
    pub user: User,
    /// The session.
    pub session: Session,
    /// The calling service.
    pub caller: Caller,
}

/// Checks, lists and ends sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<SessionsState>);

struct SessionsState {
    store: Store,
    clock: Arc<dyn Clock>,
    options: Options,
    changes: ChangeLog,
    fence: Arc<Fence>,
    cache: Cache,
    lookups: Lookups,
    last_seen: LastSeen,
    metrics: Metrics,
}

impl Sessions {
    /// Creates the session checks of this store. The cache answers only while [`Self::run_background`] runs.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, options: Options, changes: ChangeLog) -> Self {
        let fence = changes.fence().clone();
        let lookups = Lookups::start(
            store.clone(),
            clock.clone(),
            fence.clone(),
            options.lookup_queries,
        );
        let metrics = Metrics::default();
        Self(Arc::new(SessionsState {
            store,
            clock,
            options,
            changes,
            fence,
            cache: Cache::new(options.cache_capacity, metrics.rare().clone()),
            lookups,
            last_seen: LastSeen::default(),
            metrics,
        }))
    }

    /// Lifetimes of sessions.
    #[must_use]
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.0.options.lifetimes
    }

    /// Counters since the start.
    #[must_use]
    pub fn metrics(&self) -> SessionSnapshot {
        let SessionsState {
            metrics,
            cache,
            fence,
            clock,
            ..
        } = self.0.as_ref();
        metrics.snapshot(cache.len(), fence.known_until(), clock.since_boot())
    }

    /// Returns the session of a token and records its use.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`]: the token is malformed, unknown or revoked, or its user is deactivated.
    /// [`Error::SessionExpired`]: the session has reached its absolute or idle lifetime.
    /// [`Error::DatabaseUnavailable`]: the database has to be queried and does not answer. [`Error::Overloaded`]: the
    /// look-up queue is full.
    pub async fn validate(&self, token: &str, consistency: Consistency) -> Result<Arc<KnownSession>, Error> {
        let token = TokenHash::of(token).map_err(|_| Error::SessionInvalid)?;
        match consistency {
            Consistency::MinimizeLatency => {
                if let Some(outcome) = self.find_in_cache(&token) {
                    self.0.metrics.hit();
                    return outcome;
                }
                self.0.metrics.miss();
            }
            Consistency::Strong => self.0.metrics.strong(),
        }
        self.find_in_database(token).await
    }

    /// As [`Self::validate`], with [`Consistency::Strong`], for requests of the user beyond the check itself.
    ///
    /// # Errors
    /// Those of [`Self::validate`].
    pub async fn actor(&self, token: &str, caller: Caller) -> Result<Actor, Error> {
        let known = self.validate(token, Consistency::Strong).await?;
        Ok(Actor {
            user: known.user().clone(),
            session: Session {
                last_seen_at: known.last_seen_at(),
                ..known.session().clone()
            },
            caller,
        })
    }

    /// `None`: the database has to be queried.
    fn find_in_cache(&self, token: &TokenHash) -> Option<Result<Arc<KnownSession>, Error>> {
        let SessionsState { fence, clock, .. } = self.0.as_ref();
        // The order matters: first the known time, then the cached answer, then the current time. See
        // `revocation::fence`.
        let known_until = fence.known_until();
        let known = self.0.cache.get(token)?;
        if !fence.is_current(known.version(), known.user().id, token)
            || !fence.is_recent(known_until, clock.since_boot())
        {
            return None;
        }
        let now = clock.now();
        // A look-up in the database corrects the time.
        if known.session().is_ahead_if_seen(known.last_seen_at(), now) {
            return None;
        }
        match self.judge(&known, now) {
            Ok(()) => {
                self.note_use(&known, now);
                Some(Ok(known))
            }
            // Another replica may have recorded a later use.
            Err(Error::SessionExpired) if now < known.session().expires_at => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn find_in_database(&self, token: TokenHash) -> Result<Arc<KnownSession>, Error> {
        let mut found = self.0.lookups.find(token).await?;
        if let Some(known) = &found
            && known.session().is_ahead(self.0.clock.now())
        {
            // Boxed because it is rare and would enlarge the future of every check.
            Box::pin(self.correct(known.session())).await;
            found = self.0.lookups.find(token).await?;
        }
        let Some(known) = found else {
            self.0.cache.remove(&token);
            return Err(Error::SessionInvalid);
        };
        let now = self.0.clock.now();
        if let Some(seen) = self.0.last_seen.pending(known.session().id, now) {
            known.see(seen);
        }
        if let Err(error) = self.judge(&known, now) {
            self.0.cache.remove(&token);
            return Err(error);
        }
        self.note_use(&known, now);
        self.0.cache.insert(token, known.clone());
        Ok(known)
    }

    /// Corrects the stored times of a session that come from a clock that was ahead. After a failure, the next check
    /// tries again.
    async fn correct(&self, session: &Session) {
        let corrected = session.corrected(self.lifetimes(), self.0.clock.now());
        let writer = self.0.store.writer();
        let written = retry(|| async { Ok(sessions::correct(writer, session, &corrected).await?) });
        if let Err(error) = written.await {
            tracing::warn!(error = chain(&error), "the times of a session were not corrected");
        }
    }

    fn judge(&self, known: &KnownSession, now: Timestamp) -> Result<(), Error> {
        if !known.user().is_active() {
            return Err(Error::SessionInvalid);
        }
        let end = known
            .session()
            .idle_expires_at_if_seen(known.last_seen_at(), self.lifetimes());
        if now >= end {
            return Err(Error::SessionExpired);
        }
        Ok(())
    }

    fn note_use(&self, known: &KnownSession, now: Timestamp) {
        // A session with a shorter idle lifetime must not end while it is in use.
        let granularity = LAST_SEEN_GRANULARITY.min(self.0.options.lifetimes.idle / 10);
        if now >= known.last_seen_at() + granularity && known.see(now) {
            self.0.last_seen.note(known.session().id, now);
        }
    }

    /// Returns the live sessions of the actor, the newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(&self, actor: &Actor) -> Result<Vec<Session>, Error> {
        let now = self.0.clock.now();
        let mut sessions = sessions::list(self.0.store.reader(), actor.user.id).await?;
        for session in &mut sessions {
            if let Some(seen) = self.0.last_seen.pending(session.id, now) {
                session.last_seen_at = seen.max(session.last_seen_at);
            }
        }
        sessions.retain(|session| session.is_live(self.lifetimes(), now));
        Ok(sessions)
    }

    /// Ends the session of a token. An unknown, expired or revoked session is not an error.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`]: the token is malformed. The session that it was meant to end may still be valid.
    pub async fn revoke(&self, token: &str, caller: Caller) -> Result<(), Error> {
        let token = TokenHash::of(token).map_err(|_| Error::SessionInvalid)?;
        let outcome = self.delete(&token, caller).await;
        // Invalidates even if the session was not found: another replica, or a call that has lost its caller, may have
        // revoked it.
        self.0.fence.forget_token(&token);
        outcome
    }

    async fn delete(&self, token: &TokenHash, caller: Caller) -> Result<(), Error> {
        let store = &self.0.store;
        let Some(found) = sessions::find(store.reader(), token).await? else {
            return Ok(());
        };
        let (session, user) = (found.id, found.user_id);
        let draft = AuditDraft::by_user(Action::RevokeSession, user, session, found.client, caller);
        retry(|| async {
            let tx = store.begin().await?;
            if !sessions::delete_one(&tx, session).await? {
                return Ok(());
            }
            store::audit::insert(&tx, &draft.done(self.0.clock.now())).await?;
            let change = RevocationChange::SessionRevoked { user, session };
            Ok(self.0.changes.commit(tx, &[change]).await?)
        })
        .await
    }

    /// Ends the selected sessions of the actor and returns their number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke_selected(&self, actor: &Actor, selection: Selection) -> Result<u64, Error> {
        let user = actor.user.id;
        retry(|| async {
            let tx = self.0.store.begin().await?;
            // The lock prevents two calls for one user from locking the sessions in different orders.
            users::lock(&tx, user).await?;
            let revoked = sessions::delete(&tx, user, &selection).await?;
            if revoked == 0 {
                // Another replica, or a call that has lost its caller, may have revoked them.
                self.0.fence.forget(user);
                return Ok(0);
            }
            let mut draft = actor.draft(Action::RevokeSessions);
            draft.ended_sessions = Some(revoked);
            store::audit::insert(&tx, &draft.done(self.0.clock.now())).await?;
            let change = RevocationChange::SessionsRevoked { user };
            self.0.changes.commit(tx, &[change]).await?;
            Ok(revoked)
        })
        .await
    }
}
