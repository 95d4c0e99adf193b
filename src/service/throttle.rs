//! GCRA rate limiter of guesses, in the database, so that all replicas count together.
//!
//! An attempt is written before anything is hashed, and is given back only when it succeeded, or when nothing was
//! hashed. So neither concurrent attempts, nor a call that is dropped during its hash, nor a killed process has guesses
//! for free. The limiter runs the same statements for a number with an account as for one without.
//!
//! Successes have a limit of their own, in memory: `successes`.

mod creation;
mod give_back;
mod guard;
mod refusals;
mod reserve;
mod successes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::error::Error;
use crate::clock::Clock;
use crate::domain::access::Caller;
use crate::domain::network::Network;
use crate::domain::session::DeviceId;
use crate::domain::throttle::{Delays, Limit, Subject, SubjectId, SubjectKind};
use crate::store::Store;
use crate::store::attempts::AttemptRow;
pub(super) use creation::creations;
pub use give_back::GivenBack;
pub use guard::ReservationGuard;
use guard::Returns;
use refusals::Refusals;
pub use successes::SuccessPermit;
use successes::Successes;

/// The settings of throttling. A subject without a limit is not counted.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleLimits {
    /// Passwords for a phone number, from sessions of a user, or on a known device of a user.
    pub number: Option<Limit>,
    /// Claims of a phone number.
    pub phone_claim: Option<Limit>,
    /// Codes that are sent to a phone number, or requested on a known device.
    pub code: Option<Limit>,
    /// Wrong codes for a phone number, over all its challenges.
    pub code_guess: Option<Limit>,
    /// Attempts from a client address. The networks of the address have a multiple of it: see [`Network::prefixes`].
    pub address: Option<Limit>,
    /// Accounts that strangers create from a client address. The networks of the address have a multiple of it.
    pub creation: Option<Limit>,
    /// Attempts by a calling service.
    pub service: Option<Limit>,
    /// Right passwords from a client network by a calling service: the burst, and the interval between further ones.
    pub success: Option<Limit>,
    /// Delays between attempts beyond the limits.
    pub delays: Delays,
}

/// Limits attempts. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: ThrottleLimits,
    refusals: Refusals,
    successes: Successes,
    returns: Returns,
}

/// A subject with a limit.
#[derive(Clone, Copy)]
struct Limited {
    subject: SubjectId,
    kind: SubjectKind,
    limit: Limit,
    delays: Delays,
}

/// An attempt in progress. It counts as a failure until it is given back.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Reservation(Vec<Reserved>);

impl Reservation {
    /// Returns whether no other attempt counts in its rows.
    fn is_all_new(&self) -> bool {
        self.0.iter().all(|one| one.is_new)
    }
}

/// The row of an attempt for one subject.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    kind: SubjectKind,
    /// The written row.
    row: AttemptRow,
    /// Whether the row was new.
    is_new: bool,
    /// The time by which the attempt extended the memory of the subject.
    added: Duration,
}

impl Throttle {
    /// Limits by the attempts in this store. `tasks` tracks the writes that finish before the process ends.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: ThrottleLimits, tasks: TaskTracker) -> Self {
        Self {
            store,
            refusals: Refusals::new(clock.clone()),
            successes: Successes::new(clock.clone(), limits.success),
            returns: Returns::new(tasks),
            clock,
            limits,
        }
    }

    /// Reserves an attempt on these subjects, on the networks of the client address, and on the calling service.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`], and then nothing is reserved.
    pub async fn reserve(
        &self,
        subjects: &[Subject<'_>],
        address: Option<IpAddr>,
        caller: &Caller,
    ) -> Result<Reservation, Error> {
        let prefixes = address
            .into_iter()
            .flat_map(|address| Network::of(address).prefixes());
        let network = prefixes.map(Subject::Address);
        let service = Subject::Service(caller.service.as_deref());
        let all = subjects.iter().copied().chain(network).chain([service]);
        self.reserve_all(all.filter_map(|subject| self.limited(&subject)))
            .await
    }

    /// Reserves an attempt on one subject only.
    ///
    /// # Errors
    /// Those of [`Self::reserve`].
    pub async fn reserve_only(&self, subject: Subject<'_>) -> Result<Reservation, Error> {
        self.reserve_all(self.limited(&subject)).await
    }

    /// Returns a permit for a right password from this address by this service, or on this known device. Call it before
    /// anything is reserved.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`].
    pub fn admit_success(
        &self,
        address: Option<IpAddr>,
        caller: &Caller,
        device: Option<DeviceId>,
    ) -> Result<SuccessPermit, Error> {
        self.successes.admit(address, caller, device)
    }

    /// A guard that gives the reservation back when it is dropped, unless it was settled.
    pub fn guard(&self, reservation: Reservation) -> ReservationGuard {
        ReservationGuard::new(reservation, self.clone())
    }

    fn limited(&self, subject: &Subject<'_>) -> Option<Limited> {
        let limit = match subject {
            Subject::SignIn(_) | Subject::Person(_) | Subject::Device(_) => self.limits.number,
            Subject::PhoneClaim(_) => self.limits.phone_claim,
            Subject::Code(_) | Subject::CodeFrom(..) | Subject::KnownCode(_) => self.limits.code,
            Subject::CodeGuess(_) | Subject::KnownCodeGuess(_) => self.limits.code_guess,
            Subject::Address(_) => self.limits.address,
            Subject::Creation(_) => self.limits.creation,
            Subject::Service(_) => self.limits.service,
        };
        let limit = limit?.times(subject.factor());
        Some(Limited {
            subject: subject.id(),
            kind: subject.kind(),
            limit,
            delays: subject.delays(&limit, self.limits.delays),
        })
    }
}

fn count_of<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}
