//! How a code is checked, whatever it is for; and what it gives where that is a verified number, or a new password. The
//! rest is in the files beside this.
//!
//! That a code is tried is counted before it is looked at, and whoever meets a challenge takes it away in the
//! transaction of what it gives: of many who have the right code at the same time, one gets it.

use std::sync::Arc;

use super::counters::note_used;
use super::metrics::Fate;
use super::{Codes, Metrics};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, EventActor, Field};
use crate::domain::code::{Challenge, ChallengeId, Code, Purpose, plausible_expiries};
use crate::domain::password::Password;
use crate::domain::session::ClientInfo;
use crate::domain::sms_limits::PumpingGuard;
use crate::domain::throttle::Subject;
use crate::domain::user::User;
use crate::service::accounts::Accounts;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::service::throttle::Reservation;
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{StoreError, Transaction, audit, challenges, sessions, users};

/// A challenge whose code was right.
pub(super) struct RedeemedChallenge {
    pub(super) challenge: Challenge,
    /// That the code was tried.
    pub(super) reservation: Reservation,
    pumping_guard: Option<PumpingGuard>,
    metrics: Arc<Metrics>,
}

/// The reason why a challenge was not met.
enum Unmet {
    /// No such challenge can be tried. Nothing is known of the subject.
    UnknownChallenge,
    /// Any other reason.
    Refused(Error),
}

