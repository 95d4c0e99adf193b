//! The check engine: whose session a token is, and ending sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Clock;
use crate::domain::session::{Lifetimes, Session};
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::error::{Error, chain};
use crate::store::sessions::Selection;
use crate::store::{Store, sessions};

/// How far `last_seen_at` may lag behind, so that a busy session costs a write a minute and not one a call.
const LAST_SEEN_GRANULARITY: Duration = Duration::from_secs(60);

/// How long a check waits to write `last_seen_at` while others write. It is a check, and must not stand in their line.
const LAST_SEEN_PATIENCE: Duration = Duration::from_millis(250);

/// Somebody who has shown a good session token.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The person.
    pub user: User,
    /// The session.
    pub session: Session,
}

/// Checks, lists and ends sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    store: Store,
    clock: Arc<dyn Clock>,
    lifetimes: Lifetimes,
}

impl Sessions {
    /// Sessions in this store, with these lifetimes.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, lifetimes: Lifetimes) -> Self {
        Self {
            store,
            clock,
            lifetimes,
        }
    }

    /// How long sessions live.
    #[must_use]
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// Says whose session a token is, and notes that it was used.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`] when it is malformed, unknown, revoked, or of somebody deactivated;
    /// [`Error::SessionExpired`] when it is past a lifetime.
    pub async fn validate(&self, token: &str) -> Result<Actor, Error> {
        let token = TokenHash::of(token).map_err(|_| Error::SessionInvalid)?;
        let found = sessions::find_with_user(self.store.reader(), &token).await?;
        let Some((mut session, user)) = found.filter(|(_, user)| user.is_active()) else {
            return Err(Error::SessionInvalid);
        };
        let now = self.clock.now();
        if !session.is_live(&self.lifetimes, now) {
            return Err(Error::SessionExpired);
        }
        if now >= session.last_seen_at + LAST_SEEN_GRANULARITY {
            let written = sessions::set_last_seen(self.store.writer(), session.id, now);
            match timeout(LAST_SEEN_PATIENCE, written).await {
                Ok(Ok(())) => session.last_seen_at = now,
                // The session is good all the same; the next call tries again.
                Ok(Err(error)) => tracing::warn!(error = chain(&error), "last_seen_at not written"),
                Err(_) => tracing::debug!("last_seen_at not written: others write"),
            }
        }
        Ok(Actor { user, session })
    }

    /// The live sessions of the actor's person, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, actor: &Actor) -> Result<Vec<Session>, Error> {
        let now = self.clock.now();
        let mut sessions = sessions::list(self.store.reader(), actor.user.id).await?;
        sessions.retain(|session| session.is_live(&self.lifetimes, now));
        Ok(sessions)
    }

    /// Ends the session of a token. One that is unknown, expired or revoked already is no error.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`] when the token is malformed: the session it was meant to end may be alive.
    pub async fn revoke(&self, token: &str) -> Result<(), Error> {
        let token = TokenHash::of(token).map_err(|_| Error::SessionInvalid)?;
        Ok(sessions::delete_by_token(self.store.writer(), &token).await?)
    }

    /// Ends sessions of the actor's person, and says how many it were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_selected(&self, actor: &Actor, selection: Selection) -> Result<u64, Error> {
        Ok(sessions::delete(self.store.writer(), actor.user.id, selection).await?)
    }
}
