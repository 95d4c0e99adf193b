//! The check engine: whose session a token is, and ending sessions.
//!
//! A check is answered from memory where that is as good as asking the database: see `freshness`. Everything else asks
//! the database, many with one query.

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

/// How far `last_seen_at` may lag behind, so that a busy session costs a write a minute and not one a call.
const LAST_SEEN_GRANULARITY: Duration = Duration::from_secs(60);

/// How much older than the newest an answer may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consistency {
    /// By the staleness bound.
    MinimizeLatency,
    /// Not at all.
    Strong,
}

/// The settings of the check engine.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long sessions live.
    pub lifetimes: Lifetimes,
    /// The most sessions that are kept in memory.
    pub cache_capacity: usize,
    /// How many queries look sessions up at a time.
    pub lookup_queries: usize,
    /// How often the change log is read.
    pub change_log_interval: Duration,
    /// The longest that one reading of the change log may take: less than the staleness bound.
    pub change_log_patience: Duration,
    /// How often what has ended is removed.
    pub cleanup_interval: Duration,
    /// How long events stay in the audit log.
    pub audit_retention: Duration,
}

/// Somebody who has shown a good session token.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The person.
    pub user: User,
    /// The session.
    pub session: Session,
    /// The service that they go through.
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
    freshness: Arc<Fence>,
    cache: Cache,
    lookups: Lookups,
    last_seen: LastSeen,
    metrics: Metrics,
}

impl Sessions {
    /// Sessions in this store. What is answered from memory begins with [`Self::run_background`].
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, options: Options, changes: ChangeLog) -> Self {
        let freshness = changes.freshness().clone();
        let lookups = Lookups::start(
            store.clone(),
            clock.clone(),
            freshness.clone(),
            options.lookup_queries,
        );
        let metrics = Metrics::default();
        Self(Arc::new(SessionsState {
            store,
            clock,
            options,
            changes,
            freshness,
            cache: Cache::new(options.cache_capacity, metrics.seldom().clone()),
            lookups,
            last_seen: LastSeen::default(),
            metrics,
        }))
    }

    /// How long sessions live.
    #[must_use]
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.0.options.lifetimes
    }

    /// What was counted since the start.
    #[must_use]
    pub fn metrics(&self) -> SessionSnapshot {
        let SessionsState {
            metrics,
            cache,
            freshness,
            clock,
            ..
        } = self.0.as_ref();
        metrics.snapshot(cache.len(), freshness.known_until(), clock.since_boot())
    }

    /// Says whose session a token is, and notes that it was used.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`] when it is malformed, unknown, revoked, or of somebody deactivated;
    /// [`Error::SessionExpired`] when it is past a lifetime; [`Error::DatabaseUnavailable`] when it has to be looked up
    /// and cannot be; [`Error::Overloaded`].
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

    /// As [`Self::validate`], for somebody who asks for more than whose session it is: by the database of now.
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

    /// `None`: the database has to be asked.
    fn find_in_cache(&self, token: &TokenHash) -> Option<Result<Arc<KnownSession>, Error>> {
        let SessionsState { freshness, clock, .. } = self.0.as_ref();
        // In this order: until when all is known, then the answer, then what time it is. See `freshness`.
        let known_until = freshness.known_until();
        let known = self.0.cache.get(token)?;
        if !freshness.is_current(known.position(), known.user().id, token)
            || !freshness.is_recent(known_until, clock.since_boot())
        {
            return None;
        }
        let now = clock.now();
        // A lookup in the database corrects it.
        if known.session().is_ahead_if_seen(known.last_seen_at(), now) {
            return None;
        }
        match self.judge(&known, now) {
            Ok(()) => {
                self.note_use(&known, now);
                Some(Ok(known))
            }
            // Another replica may have seen it used since.
            Err(Error::SessionExpired) if now < known.session().expires_at => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn find_in_database(&self, token: TokenHash) -> Result<Arc<KnownSession>, Error> {
        let mut found = self.0.lookups.find(token).await?;
        if let Some(known) = &found
            && known.session().is_ahead(self.0.clock.now())
        {
            // Boxed: it is rare, and would make the future of every check larger.
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

    /// Corrects the stored times of a session that come from a clock that was ahead. After a failure the next check
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
        // A session that lives shorter must not end while it is used.
        let granularity = LAST_SEEN_GRANULARITY.min(self.0.options.lifetimes.idle / 10);
        if now >= known.last_seen_at() + granularity && known.see(now) {
            self.0.last_seen.note(known.session().id, now);
        }
    }

    /// The live sessions of the actor's person, the newest first.
    ///
    /// # Errors
    /// When the database fails.
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

    /// Ends the session of a token. One that is unknown, expired or revoked already is no error.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`] when the token is malformed: the session it was meant to end may be alive.
    pub async fn revoke(&self, token: &str, caller: Caller) -> Result<(), Error> {
        let token = TokenHash::of(token).map_err(|_| Error::SessionInvalid)?;
        let outcome = self.delete(&token, caller).await;
        // Also when it was not there: it may have been revoked elsewhere, or by a call that nobody waited for.
        self.0.freshness.forget_token(&token);
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

    /// Ends sessions of the actor's person, and says how many it were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_selected(&self, actor: &Actor, selection: Selection) -> Result<u64, Error> {
        let user = actor.user.id;
        retry(|| async {
            let tx = self.0.store.begin().await?;
            // Two who end sessions of one person would lock them in any order.
            users::lock(&tx, user).await?;
            let revoked = sessions::delete(&tx, user, &selection).await?;
            if revoked == 0 {
                // They may have been revoked elsewhere, or by a call that nobody waited for.
                self.0.freshness.forget(user);
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
