//! RAII guard of a reservation: gives an attempt back whose caller disconnected before anything was hashed.
//!
//! A client may give up while a busy replica has the call in its queue, or waits for the database. Nothing was hashed
//! then, so the call was no guess, and must not delay the next one.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Reservation, Throttle};
use crate::telemetry::tracing::TraceContext;

/// Maximum number of concurrent tasks that reserve attempts, or give them back after a disconnection. Beyond it an
/// attempt counts if its caller disconnects, and is forgotten with time.
const MAX_TASKS: usize = 1024;

/// Work that runs to its end. Boxed: otherwise the future of each caller would contain it.
type BoxedWork<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs reservations and returns of attempts in tasks, which continue after a disconnection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Returns {
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Returns {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self {
            tasks,
            permits: Arc::new(Semaphore::new(MAX_TASKS)),
        }
    }

    /// Spawns a task for the work, or returns the work when [`MAX_TASKS`] run already.
    fn begin<T: Send + 'static>(&self, work: BoxedWork<T>) -> Result<JoinHandle<T>, BoxedWork<T>> {
        let (Ok(permit), Ok(runtime)) = (self.permits.clone().try_acquire_owned(), Handle::try_current())
        else {
            return Err(work);
        };
        let trace = TraceContext::current();
        let work = async move {
            let done = trace.scope(work).await;
            drop(permit);
            done
        };
        Ok(self.tasks.spawn_on(work.in_current_span(), &runtime))
    }

    /// Runs the work to its end, even if the caller disconnects meanwhile: then the result is dropped.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        match self.begin(Box::pin(work)) {
            Ok(task) => task.await,
            Err(work) => Ok(work.await),
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

    /// Gives the attempt back, once, even if the caller disconnects meanwhile.
    pub async fn give_back(&self) {
        if self.is_settled.swap(true, Ordering::AcqRel) || self.reservation.0.is_empty() {
            return;
        }
        // The task logs its failure.
        drop(self.throttle.returns.finish(self.work()).await);
    }

    fn work(&self) -> impl Future<Output = ()> + Send + 'static {
        let (throttle, reservation) = (self.throttle.clone(), self.reservation.clone());
        async move { throttle.give_back(&reservation).await }
    }
}

impl Drop for ReservationGuard {
    fn drop(&mut self) {
        if *self.is_settled.get_mut() || self.reservation.0.is_empty() {
            return;
        }
        if self.throttle.returns.begin(Box::pin(self.work())).is_err() {
            tracing::debug!("an attempt counts whose caller left, since many others are being given back");
        }
    }
}
