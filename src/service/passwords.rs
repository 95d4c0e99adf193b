//! Password checks and password hashing, with the settlement of the throttled attempt.
//!
//! An attempt is reserved before its password is hashed. A caller that disconnects before the hash starts gets the
//! attempt back. Once the hash runs, its result decides: a right password returns the attempt; a wrong one counts and
//! is audited. Without this rule deadlines would either make guesses free, or delay the owner of an account on a busy
//! replica. Attempts without a caller are bounded by the number of running hashes, beside the answers that are held
//! back for a moment.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::error::{Error, chain};
use super::hasher::{Flow, Hasher, Pending, Verdict};
use super::password_policy::{NewPassword, PasswordPolicy};
use super::sessions::Actor;
use super::throttle::{Reservation, ReservationGuard, SuccessPermit, Throttle};
use super::unit_of_work::UnitOfWork;
use crate::domain::access::Caller;
use crate::domain::audit::AuditDraft;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::throttle::Subject;

/// Checks and hashes passwords. Cheap to clone.
#[derive(Clone)]
pub(super) struct Passwords {
    work: UnitOfWork,
    hasher: Hasher,
    policy: PasswordPolicy,
}

/// The limits that an attempt with a password uses, until its result settles them. Dropped before that, it returns all
/// of them.
#[must_use]
pub(super) struct Claim {
    reservation: ReservationGuard,
    success: SuccessPermit,
}

/// The source of an attempt with a password, and the subjects that it counts for.
pub(super) struct PasswordAttempt<'a> {
    /// Flow of the queue of hashes.
    pub(super) flow: Flow,
    pub(super) address: Option<IpAddr>,
    pub(super) caller: &'a Caller,
    /// The known device of the attempt. Its attempts count for it alone: other clients must not lock it out.
    pub(super) device: Option<DeviceId>,
    /// Subjects beside the address and the calling service.
    pub(super) subjects: &'a [Subject<'a>],
}

impl<'a> PasswordAttempt<'a> {
    /// An attempt of an actor.
    pub(super) fn of_actor(actor: &'a Actor, subjects: &'a [Subject<'a>]) -> Self {
        Self {
            flow: Flow::of_actor(actor),
            address: actor.session.client.ip_address,
            caller: &actor.caller,
            device: None,
            subjects,
        }
    }
}

/// A password to check.
pub(super) struct Check<'a> {
    /// Flow of the queue of hashes.
    pub(super) flow: Flow,
    pub(super) password: Password,
    /// The stored hash, if there is one.
    pub(super) stored: Option<String>,
    /// Whether a weak hash is replaced.
    pub(super) upgrade: bool,
    /// The audit event of a wrong password.
    pub(super) draft: &'a AuditDraft,
    /// The error of a wrong password.
    pub(super) wrong: fn() -> Error,
}

/// A new password to hash.
pub(super) struct NewHash<'a> {
    /// Flow of the queue of hashes.
    pub(super) flow: Flow,
    /// The field of the request that has the password.
    pub(super) field: &'static str,
    pub(super) password: Password,
    /// The phone numbers of the account.
    pub(super) phones: &'a [&'a PhoneNumber],
}

impl Claim {
    /// The claim of the operator at the command line, who is not throttled.
    pub(super) fn unlimited(throttle: &Throttle) -> Self {
        Self::without_success_limit(throttle.guard(Reservation::default()))
    }

    /// A claim whose success does not count: it proves no password.
    pub(super) fn without_success_limit(reservation: ReservationGuard) -> Self {
        let success = SuccessPermit::default();
        Self { reservation, success }
    }

    /// Hands the reservation to a transaction, which gives it back.
    fn for_transaction(&self) -> Reservation {
        self.success.keep();
        self.reservation.settle();
        Reservation::clone(&self.reservation)
    }

    /// Counts the attempt: the password was wrong.
    fn fail(&self) {
        self.reservation.settle();
    }

    /// Gives the attempt back: the password was right, and no transaction does it.
    async fn succeed(&self) {
        self.success.keep();
        self.reservation.give_back().await;
    }
}

impl Passwords {
    pub(super) fn new(work: UnitOfWork, hasher: Hasher, policy: PasswordPolicy) -> Self {
        Self { work, hasher, policy }
    }

