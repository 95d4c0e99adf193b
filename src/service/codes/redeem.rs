//! Checks of one-time codes, whatever a code is for.
//!
//! An attempt is counted before its code is compared. The transaction of the operation deletes the challenge, so that
//! of several submissions of the right code at the same time one succeeds.

use std::sync::Arc;

use super::counters::note_used;
use super::metrics::Fate;
use super::{Codes, Metrics};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft};
use crate::domain::code::{Challenge, ChallengeId, Code, Purpose, plausible_expiries};
use crate::domain::password::Password;
use crate::domain::session::ClientInfo;
use crate::domain::sms_limits::PumpingGuard;
use crate::domain::throttle::Subject;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::passwords::NewHash;
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::service::throttle::Reservation;
use crate::store::users::Account;
use crate::store::{StoreError, Transaction, challenges, users};

/// A challenge whose code was right.
pub(super) struct RedeemedChallenge {
    pub(super) challenge: Challenge,
    /// The attempt.
    pub(super) reservation: Reservation,
    pumping_guard: Option<PumpingGuard>,
    metrics: Arc<Metrics>,
}

/// The reason why a code was refused.
enum RefusedCode {
    /// The challenge does not exist, is expired, or is used up. Its subject is unknown.
    UnknownChallenge,
    /// Any other reason.
    Refused(Error),
}

impl From<Error> for RefusedCode {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A submission of a code.
#[derive(Debug)]
pub struct CodeSubmission {
    /// The challenge.
    pub challenge: ChallengeId,
    /// The code. `None`: the text cannot be a code.
    pub code: Option<Code>,
    /// The client.
    pub client: ClientInfo,
    /// The calling service.
    pub caller: Caller,
}

impl CodeSubmission {
    /// The flow of a new password that comes with the code. The number is known only after the code was checked.
    pub(super) fn flow(&self) -> Flow {
        Flow::new(&self.caller, self.client.ip_address, self.challenge)
    }
}

impl Codes {
    /// Checks a code of a user without a session. Returns the challenge and the draft of the audit event. A refusal is
    /// audited, with the user that had the number as its subject.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::TooManyAttempts`].
    pub(super) async fn redeem(
        &self,
        purpose: Purpose,
        action: Action,
        submission: &CodeSubmission,
    ) -> Result<(RedeemedChallenge, AuditDraft), Error> {
        let mut draft = AuditDraft::by_nobody(action, submission.client.clone(), submission.caller.clone());
        let checked = self.check(purpose, submission, &mut draft).await;
        let redeemed = self.audited(&draft, checked).await?;
        Ok((redeemed, draft))
    }

    /// Checks a code that only the actor's user may use. A refusal is audited.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::TooManyAttempts`].
    pub(super) async fn redeem_of_actor(
        &self,
        purpose: Purpose,
        actor: &Actor,
        submission: &CodeSubmission,
        draft: &mut AuditDraft,
    ) -> Result<RedeemedChallenge, Error> {
        let checked = self.check(purpose, submission, draft).await;
        let checked = checked.and_then(|redeemed| {
            let is_own = redeemed.challenge.person == Some(actor.user.id);
            let refused = RefusedCode::Refused(Error::CodeInvalid);
            is_own.then_some(redeemed).ok_or(refused)
        });
        self.audited(draft, checked).await
    }

    /// Audits a refusal. Codes for unknown challenges are counted in the audit log, since a client can invent any
    /// number of them.
    async fn audited(
        &self,
        draft: &AuditDraft,
        checked: Result<RedeemedChallenge, RefusedCode>,
    ) -> Result<RedeemedChallenge, Error> {
        let audit = self.work.audit();
        match checked {
            Ok(redeemed) => Ok(redeemed),
            Err(RefusedCode::UnknownChallenge) => audit.refused_unknown(draft).await,
            Err(RefusedCode::Refused(error)) => audit.refused(draft, Err(error)).await,
        }
    }

