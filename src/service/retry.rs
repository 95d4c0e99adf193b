//! Retry of a transaction after a conflict with another one, with random pauses.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::{Error, chain};
use crate::store::StoreError;

/// Maximum pause before each attempt after the first. The pauses are random, so that two transactions in conflict do
/// not meet again.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(90),
];

/// No attempt begins later than this after the first: a transaction that has waited so long for a lock does not wait
/// for it again. PostgreSQL looks for deadlocks after one second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a transaction, from BEGIN to COMMIT, and runs it again after a deadlock, a serialization failure or a lock
/// timeout. After these errors nothing was committed, so nothing is written twice. Any other error ends the retries,
/// and so does a lost connection: whether the COMMIT took place is unknown then.
///
/// It makes at most four attempts.
///
/// # Errors
/// That of the last attempt.
pub(super) async fn retry<T, F>(transaction: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let last_start = Instant::now() + PATIENCE;
    for pause in PAUSES {
        match transaction().await {
            Err(Error::DatabaseUnavailable(error @ StoreError::NotCommitted(_)))
                if Instant::now() < last_start =>
            {
                tracing::debug!(error = chain(&error), "a transaction is done again");
                sleep(some_of(pause)?).await;
            }
            outcome => return outcome,
        }
    }
    transaction().await
}

/// A random part of a pause.
fn some_of(pause: Duration) -> Result<Duration, Error> {
    let random = getrandom::u32().map_err(Error::internal)?;
    Ok(pause.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sea_orm::DbErr;

    use super::*;

    fn conflict() -> Error {
        StoreError::NotCommitted(DbErr::Custom("deadlock".to_owned())).into()
    }

    fn lost_connection() -> Error {
        StoreError::Unavailable(DbErr::Custom("gone".to_owned())).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_tried_again_a_few_times() {
        let attempts = Cell::new(0);
        let outcome = retry(|| async {
            attempts.set(attempts.get() + 1);
            if attempts.get() < 4 {
                Err(conflict())
            } else {
                Ok(attempts.get())
            }
        });
        assert_eq!(outcome.await.unwrap(), 4);
        attempts.set(0);
        let outcome: Result<(), _> = retry(|| async {
            attempts.set(attempts.get() + 1);
            Err(conflict())
        })
        .await;
        assert!(matches!(
            outcome,
            Err(Error::DatabaseUnavailable(StoreError::NotCommitted(_)))
        ));
        assert_eq!(attempts.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_waited_long_for_a_lock_is_not_tried_again() {
        let attempts = Cell::new(0);
        let outcome: Result<(), _> = retry(|| async {
            attempts.set(attempts.get() + 1);
            sleep(PATIENCE).await;
            Err(conflict())
        })
        .await;
        assert!(outcome.is_err());
        assert_eq!(attempts.get(), 1);
    }

    /// The lost answer may have been that of the COMMIT.
    #[tokio::test]
    async fn a_lost_connection_is_not_tried_again() {
        let attempts = Cell::new(0);
        let outcome: Result<(), _> = retry(|| async {
            attempts.set(attempts.get() + 1);
            Err(lost_connection())
        })
        .await;
        assert!(matches!(
            outcome,
            Err(Error::DatabaseUnavailable(StoreError::Unavailable(_)))
        ));
        assert_eq!(attempts.get(), 1);
    }
}
