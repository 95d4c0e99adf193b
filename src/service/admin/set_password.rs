//! Passwords that an administrator sets.

use super::{Admin, Administrator, ManagedUser, UserSelector, found};
use crate::clock::Timestamp;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::rights::AdminAction;
use crate::domain::user::UserId;
use crate::service::audit::fields_of;
use crate::service::error::Error;
use crate::service::passwords::{Claim, NewHash};
use crate::service::unit_of_work::TransactionEnd;
use crate::store::sessions::Selection;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, sessions, users};

impl Admin {
    /// Sets the password of a user, and ends all sessions of the user.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::ReauthenticationRequired`], [`Error::Overloaded`]; [`Error::InvalidInput`]
    /// when the password policy rejects the password; [`Error::NotStaff`], [`Error::NotSuperuser`];
    /// [`Error::TooManyAttempts`] from the administrator's address; [`Error::SessionInvalid`] when the administrator's
    /// session ended meanwhile.
    pub async fn set_password(
        &self,
        by: Administrator,
        id: UserId,
        password: Password,
    ) -> Result<ManagedUser, Error> {
        // The policy depends on the number.
        let managed = self
            .get(&by, AdminAction::SetPassword, &UserSelector::Id(id))
            .await?;
        let number = &managed.user.phone_number;
        let hash = self.hash(&by, "new_password", password, number).await?;
        let this = self.clone();
        self.work
            .finish(async move { this.commit_password(by, id, hash).await })
            .await
    }

    async fn commit_password(
        &self,
        by: Administrator,
        id: UserId,
        hash: String,
    ) -> Result<ManagedUser, Error> {
        let now = self.work.now();
        let change = UserChange {
            password_hash: Some(hash),
            ..UserChange::default()
        };
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_password(tx, &by, id, &change, now)))
            .await;
        self.audited(&by, AdminAction::SetPassword, Some(id), outcome)
            .await
    }

    async fn write_password(
        &self,
        tx: &Transaction,
        by: &Administrator,
        id: UserId,
        change: &UserChange,
        now: Timestamp,
    ) -> Result<TransactionEnd<ManagedUser>, Error> {
        self.lock_one(tx, by, AdminAction::SetPassword, id).await?;
        users::update(tx, id, change, now).await?;
        let ended = sessions::delete(tx, id, &Selection::All).await?;
        if let Some(mut draft) = by.draft(AdminAction::SetPassword, Some(id)) {
            draft.fields = fields_of(change);
            draft.ended_sessions = Some(ended);
            audit::insert(tx, &draft.done(now)).await?;
        }
        Ok(TransactionEnd::commit_change_of(id, found(tx, id).await?))
    }

    /// Applies the password policy and hashes, if the limit of the administrator's address allows it. An administrator
    /// guesses nothing, so the attempt does not count afterwards.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the password policy rejects the password; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub(super) async fn hash(
        &self,
        by: &Administrator,
        field: &'static str,
        password: Password,
        number: &PhoneNumber,
    ) -> Result<String, Error> {
        let throttle = self.work.throttle();
        let flow = by.flow();
        let claim = match by.actor() {
            Some(actor) => {
                self.passwords.check_room(flow)?;
                let address = actor.session.client.ip_address;
                let reservation = throttle.reserve(&[], address, &actor.caller).await?;
                Claim::without_success_limit(throttle.guard(reservation))
            }
            None => Claim::unlimited(throttle),
        };
        let new = NewHash {
            flow,
            field,
            password,
            phones: &[number],
        };
        let (hash, reservation) = self.passwords.hash(claim, new).await?;
        throttle.give_back(&reservation).await;
        Ok(hash)
    }
}
