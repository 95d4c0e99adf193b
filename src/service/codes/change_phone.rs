//! Change of the phone number of an account to a number that a code verifies.

use std::net::IpAddr;

use super::Codes;
use super::limits::{Asker, MessageRequest};
use super::redeem::{CodeSubmission, RedeemedChallenge};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::code::{Challenge, Purpose};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::User;
use crate::i18n::Language;
use crate::service::error::Error;
use crate::service::outbox::phone_changed;
use crate::service::reauthentication::Proof;
use crate::service::sessions::Actor;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::outbox::OutboxMessage;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, challenges, outbox, users};

/// A change of a number by a code.
#[derive(Debug)]
pub struct PhoneChange {
    /// The code that was sent to the new number.
    pub submission: CodeSubmission,
    /// The password, unless the sign-in is fresh.
    pub current_password: Option<Password>,
    /// The language of the notice to the old number, if the user has not chosen one.
    pub language: Language,
}

/// A change of a number with a right code, to be committed.
struct RedeemedPhoneChange {
    actor: Actor,
    proof: Proof,
    redeemed: RedeemedChallenge,
    draft: AuditDraft,
    language: Language,
    /// Whether the old number gets a notice.
    notifies: bool,
}

impl Codes {
    /// Sets the number that the code was sent to as the number of the actor's user. The number is verified by the code,
    /// and the old number gets a notice. If the user has the number already, it is verified only.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`]; [`Error::ReauthenticationRequired`]; [`Error::CodeInvalid`];
    /// [`Error::PhoneNumberTaken`], only with the right code, which stays valid; if the account with the number had not
    /// verified it, that account loses its sessions and its password; [`Error::SessionInvalid`] when the session ended
    /// meanwhile; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn change_phone(&self, actor: Actor, change: PhoneChange) -> Result<User, Error> {
        let PhoneChange {
            submission,
            current_password,
            language,
        } = change;
        let mut draft = actor.draft(Action::ChangePhone);
        draft.fields = vec![Field::PhoneNumber];
        let proof = self
            .reauthentication
            .prove(&actor, current_password, &draft)
            .await?;
        let redeemed = self
            .redeem_of_actor(Purpose::ChangePhone, &actor, &submission, &mut draft)
            .await?;
        let address = submission.client.ip_address;
        let notifies = self.may_notify(&actor, &redeemed.challenge, address).await?;
        let change = RedeemedPhoneChange {
            actor,
            proof,
            redeemed,
            draft,
            language,
            notifies,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_phone_change(change).await })
            .await
    }

    async fn commit_phone_change(&self, change: RedeemedPhoneChange) -> Result<User, Error> {
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_phone_change(tx, &change, now)))
            .await;
        let RedeemedPhoneChange { redeemed, draft, .. } = &change;
        if let Err(Error::PhoneNumberTaken) = outcome {
            self.take_over_unverified(&redeemed.challenge.phone_number, draft, now)
                .await?;
        }
        let outcome = self.give_back_if_code_was_right(outcome, redeemed).await;
        let outcome = redeemed.counted(outcome);
        let (user, notice) = self.work.audit().refused(draft, outcome).await?;
        if let Some(notice) = notice {
            self.wake.send(notice.id);
        }
        Ok(user)
    }

    async fn write_phone_change(
        &self,
        tx: &Transaction,
        change: &RedeemedPhoneChange,
        now: Timestamp,
    ) -> Result<TransactionEnd<(User, Option<OutboxMessage>)>, Error> {
        let RedeemedPhoneChange {
            actor,
            proof,
            redeemed,
            draft,
            language,
            notifies,
        } = change;
        let account = self.reauthentication.lock_proven_actor(tx, actor, proof).await?;
        redeemed.check_credentials(&account)?;
        let user = account.user;
        redeemed.delete(tx, now).await?;
        let phone_number = &redeemed.challenge.phone_number;
        let is_new = user.phone_number != *phone_number;
        if is_new {
            let change = UserChange {
                phone_number: Some(phone_number.clone()),
                ..UserChange::default()
            };
            users::update(tx, user.id, &change, now).await?;
            challenges::end_unowned(tx, &user.phone_number).await?;
        }
        users::verify_phones(tx, &[user.id], now).await?;
        let service = actor.caller.service.as_deref();
        let notice = phone_changed(&user, *language, service, now);
        let notice = Some(notice).filter(|_| is_new && *notifies);
        if let Some(notice) = &notice {
            outbox::insert(tx, notice).await?;
        }
        audit::insert(tx, &draft.done(now)).await?;
        let throttle = self.work.throttle();
        throttle.give_back_in(tx, &redeemed.reservation).await?;
        let changed = User {
            phone_number: phone_number.clone(),
            phone_verified_at: Some(now),
            updated_at: now,
            ..user
        };
        Ok(TransactionEnd::commit_change_of(changed.id, (changed, notice)))
    }

    /// Whether the old number gets a notice of the change. A verified one does, whatever was sent before: otherwise an
    /// attacker could use up the limits first. For any other number the notice counts as a requested message, since a
    /// user may have registered the number to have it called.
    async fn may_notify(
        &self,
        actor: &Actor,
        challenge: &Challenge,
        address: Option<IpAddr>,
    ) -> Result<bool, Error> {
        let to = &actor.user.phone_number;
        if *to == challenge.phone_number || !self.limits.reach.has(to) {
            return Ok(false);
        }
        if actor.user.phone_verified_at.is_some() {
            return Ok(true);
        }
        let wanted = MessageRequest {
            to,
            asker: Asker::Known { is_verified: false },
            address,
            caller: &actor.caller,
        };
        match self.count(&wanted).await {
            Ok(_) => Ok(true),
            Err(Error::SmsRefused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes an account over whose unverified number another user has verified: anybody may have registered it. All
    /// sessions, known devices and the password of the account end, as after a sign-in by the code. During the hold of
    /// the account nothing ends: it may belong to a user whose session was stolen, and who got the number lately.
    async fn take_over_unverified(
        &self,
        phone_number: &PhoneNumber,
        by: &AuditDraft,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.work
            .transact(|tx, _| Box::pin(self.write_take_over(tx, phone_number, by, now)))
            .await
    }

    async fn write_take_over(
        &self,
        tx: &Transaction,
        phone_number: &PhoneNumber,
        by: &AuditDraft,
        now: Timestamp,
    ) -> Result<TransactionEnd<()>, Error> {
        let Some(found) = users::find_by_phone(tx, phone_number).await? else {
            return Ok(TransactionEnd::Rollback(()));
        };
        let id = found.user.id;
        let account = users::lock(tx, id).await?;
        let account = account.filter(|account| account.user.phone_number == *phone_number);
        let Some(account) = account.filter(|account| account.user.phone_verified_at.is_none()) else {
            return Ok(TransactionEnd::Rollback(()));
        };
        let hold = self.reauthentication.phone_change_hold_remaining(&account, now);
        if hold.is_some() {
            // The owner of the number waits for the hold only, and not until the wall clock reaches the time of a clock
            // that was ahead.
            users::bound_phone_change(tx, id, now).await?;
            return Ok(TransactionEnd::commit(()));
        }
        let ended = users::take_over(tx, id, now).await?;
        let has_password = account.user.has_password;
        let draft = AuditDraft {
            action: Action::VerifyPhone,
            subject: Some(id),
            fields: has_password.then_some(Field::Password).into_iter().collect(),
            ended_sessions: Some(ended),
            ..by.clone()
        };
        audit::insert(tx, &draft.done(now)).await?;
        Ok(TransactionEnd::commit_change_of(id, ()))
    }
}