impl From<Error> for Unmet {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A code that somebody offers.
#[derive(Debug)]
pub struct CodeSubmission {
    /// For which challenge.
    pub challenge: ChallengeId,
    /// `None`: what was given cannot be a code.
    pub code: Option<Code>,
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
}

/// Resetting a password by a code.
#[derive(Debug)]
pub struct Reset {
    /// The code.
    pub offer: CodeSubmission,
    /// The new password, to which the password policy was not applied yet.
    pub password: Password,
}

impl CodeSubmission {
    /// The flow of a new password that comes with the code. The number is known after the code was checked.
    pub(super) fn flow(&self) -> Flow {
        Flow::new(&self.caller, self.client.ip_address, self.challenge)
    }
}

impl Codes {
    /// Notes that the actor's person holds their number.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::SessionInvalid`] when the session ended meanwhile; [`Error::TooManyAttempts`].
    pub async fn verify_phone(&self, actor: Actor, offer: CodeSubmission) -> Result<User, Error> {
        let mut attempt = actor.attempt(Action::VerifyPhone);
        let met = self
            .check_of_actor(Purpose::VerifyPhone, &actor, &offer, &mut attempt)
            .await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let account = accounts.lock_actor(&tx, &actor).await?;
                    met.check_account(&account)?;
                    met.take(&tx, now).await?;
                    let id = account.user.id;
                    users::verify_phones(&tx, &[id], now).await?;
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &met.reservation).await?;
                    accounts.commit_change_of(tx, id).await?;
                    Ok(User {
                        phone_verified_at: Some(now),
                        updated_at: now,
                        ..account.user
                    })
                });
                accounts.audit.refused(&attempt, met.counted(outcome.await)).await
            })
            .await
    }

    /// Sets a new password and ends all sessions. Known devices are forgotten with the old password.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`] and [`Error::PhoneChangedRecently`], only with the right
    /// code, which stays good; [`Error::InvalidInput`] when the password policy rejects the password, only with the
    /// right code, which stays valid; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn reset_password(&self, reset: Reset) -> Result<User, Error> {
        let Reset { offer, password } = reset;
        let flow = offer.flow();
        self.accounts.hasher.check_room(flow)?;
        let (met, mut attempt) = self
            .check_of_nobody(Purpose::ResetPassword, Action::ResetPassword, &offer)
            .await?;
        // Before the hash: a code that ended tells nothing about the new password.
        let current = self.check_current(&met).await;
        self.accounts.audit.refused(&attempt, current).await?;
        let hash = self.hash_for(flow, &met, password).await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                attempt.fields = vec![Field::Password];
                let change = UserChange {
                    password_hash: Some(hash),
                    ..UserChange::default()
                };
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let account = lock(&tx, &met).await?;
                    let id = account.user.id;
                    if !account.user.is_active() {
                        return Err(Error::AccountDeactivated);
                    }
                    met.take(&tx, now).await?;
                    if let Some(retry_after) = accounts.held(&account, now) {
                        return Err(Error::PhoneChangedRecently { retry_after });
                    }
                    users::update(&tx, id, &change, now).await?;
                    if account.user.phone_verified_at.is_none() {
                        users::verify_phones(&tx, &[id], now).await?;
                    }
                    let mut attempt = attempt.clone();
                    attempt.actor = EventActor::User(id);
                    attempt.ended_sessions = Some(sessions::delete(&tx, id, &Selection::All).await?);
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &met.reservation).await?;
                    accounts.commit_change_of(tx, id).await?;
                    Ok(User {
                        has_password: true,
                        phone_verified_at: account.user.phone_verified_at.or(Some(now)),
                        updated_at: now,
                        ..account.user
                    })
                });
                let outcome = accounts.unless_code_was_right(outcome.await, &met).await;
                accounts.audit.refused(&attempt, met.counted(outcome)).await
            })
            .await
    }

    /// As [`Self::check`], for somebody who has not shown who they are. A refusal is noted in the audit log, of whoever
    /// had the number.
    pub(super) async fn check_of_nobody(
        &self,
        purpose: Purpose,
        action: Action,
        offer: &CodeSubmission,
    ) -> Result<(RedeemedChallenge, AuditDraft), Error> {
        let mut attempt = AuditDraft::by_nobody(action, offer.client.clone(), offer.caller.clone());
        let checked = self.check(purpose, offer, &mut attempt).await;
        let met = self.audited(&attempt, checked).await?;
        Ok((met, attempt))
    }

    /// As [`Self::check`], for a code that only the actor's person may use. A refusal is noted in the audit log.
    pub(super) async fn check_of_actor(
        &self,
        purpose: Purpose,
        actor: &Actor,
        offer: &CodeSubmission,
        attempt: &mut AuditDraft,
    ) -> Result<RedeemedChallenge, Error> {
        let checked = self.check(purpose, offer, attempt).await;
        let checked = checked.and_then(|met| {
            let is_theirs = met.challenge.person == Some(actor.user.id);
            is_theirs.then_some(met).ok_or(Unmet::Refused(Error::CodeInvalid))
        });
        self.audited(attempt, checked).await
    }

    /// Notes a refusal in the audit log. Codes for unknown challenges are counted there, since anybody can invent as
    /// many as they like.
    async fn audited(
        &self,
        attempt: &AuditDraft,
        checked: Result<RedeemedChallenge, Unmet>,
    ) -> Result<RedeemedChallenge, Error> {
        let audit = &self.accounts.audit;
        match checked {
            Ok(met) => Ok(met),
            Err(Unmet::UnknownChallenge) => audit.refused_unknown(attempt).await,
            Err(Unmet::Refused(error)) => audit.refused(attempt, Err(error)).await,
        }
    }

    /// Reserves the account that a right code creates. Only now it is known whether it does: a wrong code creates none,
    /// and somebody who signs in is not refused because of accounts that others in the same network have created.
    pub(super) async fn reserve_creation(
        &self,
        met: &mut RedeemedChallenge,
        offer: &CodeSubmission,
        attempt: &AuditDraft,
    ) -> Result<(), Error> {
        let accounts = &self.accounts;
        match accounts.throttle.reserve_creation(offer.client.ip_address).await {
            Ok(creation) => {
                met.reservation.add(creation);
                Ok(())
            }
            Err(refused) => {
                // The code was right, so nothing was guessed.
                self.take_back_attempt(&met.challenge).await?;
                accounts.throttle.give_back(&met.reservation).await;
                accounts.audit.refused(attempt, Err(refused)).await
            }
        }
    }

    /// Applies the password policy and hashes, after the code was right. If the policy rejects the password, or the
    /// queue is full, the challenge does not count the attempt: nothing was guessed, and a user may need several tries
    /// to find an acceptable password. A caller that leaves meanwhile gets the rest of the attempt back, too.
    pub(super) async fn hash_for(
        &self,
        flow: Flow,
        met: &RedeemedChallenge,
        password: Password,
    ) -> Result<String, Error> {
        let accounts = &self.accounts;
        let guard = accounts.throttle.guard(met.reservation.clone());
        let phones = [&met.challenge.phone_number];
        let hash = match accounts.passwords.accept("new_password", password, &phones).await {
            Ok(accepted) => accounts.hasher.hash(flow, accepted, drop).await,
            Err(rejected) => Err(rejected),
        };
        if hash.is_err() {
            self.take_back_attempt(&met.challenge).await?;
        }
        if let Err(Error::Internal(_)) = hash {
            guard.give_back().await;
        }
        guard.settle();
        accounts.unless_code_was_right(hash, met).await
    }

    /// Checks the account of a challenge before its transaction, which checks it again.
    async fn check_current(&self, met: &RedeemedChallenge) -> Result<(), Error> {
        let id = met.challenge.person.ok_or(Error::CodeInvalid)?;
        let account = users::find(self.accounts.store.reader(), id).await?;
        met.check_account(&account.ok_or(Error::CodeInvalid)?)
    }

    /// Checks whether a code is right. It counts as an attempt on the challenge, and until it is given back as one on
    /// the number, from the address and by the service. If nobody is the subject of what is attempted, whoever had the
    /// number is.
    async fn check(
        &self,
        purpose: Purpose,
        offer: &CodeSubmission,
        attempt: &mut AuditDraft,
    ) -> Result<RedeemedChallenge, Unmet> {
        let accounts = &self.accounts;
        let address = offer.client.ip_address;
        let reservation = accounts.throttle.reserve(&[], address, &offer.caller).await?;
        let reservation = accounts.throttle.guard(reservation);
        let unknown = || {
            reservation.settle();
            self.metrics.code(purpose, Fate::Refused, None);
            Unmet::UnknownChallenge
        };
        // Without a code the challenge is not looked up.
        let code = offer.code.as_ref().ok_or_else(unknown)?;
        let expiries = plausible_expiries(self.options.lifetime, accounts.clock.now());
        // Who cuts the power has not won many guesses by it.
        let writer = accounts.store.unsynced_writer();
        let max = self.options.max_attempts;
        let counted = retry(|| async {
            Ok(challenges::attempt(&writer, offer.challenge, purpose, max, &expiries).await?)
        });
        let challenge = counted.await?.ok_or_else(unknown)?;
        attempt.subject = attempt.subject.or(challenge.person);
        let guess = match self.reserve_guess(&challenge).await {
            Ok(guess) => guess,
            Err(refused) => {
                // Nothing was tried.
                self.take_back_attempt(&challenge).await?;
                reservation.give_back().await;
                return Err(refused.into());
            }
        };
        reservation.settle();
        let mut reserved = Reservation::clone(&reservation);
        reserved.add(guess);
        let right = self.coder.code(&challenge);
        // Nobody was told a code that was not sent.
        if challenge.is_sent && right.is_some_and(|right| right.is(code)) {
            Ok(RedeemedChallenge {
                challenge,
                reservation: reserved,
                pumping_guard: self.limits.pumping_guard,
                metrics: self.metrics.clone(),
            })
        } else {
            self.metrics
                .code(purpose, Fate::Refused, Some(&challenge.phone_number));
            Err(Unmet::Refused(Error::CodeInvalid))
        }
    }

    /// Has a challenge not count an attempt by which nothing was guessed.
    async fn take_back_attempt(&self, challenge: &Challenge) -> Result<(), Error> {
        let writer = self.accounts.store.unsynced_writer();
        retry(|| async { Ok(challenges::take_back_attempt(&writer, challenge.id).await?) }).await
    }

    /// Reserves a guess on the number, before the code is looked at. An unknown challenge has no number.
    async fn reserve_guess(&self, challenge: &Challenge) -> Result<Reservation, Error> {
        let number = &challenge.phone_number;
        let subject = if challenge.is_known {
            Subject::KnownCodeGuess(number)
        } else {
            Subject::CodeGuess(number)
        };
        self.accounts.throttle.reserve_only(subject).await
    }
}

