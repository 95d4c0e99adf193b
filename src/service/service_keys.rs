//! Service keys, which authenticate calling services: create, list, revoke, and the set of valid keys ([`Keyring`]).

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

/// Maximum number of valid keys: all of them are in memory and are read periodically.
pub const MAX_LIVE: u64 = 1000;

/// Maximum number of keys in a page.
pub const MAX_PAGE: u64 = 1000;

/// Creates, lists and revokes service keys, for the operator at the command line.
pub struct ServiceKeys {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl ServiceKeys {
    /// Creates the service of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Creates a key. Only this call returns its token. `None`: there are already [`MAX_LIVE`] valid keys.
    ///
    /// # Errors
    /// The database fails.
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
        let event = draft(Action::CreateServiceKey, &key).done(now);
        let is_created = retry(|| async {
            let tx = self.store.begin().await?;
            if service_keys::count_live(&tx).await? >= MAX_LIVE {
                return Ok(false);
            }
            service_keys::insert(&tx, &key, &token.hash(), EventActor::Operator).await?;
            audit::insert(&tx, &event).await?;
            tx.commit().await?;
            Ok(true)
        });
        Ok(is_created.await?.then_some((token, key)))
    }

    /// Lists keys after `after`, at most [`MAX_PAGE`], in order of creation, including revoked keys.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(&self, after: Option<ServiceKeyId>) -> Result<Vec<ServiceKey>, Error> {
        Ok(service_keys::list(self.store.reader(), after, MAX_PAGE).await?)
    }

    /// Revokes a key. A key that was already revoked is returned unchanged. `None`: there is no such key.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke(&self, id: ServiceKeyId) -> Result<Option<ServiceKey>, Error> {
        let now = self.clock.now();
        retry(|| async {
            let tx = self.store.begin().await?;
            let is_new = service_keys::revoke(&tx, id, now).await?;
            let Some(key) = service_keys::find(&tx, id).await? else {
                return Ok(None);
            };
            if is_new {
                audit::insert(&tx, &draft(Action::RevokeServiceKey, &key).done(now)).await?;
            }
            tx.commit().await?;
            Ok(Some(key))
        })
        .await
    }

    /// Closes the database.
    ///
    /// # Errors
    /// The database cannot be closed.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.store.close().await?)
    }
}

/// Draft of the audit event of an operator's action on a key. The service of the event is the owner of the key.
fn draft(action: Action, key: &ServiceKey) -> AuditDraft {
    let mut draft = AuditDraft::by_operator(action);
    draft.caller.service = Some(key.name.as_str().into());
    draft
}