    /// Reserves the account that a right code creates. Only after the check it is known whether the code creates one: a
    /// wrong code creates none, and accounts that others created from the same network do not refuse a sign-in.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`].
    pub(super) async fn reserve_creation(
        &self,
        redeemed: &mut RedeemedChallenge,
        submission: &CodeSubmission,
        draft: &AuditDraft,
    ) -> Result<(), Error> {
        let throttle = self.work.throttle();
        match throttle.reserve_creation(submission.client.ip_address).await {
            Ok(creation) => {
                redeemed.reservation.add(creation);
                Ok(())
            }
            Err(refused) => {
                // The code was right, so the attempt was no guess.
                self.take_back_attempt(&redeemed.challenge).await?;
                throttle.give_back(&redeemed.reservation).await;
                self.work.audit().refused(draft, Err(refused)).await
            }
        }
    }

    /// Applies the password policy and hashes, after the code was right. If the policy rejects the password, or the
    /// queue is full, the challenge does not count the attempt: it was no guess, and a user may need several tries to
    /// find an acceptable password. A caller that disconnects meanwhile gets the rest of the attempt back, too.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the policy rejects the password; [`Error::Overloaded`]; [`Error::Internal`].
    pub(super) async fn hash_for(
        &self,
        flow: Flow,
        redeemed: &RedeemedChallenge,
        password: Password,
    ) -> Result<String, Error> {
        let guard = self.work.throttle().guard(redeemed.reservation.clone());
        let new = NewHash {
            flow,
            field: "new_password",
            password,
            phones: &[&redeemed.challenge.phone_number],
        };
        let hash = self.passwords.hash_unclaimed(new).await;
        if hash.is_err() {
            self.take_back_attempt(&redeemed.challenge).await?;
        }
        if let Err(Error::Internal(_)) = hash {
            guard.give_back().await;
        }
        guard.settle();
        self.give_back_if_code_was_right(hash, redeemed).await
    }

    /// Checks the account of a challenge before its transaction, which checks it again.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`].
    pub(super) async fn check_current(&self, redeemed: &RedeemedChallenge) -> Result<(), Error> {
        let id = redeemed.challenge.person.ok_or(Error::CodeInvalid)?;
        let account = users::find(self.work.store().reader(), id).await?;
        redeemed.check_account(&account.ok_or(Error::CodeInvalid)?)
    }

    /// Checks whether a code is right. The submission counts as an attempt on the challenge, and until it is given back
    /// as an attempt on the number, from the address and by the service. A draft without a subject gets the user that
    /// had the number as its subject.
    async fn check(
        &self,
        purpose: Purpose,
        submission: &CodeSubmission,
        draft: &mut AuditDraft,
    ) -> Result<RedeemedChallenge, RefusedCode> {
        let CodeSubmission {
            challenge: id,
            code,
            client,
            caller,
        } = submission;
        let throttle = self.work.throttle();
        let reservation = throttle.reserve(&[], client.ip_address, caller).await?;
        let reservation = throttle.guard(reservation);
        let unknown = || {
            reservation.settle();
            self.metrics.code(purpose, Fate::Refused, None);
            RefusedCode::UnknownChallenge
        };
        // Without a code the challenge is not looked up.
        let code = code.as_ref().ok_or_else(unknown)?;
        let challenge = self.count_attempt(*id, purpose).await?.ok_or_else(unknown)?;
        draft.subject = draft.subject.or(challenge.person);
        let guess = match self.reserve_guess(&challenge).await {
            Ok(guess) => guess,
            Err(refused) => {
                // The code was not compared.
                self.take_back_attempt(&challenge).await?;
                reservation.give_back().await;
                return Err(refused.into());
            }
        };
        reservation.settle();
        let mut reserved = Reservation::clone(&reservation);
        reserved.add(guess);
        let right = self.coder.code(&challenge);
        // A code that was not sent is known to no user.
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
            Err(RefusedCode::Refused(Error::CodeInvalid))
        }
    }

