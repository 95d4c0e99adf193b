//! Revocation of sessions and deletion of a user by an administrator.

use super::{Admin, Administrator};
use crate::clock::Timestamp;
use crate::domain::rights::AdminAction;
use crate::domain::user::UserId;
use crate::service::accounts::keep_a_superuser;
use crate::service::audit::erase;
use crate::service::error::Error;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::changes::RevocationChange;
use crate::store::sessions::Selection;
use crate::store::{Transaction, audit, sessions, users};

impl Admin {
    /// Revokes all sessions of a user, and returns their number. Device tokens and one-time codes that were issued
    /// before end, too.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::ReauthenticationRequired`]; [`Error::NotStaff`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn revoke_sessions(&self, by: &Administrator, id: UserId) -> Result<u64, Error> {
        by.may(AdminAction::RevokeSessions)?;
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_revocation(tx, by, id, now)))
            .await;
        self.audited(by, AdminAction::RevokeSessions, Some(id), outcome)
            .await
    }

    async fn write_revocation(
        &self,
        tx: &Transaction,
        by: &Administrator,
        id: UserId,
        now: Timestamp,
    ) -> Result<TransactionEnd<u64>, Error> {
        self.lock_one(tx, by, AdminAction::RevokeSessions, id).await?;
        users::end_credentials(tx, id).await?;
        let revoked = sessions::delete(tx, id, &Selection::All).await?;
        // Also without sessions: codes and device tokens ended.
        if let Some(mut draft) = by.draft(AdminAction::RevokeSessions, Some(id)) {
            draft.ended_sessions = Some(revoked);
            audit::insert(tx, &draft.done(now)).await?;
        }
        // Also without sessions: another replica may have revoked them, and this process not have read that yet.
        let change = RevocationChange::SessionsRevoked { user: id };
        Ok(TransactionEnd::commit_with(vec![change], revoked))
    }

    /// Deletes a user and all that is stored about the user. In the audit log a substitute id stands in the user's
    /// place, unless the user is staff or a superuser.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::LastSuperuser`], [`Error::ReauthenticationRequired`]; [`Error::NotStaff`],
    /// [`Error::NotSuperuser`]; [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn delete(&self, by: &Administrator, id: UserId) -> Result<(), Error> {
        by.may(AdminAction::Delete)?;
        let now = self.work.now();
        let substitute = UserId::generate(now);
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_deletion(tx, by, id, substitute, now)))
            .await;
        self.audited(by, AdminAction::Delete, Some(id), outcome).await
    }

    async fn write_deletion(
        &self,
        tx: &Transaction,
        by: &Administrator,
        id: UserId,
        substitute: UserId,
        now: Timestamp,
    ) -> Result<TransactionEnd<()>, Error> {
        let (_, account) = self.lock_one(tx, by, AdminAction::Delete, id).await?;
        keep_a_superuser(tx, &account.user).await?;
        users::delete(tx, &account.user).await?;
        erase(tx, &account.user, substitute, now).await?;
        if let Some(draft) = by.deletion(&account.user, substitute) {
            audit::insert(tx, &draft.done(now)).await?;
        }
        let change = RevocationChange::UserDeleted { user: id };
        Ok(TransactionEnd::commit_with(vec![change], ()))
    }
}
