//! A change of a user's password by the operator at the command line.

use super::Accounts;
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::password::Password;
use crate::domain::user::UserId;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::passwords::{Claim, NewHash};
use crate::service::unit_of_work::TransactionEnd;
use crate::store::sessions::Selection;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, sessions, users};

impl Accounts {
    /// Sets a user's password and ends the user's sessions. Returns whether the user exists.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the password policy rejects the password; [`Error::Overloaded`];
    /// [`Error::DatabaseUnavailable`].
    pub async fn change_password(&self, id: UserId, password: Password) -> Result<bool, Error> {
        let Some(account) = users::find(self.work.store().reader(), id).await? else {
            return Ok(false);
        };
        let new = NewHash {
            flow: Flow::operator(),
            field: "password",
            password,
            phones: &[&account.user.phone_number],
        };
        let claim = Claim::unlimited(self.work.throttle());
        let (hash, _) = self.passwords.hash(claim, new).await?;
        let this = self.clone();
        self.work
            .finish(async move { this.commit_password(id, hash).await })
            .await
    }

    async fn commit_password(&self, id: UserId, hash: String) -> Result<bool, Error> {
        let now = self.work.now();
        let change = UserChange {
            password_hash: Some(hash),
            ..UserChange::default()
        };
        self.work
            .transact(|tx, _| Box::pin(write_password(tx, id, &change, now)))
            .await
    }
}

async fn write_password(
    tx: &Transaction,
    id: UserId,
    change: &UserChange,
    now: Timestamp,
) -> Result<TransactionEnd<bool>, Error> {
    if users::lock(tx, id).await?.is_none() {
        return Ok(TransactionEnd::Rollback(false));
    }
    users::update(tx, id, change, now).await?;
    let draft = AuditDraft {
        subject: Some(id),
        fields: vec![Field::Password],
        ended_sessions: Some(sessions::delete(tx, id, &Selection::All).await?),
        ..AuditDraft::by_operator(Action::ChangePassword)
    };
    audit::insert(tx, &draft.done(now)).await?;
    Ok(TransactionEnd::commit_change_of(id, true))
}