impl Accounts {
    /// Gives an attempt back if it was refused only for another reason than the code, which was right. The challenge
    /// has counted it all the same.
    pub(super) async fn unless_code_was_right<T>(
        &self,
        outcome: Result<T, Error>,
        met: &RedeemedChallenge,
    ) -> Result<T, Error> {
        if let Err(
            Error::AccountDeactivated
            | Error::PhoneChangedRecently { .. }
            | Error::PhoneNumberTaken
            | Error::InvalidInput(_)
            | Error::Overloaded { .. },
        ) = outcome
        {
            let reservation = met.reservation.clone();
            self.throttle.guard(reservation).give_back().await;
            return self.bound_hold_of(met, outcome).await;
        }
        let outcome = self.unless_created(outcome, &met.reservation).await;
        self.bound_hold_of(met, outcome).await
    }

    async fn bound_hold_of<T>(&self, met: &RedeemedChallenge, outcome: Result<T, Error>) -> Result<T, Error> {
        match met.challenge.person {
            Some(person) => self.bound_hold(person, outcome).await,
            None => outcome,
        }
    }
}

/// Locks the row of the account that had the number at the request, if the challenge is still valid for the account.
pub(super) async fn lock(tx: &Transaction, met: &RedeemedChallenge) -> Result<Account, Error> {
    let id = met.challenge.person.ok_or(Error::CodeInvalid)?;
    let account = users::lock(tx, id).await?.ok_or(Error::CodeInvalid)?;
    met.check_account(&account)?;
    Ok(account)
}

