//! Verification of the phone number of an account by a code.

use super::Codes;
use super::redeem::{CodeSubmission, RedeemedChallenge};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft};
use crate::domain::code::Purpose;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::sessions::Actor;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, audit, users};

/// A verification with a right code, to be committed.
struct PhoneVerification {
    actor: Actor,
    redeemed: RedeemedChallenge,
    draft: AuditDraft,
}

impl Codes {
    /// Marks the number of the actor's user as verified.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::SessionInvalid`] when the session ended meanwhile; [`Error::TooManyAttempts`].
    pub async fn verify_phone(&self, actor: Actor, submission: CodeSubmission) -> Result<User, Error> {
        let mut draft = actor.draft(Action::VerifyPhone);
        let redeemed = self
            .redeem_of_actor(Purpose::VerifyPhone, &actor, &submission, &mut draft)
            .await?;
        let verification = PhoneVerification {
            actor,
            redeemed,
            draft,
        };
        let this = self.clone();
        self.work
            .finish(async move {
                let now = this.work.now();
                let outcome = verification.redeemed.counted(
                    this.work
                        .transact(|tx, _| Box::pin(this.write_verification(tx, &verification, now)))
                        .await,
                );
                this.work.audit().refused(&verification.draft, outcome).await
            })
            .await
    }

    async fn write_verification(
        &self,
        tx: &Transaction,
        verification: &PhoneVerification,
        now: Timestamp,
    ) -> Result<TransactionEnd<User>, Error> {
        let PhoneVerification {
            actor,
            redeemed,
            draft,
        } = verification;
        let account = self.reauthentication.lock_actor(tx, actor).await?;
        redeemed.check_account(&account)?;
        redeemed.delete(tx, now).await?;
        let id = account.user.id;
        users::verify_phones(tx, &[id], now).await?;
        audit::insert(tx, &draft.done(now)).await?;
        let throttle = self.work.throttle();
        throttle.give_back_in(tx, &redeemed.reservation).await?;
        let user = User {
            phone_verified_at: Some(now),
            updated_at: now,
            ..account.user
        };
        Ok(TransactionEnd::commit_change_of(id, user))
    }
}
