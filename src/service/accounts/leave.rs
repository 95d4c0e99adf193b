//! Deactivation and deletion of an account by its user.

use super::update_profile::keep_take_over;
use super::{Accounts, keep_a_superuser};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::password::Password;
use crate::domain::user::{UserId, UserStatus};
use crate::service::audit::erase;
use crate::service::error::Error;
use crate::service::reauthentication::Proof;
use crate::service::sessions::Actor;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::changes::RevocationChange;
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{Transaction, audit, sessions, users};

/// A proven user who leaves.
struct Departure {
    actor: Actor,
    proof: Proof,
    draft: AuditDraft,
}

impl Accounts {
    /// Deactivates the actor's user and ends all sessions of the user.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`], [`Error::ReauthenticationRequired`], [`Error::LastSuperuser`],
    /// [`Error::SessionInvalid`] when the session ended meanwhile, [`Error::TooManyAttempts`], [`Error::Overloaded`].
    pub async fn deactivate_profile(
        &self,
        actor: Actor,
        current_password: Option<Password>,
    ) -> Result<(), Error> {
        let mut draft = actor.draft(Action::DeactivateProfile);
        draft.fields = vec![Field::Status];
        let departure = self.prove_departure(actor, current_password, draft).await?;
        let this = self.clone();
        self.work
            .finish(async move {
                let now = this.work.now();
                let outcome = this
                    .work
                    .transact(|tx, _| Box::pin(this.write_deactivation(tx, &departure, now)))
                    .await;
                this.work.audit().refused(&departure.draft, outcome).await
            })
            .await
    }

    /// Deletes the actor's user and all that is stored about the user. In the audit log a substitute id stands in the
    /// user's place, unless the user is staff or a superuser.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`], [`Error::ReauthenticationRequired`], [`Error::LastSuperuser`],
    /// [`Error::SessionInvalid`] when the session ended meanwhile, [`Error::TooManyAttempts`], [`Error::Overloaded`].
    pub async fn delete_profile(
        &self,
        actor: Actor,
        current_password: Option<Password>,
    ) -> Result<(), Error> {
        let draft = actor.draft(Action::DeleteProfile);
        let departure = self.prove_departure(actor, current_password, draft).await?;
        let this = self.clone();
        self.work
            .finish(async move {
                let now = this.work.now();
                let substitute = UserId::generate(now);
                let outcome = this
                    .work
                    .transact(|tx, _| Box::pin(this.write_deletion(tx, &departure, substitute, now)))
                    .await;
                this.work.audit().refused(&departure.draft, outcome).await
            })
            .await
    }

    async fn prove_departure(
        &self,
        actor: Actor,
        current_password: Option<Password>,
        draft: AuditDraft,
    ) -> Result<Departure, Error> {
        let proof = self
            .reauthentication
            .prove(&actor, current_password, &draft)
            .await?;
        Ok(Departure { actor, proof, draft })
    }

    async fn write_deactivation(
        &self,
        tx: &Transaction,
        departure: &Departure,
        now: Timestamp,
    ) -> Result<TransactionEnd<()>, Error> {
        let id = self.lock_leaving_actor(tx, departure).await?.user.id;
        let change = UserChange {
            status: Some(UserStatus::Deactivated),
            ..UserChange::default()
        };
        users::update(tx, id, &change, now).await?;
        let changed = users::find(tx, id).await?.ok_or(Error::SessionInvalid)?;
        keep_take_over(tx, &changed).await?;
        let mut draft = departure.draft.clone();
        draft.ended_sessions = Some(sessions::delete(tx, id, &Selection::All).await?);
        audit::insert(tx, &draft.done(now)).await?;
        Ok(TransactionEnd::commit_change_of(id, ()))
    }

    async fn write_deletion(
        &self,
        tx: &Transaction,
        departure: &Departure,
        substitute: UserId,
        now: Timestamp,
    ) -> Result<TransactionEnd<()>, Error> {
        let user = self.lock_leaving_actor(tx, departure).await?.user;
        users::delete(tx, &user).await?;
        erase(tx, &user, substitute, now).await?;
        let draft = departure.draft.clone();
        let draft = if user.is_privileged() {
            draft
        } else {
            draft.of_somebody(substitute)
        };
        audit::insert(tx, &draft.done(now)).await?;
        let deleted = RevocationChange::UserDeleted { user: user.id };
        Ok(TransactionEnd::commit_with(vec![deleted], ()))
    }

    /// Locks the actor's row and checks the proof again. The last active superuser must not leave.
    async fn lock_leaving_actor(&self, tx: &Transaction, departure: &Departure) -> Result<Account, Error> {
        let Departure { actor, proof, .. } = departure;
        let account = self.reauthentication.lock_proven_actor(tx, actor, proof).await?;
        keep_a_superuser(tx, &account.user).await?;
        Ok(account)
    }
}
