//! Reset of a password by a code.

use super::Codes;
use super::redeem::{CodeSubmission, RedeemedChallenge, lock};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, EventActor, Field};
use crate::domain::code::Purpose;
use crate::domain::password::Password;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::sessions::Selection;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, sessions, users};

/// A reset of a password.
#[derive(Debug)]
pub struct Reset {
    /// The code.
    pub submission: CodeSubmission,
    /// The new password. The password policy was not applied to it yet.
    pub password: Password,
}

/// A reset with a right code and a hashed password, to be committed.
struct HashedReset {
    redeemed: RedeemedChallenge,
    draft: AuditDraft,
    hash: String,
}

impl Codes {
    /// Sets a new password, and ends all sessions and known devices of the user.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`], [`Error::PhoneChangedRecently`] and
    /// [`Error::InvalidInput`] when the password policy rejects the password: these three only with the right code,
    /// which stays valid; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn reset_password(&self, reset: Reset) -> Result<User, Error> {
        let Reset { submission, password } = reset;
        let flow = submission.flow();
        self.passwords.check_room(flow)?;
        let (redeemed, mut draft) = self
            .redeem(Purpose::ResetPassword, Action::ResetPassword, &submission)
            .await?;
        // Before the hash: a code that ended reveals nothing about the new password.
        let current = self.check_current(&redeemed).await;
        self.work.audit().refused(&draft, current).await?;
        let hash = self.hash_for(flow, &redeemed, password).await?;
        draft.fields = vec![Field::Password];
        let reset = HashedReset {
            redeemed,
            draft,
            hash,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_reset(reset).await })
            .await
    }

    async fn commit_reset(&self, reset: HashedReset) -> Result<User, Error> {
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_reset(tx, &reset, now)))
            .await;
        let HashedReset { redeemed, draft, .. } = &reset;
        let outcome = self.give_back_if_code_was_right(outcome, redeemed).await;
        let outcome = redeemed.counted(outcome);
        self.work.audit().refused(draft, outcome).await
    }

    async fn write_reset(
        &self,
        tx: &Transaction,
        reset: &HashedReset,
        now: Timestamp,
    ) -> Result<TransactionEnd<User>, Error> {
        let HashedReset {
            redeemed,
            draft,
            hash,
        } = reset;
        let account = lock(tx, redeemed).await?;
        let id = account.user.id;
        if !account.user.is_active() {
            return Err(Error::AccountDeactivated);
        }
        redeemed.delete(tx, now).await?;
        if let Some(retry_after) = self.reauthentication.phone_change_hold_remaining(&account, now) {
            return Err(Error::PhoneChangedRecently { retry_after });
        }
        let change = UserChange {
            password_hash: Some(hash.clone()),
            ..UserChange::default()
        };
        users::update(tx, id, &change, now).await?;
        if account.user.phone_verified_at.is_none() {
            users::verify_phones(tx, &[id], now).await?;
        }
        let draft = AuditDraft {
            actor: EventActor::User(id),
            ended_sessions: Some(sessions::delete(tx, id, &Selection::All).await?),
            ..draft.clone()
        };
        audit::insert(tx, &draft.done(now)).await?;
        let throttle = self.work.throttle();
        throttle.give_back_in(tx, &redeemed.reservation).await?;
        let user = User {
            has_password: true,
            phone_verified_at: account.user.phone_verified_at.or(Some(now)),
            updated_at: now,
            ..account.user
        };
        Ok(TransactionEnd::commit_change_of(id, user))
    }
}
