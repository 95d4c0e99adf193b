//! Changing the phone number of an account to one that the person shows to hold.

use std::net::IpAddr;

use super::Codes;
use super::limits::{Asker, MessageRequest};
use super::verify::CodeSubmission;
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::code::{Challenge, Purpose};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::User;
use crate::i18n::Language;
use crate::service::accounts::Accounts;
use crate::service::error::Error;
use crate::service::outbox::phone_changed;
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::store::users::UserChange;
use crate::store::{audit, challenges, outbox, users};

/// Changing a number by a code.
#[derive(Debug)]
pub struct PhoneChange {
    /// The code that the new number got.
    pub offer: CodeSubmission,
    /// The password, unless the person has signed in lately.
    pub current_password: Option<Password>,
    /// The language in which the old number is told, if the person has not chosen one.
    pub language: Language,
}

impl Codes {
    /// Gives the actor's person the number that the code was sent to; it is verified by that. The old number is told.
    /// If the person has that number already, it is verified, and nothing else.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`]; [`Error::ReauthenticationRequired`]; [`Error::CodeInvalid`];
    /// [`Error::PhoneNumberTaken`], only with the right code, which stays good, and by which whoever had registered the
    /// number without showing to hold it has lost the account; [`Error::SessionInvalid`] when the session ended
    /// meanwhile; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn change_phone(&self, actor: Actor, change: PhoneChange) -> Result<User, Error> {
        let PhoneChange {
            offer,
            current_password,
            language: of_call,
        } = change;
        let client_address = offer.client.ip_address;
        let mut attempt = actor.attempt(Action::ChangePhone);
        attempt.fields = vec![Field::PhoneNumber];
        let proof = self.accounts.prove(&actor, current_password, &attempt).await?;
        let met = self
            .check_of_actor(Purpose::ChangePhone, &actor, &offer, &mut attempt)
            .await?;
        let is_told = self.may_tell(&actor, &met.challenge, client_address).await?;
        let wake = self.wake.clone();
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let challenge = &met.challenge;
                let change = UserChange {
                    phone_number: Some(challenge.phone_number.clone()),
                    ..UserChange::default()
                };
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let account = accounts.lock_proved_actor(&tx, &actor, &proof).await?;
                    met.check_credentials(&account)?;
                    let user = account.user;
                    met.take(&tx, now).await?;
                    let is_new = user.phone_number != challenge.phone_number;
                    if is_new {
                        users::update(&tx, user.id, &change, now).await?;
                        challenges::end_unowned(&tx, &user.phone_number).await?;
                    }
                    users::verify_phones(&tx, &[user.id], now).await?;
                    let service = actor.caller.service.as_deref();
                    let notice = phone_changed(&user, of_call, service, now);
                    let notice = Some(notice).filter(|_| is_new && is_told);
                    if let Some(notice) = &notice {
                        outbox::insert_with_commit(&tx, notice).await?;
                    }
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &met.reservation).await?;
                    accounts.commit_change_of(tx, user.id).await?;
                    Ok((with_number(user, challenge, now), notice))
                });
                let outcome = outcome.await;
                if let Err(Error::PhoneNumberTaken) = outcome {
                    accounts
                        .take_over_from_a_stranger(&challenge.phone_number, &attempt, now)
                        .await?;
                }
                let outcome = accounts.unless_code_was_right(outcome, &met).await;
                let (user, notice) = accounts.audit.refused(&attempt, met.counted(outcome)).await?;
                if let Some(notice) = notice {
                    wake.send(notice.id);
                }
                Ok(user)
            })
            .await
    }

    /// Whether the number that the actor's person has is told that they change it. One that somebody has shown to hold
    /// is, whatever was sent before, or whoever changes it could use up the bounds first. To any other this is a
    /// message as each that is asked for: somebody may have registered it to have it ring.
    async fn may_tell(
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
}

impl Accounts {
    /// Somebody has shown to hold a number that another account has. If nobody had shown that before, whoever
    /// registered it may be anybody: all sessions, known devices and the password of that account are gone, as if one
    /// had signed in to it by the code. Not while that would be refused, since it was given the number lately: then it
    /// may be the account of somebody whose session was stolen.
    async fn take_over_from_a_stranger(
        &self,
        phone_number: &PhoneNumber,
        by: &AuditDraft,
        now: Timestamp,
    ) -> Result<(), Error> {
        retry(|| async {
            let tx = self.store.begin().await?;
            let Some(found) = users::find_by_phone(&tx, phone_number).await? else {
                return Ok(());
            };
            let id = found.user.id;
            let account = users::lock(&tx, id).await?;
            let account = account.filter(|account| account.user.phone_number == *phone_number);
            let Some(account) = account.filter(|account| account.user.phone_verified_at.is_none()) else {
                return Ok(());
            };
            if self.held(&account, now).is_some() {
                // The owner of the number waits for the hold, and not until the wall clock reaches the time of a fast
                // clock.
                users::bound_phone_change(&tx, id, now).await?;
                return Ok(tx.commit().await?);
            }
            let ended = users::take_over(&tx, id, now).await?;
            let has_password = account.user.has_password;
            let attempt = AuditDraft {
                action: Action::VerifyPhone,
                subject: Some(id),
                fields: has_password.then_some(Field::Password).into_iter().collect(),
                ended_sessions: Some(ended),
                ..by.clone()
            };
            audit::insert(&tx, &attempt.done(now)).await?;
            self.commit_change_of(tx, id).await
        })
        .await
    }
}

fn with_number(user: User, challenge: &Challenge, now: Timestamp) -> User {
    User {
        phone_number: challenge.phone_number.clone(),
        phone_verified_at: Some(now),
        updated_at: now,
        ..user
    }
}