impl RedeemedChallenge {
    /// Fails if the credentials of the account have changed since the request: a code that was requested before must
    /// not undo that. In the transaction, call it under the lock of the user's row.
    pub(super) fn check_credentials(&self, account: &Account) -> Result<(), Error> {
        if self.challenge.is_current(account.credential_version) {
            Ok(())
        } else {
            Err(Error::CodeInvalid)
        }
    }

    /// As [`Self::check_credentials`], for a challenge to the number of the account itself: the account still has it.
    pub(super) fn check_account(&self, account: &Account) -> Result<(), Error> {
        self.check_credentials(account)?;
        if account.user.phone_number == self.challenge.phone_number {
            Ok(())
        } else {
            Err(Error::CodeInvalid)
        }
    }

    /// Takes the challenge away, or somebody else has done so.
    pub(super) async fn take(&self, tx: &Transaction, now: Timestamp) -> Result<(), Error> {
        if !challenges::take(tx, self.challenge.id).await? {
            return Err(Error::CodeInvalid);
        }
        note_used(tx, &self.challenge, self.pumping_guard.as_ref(), now).await
    }

    /// Counts the code as used, if that is what came of it. A right one that gives nothing, for another reason, may be
    /// given again.
    pub(super) fn counted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_ok() {
            let Challenge {
                purpose,
                phone_number,
                ..
            } = &self.challenge;
            self.metrics.code(*purpose, Fate::Verified, Some(phone_number));
        }
        outcome
    }
}

/// Meets a challenge by which somebody gets an account, who is new now.
pub(super) async fn create(
    tx: &Transaction,
    met: &RedeemedChallenge,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), Error> {
    met.take(tx, user.created_at).await?;
    match users::insert(tx, user, password_hash).await {
        // Somebody has registered it meanwhile. The code was for nobody, and is not theirs.
        Err(StoreError::PhoneNumberTaken) => Err(Error::CodeInvalid),
        inserted => Ok(inserted?),
    }
}