    /// Checks that the queue of hashes has room for this flow.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn check_room(&self, flow: Flow) -> Result<(), Error> {
        self.hasher.check_room(flow)
    }

    /// Reserves an attempt with a password.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue of hashes has no room; [`Error::TooManyAttempts`].
    pub(super) async fn claim(&self, attempt: PasswordAttempt<'_>) -> Result<Claim, Error> {
        let PasswordAttempt {
            flow,
            address,
            caller,
            device,
            subjects,
        } = attempt;
        let throttle = self.work.throttle();
        self.hasher.check_room(flow)?;
        let success = throttle.admit_success(address, caller, device)?;
        let reservation = match device {
            Some(device) => throttle.reserve_only(Subject::Device(device)).await?,
            None => throttle.reserve(subjects, address, caller).await?,
        };
        let reservation = throttle.guard(reservation);
        Ok(Claim { reservation, success })
    }

    /// Checks a password. A right one returns the verdict and the reservation, which the transaction of the success
    /// gives back.
    ///
    /// # Errors
    /// The error of a wrong password, after it was audited; [`Error::Overloaded`]; [`Error::Internal`] when the hash
    /// cannot be read. The latter two do not count.
    pub(super) async fn check(
        &self,
        claim: Claim,
        check: Check<'_>,
    ) -> Result<(Verdict, Reservation), Error> {
        let Check {
            flow,
            password,
            stored,
            upgrade,
            draft,
            wrong,
        } = check;
        let claim = Arc::new(claim);
        let left = claim.clone();
        let leave = |pending| self.settle_later(pending, left, draft.clone(), wrong);
        match self.hasher.verify(flow, password, stored, upgrade, leave).await {
            Ok(Verdict::Wrong) => {
                claim.fail();
                self.work.audit().refused(draft, Err(wrong())).await
            }
            Ok(verdict) => Ok((verdict, claim.for_transaction())),
            Err(error) => {
                claim.reservation.give_back().await;
                Err(error)
            }
        }
    }

    /// Applies the password policy to a new password, and hashes it. Returns the reservation, too, which the
    /// transaction of the success gives back. A hash alone reveals nothing of an account, so a caller that disconnects
    /// gets the attempt back.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the policy rejects the password, which counts for the client address only;
    /// [`Error::Overloaded`] and [`Error::Internal`], which do not count.
    pub(super) async fn hash(&self, claim: Claim, new: NewHash<'_>) -> Result<(String, Reservation), Error> {
        let NewHash {
            flow,
            field,
            password,
            phones,
        } = new;
        let accepted = match self.accept(field, password, phones).await {
            Ok(accepted) => accepted,
            // The user guessed nothing, but caused work of the database.
            Err(rejected) => {
                claim.reservation.settle();
                let rest = claim.reservation.without_address();
                self.work.throttle().guard(rest).give_back().await;
                return Err(rejected);
            }
        };
        // The hashing threads work for it in any case.
        let leave = |_| claim.success.keep();
        match self.hasher.hash(flow, accepted, leave).await {
            Ok(hash) => Ok((hash, claim.for_transaction())),
            Err(error) => {
                claim.reservation.give_back().await;
                Err(error)
            }
        }
    }

    /// Applies the password policy and hashes, without a claim: the caller of this function settles the attempt.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the policy rejects the password; [`Error::Overloaded`]; [`Error::Internal`].
    pub(super) async fn hash_unclaimed(&self, new: NewHash<'_>) -> Result<String, Error> {
        let NewHash {
            flow,
            field,
            password,
            phones,
        } = new;
        let accepted = self.accept(field, password, phones).await?;
        self.hasher.hash(flow, accepted, drop).await
    }

    /// Applies the password policy.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the policy rejects the password.
    pub(super) async fn accept(
        &self,
        field: &'static str,
        password: Password,
        phones: &[&PhoneNumber],
    ) -> Result<NewPassword, Error> {
        self.policy.accept(field, password, phones).await
    }

    /// Settles an attempt by its result after its caller has disconnected.
    fn settle_later(
        &self,
        pending: Pending<Verdict>,
        claim: Arc<Claim>,
        draft: AuditDraft,
        wrong: fn() -> Error,
    ) {
        let audit = self.work.audit().clone();
        let settle = async move {
            match pending.result().await {
                Some(Verdict::Wrong) => {
                    claim.fail();
                    // The refusal itself is the outcome.
                    if let Err(Error::DatabaseUnavailable(error)) =
                        audit.refused(&draft, Err::<(), _>(wrong())).await
                    {
                        tracing::warn!(error = chain(&error), "a refusal was not audited");
                    }
                }
                Some(Verdict::Right | Verdict::RightButWeak { .. }) => claim.succeed().await,
                None => claim.reservation.give_back().await,
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.work.tasks().spawn_on(settle.in_current_span(), &runtime);
        }
    }
}
