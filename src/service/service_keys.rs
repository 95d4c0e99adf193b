//! The keys by which calling services prove who they are: making, listing and revoking them, and knowing those that are
//! good ([`Keyring`]).

mod keyring;

use std::sync::Arc;

pub use keyring::Keyring;

use super::error::Error;
use super::retry::retry;
use crate::clock::Clock;
use crate::domain::access::{Rights, ServiceKey, ServiceKeyId, ServiceName};
use crate::domain::audit::{Action, AuditDraft, EventActor};
use crate::domain::token::PlainToken;
use crate::store::{Store, audit, service_keys};

/// The most keys that may be good at a time: all of them are in memory, and are read again and again.
pub const MAX_LIVE: u64 = 1000;

/// The most keys of a page.
pub const MAX_PAGE: u64 = 1000;

/// Makes, lists and revokes service keys, for the operator at the command line.
pub struct ServiceKeys {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl ServiceKeys {
    /// The keys of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes a key, which is told here only. `None`: there are [`MAX_LIVE`] already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create(
        &self,
        name: ServiceName,
        rights: Rights,
    ) -> Result<Option<(PlainToken, ServiceKey)>, Error> {
        let now = self.clock.now();
        let token = PlainToken::generate_for_service()?;
        let key = ServiceKey {
            id: ServiceKeyId::generate(now),
            name,
            rights,
            created_at: now,
            revoked_at: None,
        };
        let event = attempt(Action::CreateServiceKey, &key).done(now);
        let is_made = retry(|| async {
            let tx = self.store.begin().await?;
            if service_keys::count_live(&tx).await? >= MAX_LIVE {
                return Ok(false);
            }
            service_keys::insert(&tx, &key, &token.hash(), EventActor::Operator).await?;
            audit::insert(&tx, &event).await?;
            tx.commit().await?;
            Ok(true)
        });
        Ok(is_made.await?.then_some((token, key)))
    }

    /// Lists keys, revoked ones, too, in the order in which they were made, from the one after `after` on; [`MAX_PAGE`]
    /// at most.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, after: Option<ServiceKeyId>) -> Result<Vec<ServiceKey>, Error> {
        Ok(service_keys::list(self.store.reader(), after, MAX_PAGE).await?)
    }

    /// Revokes a key. One that was revoked before is as it was. `None`: there is no such key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke(&self, id: ServiceKeyId) -> Result<Option<ServiceKey>, Error> {
        let now = self.clock.now();
        retry(|| async {
            let tx = self.store.begin().await?;
            let is_new = service_keys::revoke(&tx, id, now).await?;
            let Some(key) = service_keys::find(&tx, id).await? else {
                return Ok(None);
            };
            if is_new {
                audit::insert(&tx, &attempt(Action::RevokeServiceKey, &key).done(now)).await?;
            }
            tx.commit().await?;
            Ok(Some(key))
        })
        .await
    }

    /// Closes the database.
    ///
    /// # Errors
    /// When it cannot be closed.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.store.close().await?)
    }
}

/// What the operator does to a key. The service of the event is the one whose key it is.
fn attempt(action: Action, key: &ServiceKey) -> AuditDraft {
    let mut attempt = AuditDraft::by_operator(action);
    attempt.caller.service = Some(key.name.as_str().into());
    attempt
}
