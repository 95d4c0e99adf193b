//! Settlement of password attempts, whether or not their callers are still there.
//!
//! An attempt is reserved before its password is hashed. A caller that leaves before that gets it back. Once the hash
//! runs, its result decides: a right password is given back, a wrong one counts and is audited. Otherwise deadlines
//! would either make guesses free, or delay the owner of an account on a busy replica. At most as many attempts are
//! settled without their callers as hashes run, beside the answers that are held back for a moment.

use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::Accounts;
use crate::domain::audit::AuditDraft;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::service::error::{Error, chain};
use crate::service::hasher::{Flow, Pending, Verdict};
use crate::service::throttle::{Reservation, ReservationGuard, SuccessPermit, Throttle};

/// What an attempt with a password has taken of its limits, to be settled by its result. Dropped before that, all is
/// returned.
#[must_use]
pub(in crate::service) struct Claim {
    reservation: ReservationGuard,
    success: SuccessPermit,
}

/// A password to be checked.
pub(in crate::service) struct Check<'a> {
    /// What it competes with.
    pub(in crate::service) flow: Flow,
    pub(in crate::service) password: Password,
    /// The stored hash, if there is one.
    pub(in crate::service) stored: Option<String>,
    /// Whether a weak hash is replaced.
    pub(in crate::service) upgrade: bool,
    /// What is audited if it is wrong.
    pub(in crate::service) attempt: &'a AuditDraft,
    /// The error of a wrong password.
    pub(in crate::service) wrong: fn() -> Error,
}

/// A new password, to be hashed.
pub(in crate::service) struct NewHash<'a> {
    /// What it competes with.
    pub(in crate::service) flow: Flow,
    /// Where the request has the password.
    pub(in crate::service) field: &'static str,
    pub(in crate::service) password: Password,
    /// The phone numbers of its account.
    pub(in crate::service) phones: &'a [&'a PhoneNumber],
}

impl Claim {
    /// Of the operator at the command line, who is not throttled.
    pub(in crate::service) fn unlimited(throttle: &Throttle) -> Self {
        Self::new(throttle.guard(Reservation::default()), SuccessPermit::default())
    }

    pub(in crate::service) fn new(reservation: ReservationGuard, success: SuccessPermit) -> Self {
        Self { reservation, success }
    }

    /// Returns the reservation to a transaction that gives it back.
    fn for_transaction(&self) -> Reservation {
        self.success.keep();
        self.reservation.settle();
        Reservation::clone(&self.reservation)
    }

    /// The password was wrong.
    fn fail(&self) {
        self.reservation.settle();
    }

    /// The password was right, and there is no transaction to give the reservation back.
    async fn succeed(&self) {
        self.success.keep();
        self.reservation.give_back().await;
    }
}

impl Accounts {
    /// Checks a password. A right one returns the verdict and the reservation, to be given back in the transaction of
    /// the success.
    ///
    /// # Errors
    /// That of a wrong password, after it was audited; [`Error::Overloaded`]; [`Error::Internal`] when the hash cannot
    /// be read. Of the latter two nothing counts.
    pub(in crate::service) async fn check_password(
        &self,
        claim: Claim,
        check: Check<'_>,
    ) -> Result<(Verdict, Reservation), Error> {
        let Check {
            flow,
            password,
            stored,
            upgrade,
            attempt,
            wrong,
        } = check;
        let claim = Arc::new(claim);
        let left = claim.clone();
        let leave = |pending| self.settle_later(pending, left, attempt.clone(), wrong);
        match self.hasher.verify(flow, password, stored, upgrade, leave).await {
            Ok(Verdict::Wrong) => {
                claim.fail();
                self.audit.refused(attempt, Err(wrong())).await
            }
            Ok(verdict) => Ok((verdict, claim.for_transaction())),
            Err(error) => {
                claim.reservation.give_back().await;
                Err(error)
            }
        }
    }

    /// Applies the password policy to a new password, and hashes it. Returns the reservation, too, to be given back in
    /// the transaction of the success. Nothing is learned of an account by a hash alone, so a caller that leaves gets
    /// the attempt back.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the policy rejects the password, which counts for the client address only;
    /// [`Error::Overloaded`] and [`Error::Internal`], and then nothing counts.
    pub(in crate::service) async fn hash_password(
        &self,
        claim: Claim,
        new: NewHash<'_>,
    ) -> Result<(String, Reservation), Error> {
        let NewHash {
            flow,
            field,
            password,
            phones,
        } = new;
        let accepted = match self.passwords.accept(field, password, phones).await {
            Ok(accepted) => accepted,
            // A user who has to choose another password has guessed nothing, but has had the database work.
            Err(rejected) => {
                claim.reservation.settle();
                let rest = claim.reservation.without_address();
                self.throttle.guard(rest).give_back().await;
                return Err(rejected);
            }
        };
        // The threads have worked for it all the same.
        let leave = |_| claim.success.keep();
        match self.hasher.hash(flow, accepted, leave).await {
            Ok(hash) => Ok((hash, claim.for_transaction())),
            Err(error) => {
                claim.reservation.give_back().await;
                Err(error)
            }
        }
    }

    /// Settles an attempt by its result when its caller has left.
    fn settle_later(
        &self,
        pending: Pending<Verdict>,
        claim: Arc<Claim>,
        attempt: AuditDraft,
        wrong: fn() -> Error,
    ) {
        let audit = self.audit.clone();
        let settle = async move {
            match pending.result().await {
                Some(Verdict::Wrong) => {
                    claim.fail();
                    // The refusal itself is the outcome.
                    if let Err(Error::DatabaseUnavailable(error)) =
                        audit.refused(&attempt, Err::<(), _>(wrong())).await
                    {
                        tracing::warn!(error = chain(&error), "a refusal was not audited");
                    }
                }
                Some(Verdict::Right | Verdict::RightButWeak { .. }) => claim.succeed().await,
                None => claim.reservation.give_back().await,
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.spawn_on(settle.in_current_span(), &runtime);
        }
    }
}