    /// Counts an attempt on a challenge, and returns the challenge. `None`: it cannot be tried.
    async fn count_attempt(&self, id: ChallengeId, purpose: Purpose) -> Result<Option<Challenge>, Error> {
        let expiries = plausible_expiries(self.options.lifetime, self.work.now());
        // A power cut regains few guesses.
        let writer = self.work.store().counter_writer();
        let max = self.options.max_attempts;
        retry(|| async { Ok(challenges::attempt(&writer, id, purpose, max, &expiries).await?) }).await
    }

    /// Removes an attempt from the count of a challenge: it was no guess.
    async fn take_back_attempt(&self, challenge: &Challenge) -> Result<(), Error> {
        let writer = self.work.store().counter_writer();
        retry(|| async { Ok(challenges::take_back_attempt(&writer, challenge.id).await?) }).await
    }

    /// Reserves a guess on the number, before the code is compared.
    async fn reserve_guess(&self, challenge: &Challenge) -> Result<Reservation, Error> {
        let number = &challenge.phone_number;
        let subject = if challenge.is_known {
            Subject::KnownCodeGuess(number)
        } else {
            Subject::CodeGuess(number)
        };
        self.work.throttle().reserve_only(subject).await
    }

    /// Gives an attempt back if the code was right, and the operation was refused for another reason, with the account
    /// that was reserved for it. A challenge still counts an attempt that was refused in its transaction. Returns the
    /// outcome.
    ///
    /// # Errors
    /// The error of the outcome.
    pub(super) async fn give_back_if_code_was_right<T>(
        &self,
        outcome: Result<T, Error>,
        redeemed: &RedeemedChallenge,
    ) -> Result<T, Error> {
        let throttle = self.work.throttle();
        let reservation = &redeemed.reservation;
        let outcome = if let Err(
            Error::AccountDeactivated
            | Error::PhoneChangedRecently { .. }
            | Error::PhoneNumberTaken
            | Error::InvalidInput(_)
            | Error::Overloaded { .. },
        ) = outcome
        {
            throttle.guard(reservation.clone()).give_back().await;
            outcome
        } else {
            throttle.keep_creation_if_created(outcome, reservation).await
        };
        match redeemed.challenge.person {
            Some(person) => self.reauthentication.bound_hold(person, outcome).await,
            None => outcome,
        }
    }
}

/// Locks the row of the account that had the number at the request, if the challenge is still valid for the account.
///
/// # Errors
/// [`Error::CodeInvalid`].
pub(super) async fn lock(tx: &Transaction, redeemed: &RedeemedChallenge) -> Result<Account, Error> {
    let id = redeemed.challenge.person.ok_or(Error::CodeInvalid)?;
    let account = users::lock(tx, id).await?.ok_or(Error::CodeInvalid)?;
    redeemed.check_account(&account)?;
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

    /// Deletes the challenge, in the transaction of the operation.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`] when another transaction has deleted it.
    pub(super) async fn delete(&self, tx: &Transaction, now: Timestamp) -> Result<(), Error> {
        if !challenges::take(tx, self.challenge.id).await? {
            return Err(Error::CodeInvalid);
        }
        note_used(tx, &self.challenge, self.pumping_guard.as_ref(), now).await
    }

    /// Counts the code as verified if the operation succeeded, and returns the outcome. A right code of a refused
    /// operation may be submitted again.
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

/// Uses a challenge to create a user.
///
/// # Errors
/// [`Error::CodeInvalid`], also when another user has registered the number meanwhile: the code was for a number
/// without an account, and is not valid for that user.
pub(super) async fn create(
    tx: &Transaction,
    redeemed: &RedeemedChallenge,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), Error> {
    redeemed.delete(tx, user.created_at).await?;
    match users::insert(tx, user, password_hash).await {
        Err(StoreError::PhoneNumberTaken) => Err(Error::CodeInvalid),
        inserted => Ok(inserted?),
    }
}
