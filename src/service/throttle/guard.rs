//! RAII guard of a reservation: an attempt whose caller left before anything was hashed is given back.
//!
//! Clients give up while a busy replica has their call in its queue. Nothing was hashed then, so the call was no guess, and it must not
//! delay the next one.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Reservation, Throttle};

/// Maximum number of attempts that are being given back for callers that left. Beyond it they count, and are forgotten with time.
const MAX_RETURNS: usize = 1024;

/// Gives attempts back in tasks of their own. Cheap to clone.
#[derive(Clone)]
pub(super) struct Returns {
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Returns {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            permits: Arc::new(Semaphore::new(MAX_RETURNS)),
        }
    }
}

/// A reservation that is given back when it is dropped, unless it was settled.
#[must_use]
pub struct ReservationGuard {
    reservation: Reservation,
    throttle: Throttle,
    is_settled: AtomicBool,
}

impl Deref for ReservationGuard {
    type Target = Reservation;

    fn deref(&self) -> &Reservation {
        &self.reservation
    }
}

impl ReservationGuard {
    pub(super) fn new(reservation: Reservation, throttle: Throttle) -> Self {
        Self {
            reservation,
            throttle,
            is_settled: AtomicBool::new(false),
        }
    }

    /// Counts the attempt, or leaves it to a transaction to give it back.
    pub fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    /// Gives the attempt back, once, even if the caller goes meanwhile.
    pub async fn give_back(&self) {
        if self.is_settled.swap(true, Ordering::AcqRel) || self.reservation.0.is_empty() {
            return;
        }
        match self.begin() {
            // It ends by itself, and says so in the log if it fails.
            Some(task) => drop(task.await),
            None => self.throttle.give_back(&self.reservation).await,
        }
    }

    /// Gives the attempt back in a task of its own, if there may be one more.
    fn begin(&self) -> Option<tokio::task::JoinHandle<()>> {
        let Returns { tasks, permits } = &self.throttle.returns;
        let permit = permits.clone().try_acquire_owned().ok()?;
        let runtime = Handle::try_current().ok()?;
        let (throttle, reservation) = (self.throttle.clone(), self.reservation.clone());
        let work = async move {
            throttle.give_back(&reservation).await;
            drop(permit);
        };
        Some(tasks.spawn_on(work.in_current_span(), &runtime))
    }
}

impl Drop for ReservationGuard {
    fn drop(&mut self) {
        if !*self.is_settled.get_mut() && !self.reservation.0.is_empty() && self.begin().is_none() {
            tracing::debug!("an attempt counts whose caller left, since many others are being given back");
        }
    }
}
