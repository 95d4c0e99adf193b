//! The valid service keys, in memory.
//!
//! All of them are read periodically, like the change log, so that a call queries no database. Two rules keep the
//! memory as reliable as the database:
//!
//! - **A known key** is valid only if the query that returned it was sent at most one staleness bound ago. A revoked
//!   key is therefore valid for no longer than that, on every replica.
//! - **Otherwise the call waits** for the next reading that begins after it: the last reading is too old, or the key is
//!   missing from it and may just have been created. If that reading does not complete in time, the call fails because
//!   the database is unavailable. The service never guesses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::MAX_LIVE;
use crate::clock::Clock;
use crate::domain::access::Service;
use crate::domain::token::TokenHash;
use crate::service::error::{Error, chain};
use crate::store::{Store, StoreError, service_keys};

/// Maximum number of keys per reading: above the limit of creation, since several keys may be created concurrently.
const LIMIT: u64 = 2 * MAX_LIVE;

/// Timeout of a reading, and of a call that waits for one in addition to the period.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The valid keys. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<KeyringState>);

struct KeyringState {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Maximum age of the last reading.
    bound: Duration,
    /// Interval between two readings.
    period: Duration,
    /// Number of readings that have begun.
    readings: AtomicU64,
    known: watch::Sender<Known>,
}

/// Result of a reading.
struct Known {
    services: HashMap<TokenHash, Arc<Service>>,
    /// Time since boot before the query was sent.
    asked_at: Duration,
    /// Number of the reading, from 1.
    reading: u64,
}

impl Keyring {
    /// Reads the keys once. [`Self::run`] reads them again at every `period`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        bound: Duration,
        period: Duration,
    ) -> Result<Self, StoreError> {
        let nothing = Known {
            services: HashMap::new(),
            asked_at: Duration::ZERO,
            reading: 0,
        };
        let keyring = Self(Arc::new(KeyringState {
            store,
            clock,
            bound,
            period,
            readings: AtomicU64::new(0),
            known: watch::Sender::new(nothing),
        }));
        keyring.read().await?;
        Ok(keyring)
    }

    /// Reads the keys at every period. Logs the start and the end of a failure, not every failed reading.
    pub async fn run(self) {
        let mut ticks = interval(self.0.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match timeout(READ_TIMEOUT, self.read())
                .await
                .unwrap_or_else(|_| Err(not_read_in_time()))
            {
                Ok(()) => {
                    if is_failing {
                        tracing::info!("the service keys are read again");
                    }
                    is_failing = false;
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(
                            error = chain(&error),
                            "service keys not read: calls with a service key wait"
                        );
                    }
                    is_failing = true;
                }
            }
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        let KeyringState {
            store,
            clock,
            readings,
            known,
            ..
        } = self.0.as_ref();
        let reading = readings.fetch_add(1, Ordering::SeqCst) + 1;
        // The time before the query, not that of the answer: the database may have read the keys long before the answer
        // arrives.
        let asked_at = clock.since_boot();
        let keys = service_keys::live(store.tail(), LIMIT).await?;
        let services = keys.into_iter().map(|(hash, key)| {
            let service = Service {
                name: key.name.as_str().into(),
                rights: key.rights,
            };
            (hash, Arc::new(service))
        });
        known.send_replace(Known {
            services: services.collect(),
            asked_at,
            reading,
        });
        Ok(())
    }

    /// Returns the owner of this key. `None`: the key is unknown or revoked.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]: the keys were not read in time.
    pub async fn find(&self, key: &str) -> Result<Option<Arc<Service>>, Error> {
        let Ok(hash) = TokenHash::of_service(key) else {
            return Ok(None);
        };
        let begun = self.0.readings.load(Ordering::SeqCst);
        if let Some(service) = self.find_recent(&hash) {
            return Ok(Some(service));
        }
        let mut known = self.0.known.subscribe();
        let newer = known.wait_for(|known| known.reading > begun);
        match timeout(self.0.period + READ_TIMEOUT, newer).await {
            Ok(Ok(known)) => Ok(known.services.get(&hash).cloned()),
            Ok(Err(_)) | Err(_) => Err(not_read_in_time().into()),
        }
    }

    /// Returns the owner by the last reading, if it is recent enough. The time is read last: a process that was stopped
    /// in between must not accept the key.
    fn find_recent(&self, hash: &TokenHash) -> Option<Arc<Service>> {
        let (service, asked_at) = {
            let known = self.0.known.borrow();
            (known.services.get(hash)?.clone(), known.asked_at)
        };
        let age = self.0.clock.since_boot().saturating_sub(asked_at);
        (age <= self.0.bound).then_some(service)
    }
}

fn not_read_in_time() -> StoreError {
    StoreError::unavailable("the service keys were not read in time")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use sea_orm::ConnectionTrait as _;

    use super::super::ServiceKeys;
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::access::Rights;
    use crate::domain::token::PlainToken;
    use crate::store;

    const BOUND: Duration = Duration::from_secs(1);

    /// A keyring without periodic readings, on a database of its own with one key.
    struct Prepared {
        clock: Arc<ManualClock>,
        store: Store,
        keyring: Keyring,
        key: PlainToken,
        _folder: tempfile::TempDir,
    }

    async fn prepare() -> Prepared {
        let folder = tempfile::tempdir().unwrap();
        let start = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let store = store::testing::in_folder(folder.path()).await;
        let keys = ServiceKeys::new(store.clone(), clock.clone());
        let name = "orders".parse().unwrap();
        let (key, _) = keys.create(name, Rights::ALL).await.unwrap().unwrap();
        let period = Duration::from_millis(10);
        let keyring = Keyring::open(store.clone(), clock.clone(), BOUND, period)
            .await
            .unwrap();
        Prepared {
            clock,
            store,
            keyring,
            key,
            _folder: folder,
        }
    }

    /// A key may be revoked while the answer that it is valid is under way.
    #[tokio::test]
    async fn a_reading_is_as_old_as_its_query() {
        let Prepared {
            clock,
            store,
            keyring,
            key,
            _folder,
        } = prepare().await;
        clock.advance(2 * BOUND);
        let occupied = store.tail().occupy().await;
        let reading = tokio::spawn({
            let keyring = keyring.clone();
            async move { keyring.read().await }
        });
        // This test has one thread: the other task runs until it waits for the connection.
        tokio::task::yield_now().await;
        assert_eq!(keyring.0.readings.load(Ordering::SeqCst), 2);
        clock.advance(BOUND + Duration::from_micros(1));
        drop(occupied);
        reading.await.unwrap().unwrap();
        let outcome = keyring.find(key.expose()).await;
        assert!(
            matches!(outcome, Err(Error::DatabaseUnavailable(_))),
            "{outcome:?}"
        );
        keyring.read().await.unwrap();
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
    }

    /// Without readings, known keys stay valid while the last reading is recent. After that, no key is accepted.
    #[tokio::test]
    async fn a_reading_that_is_too_old_is_not_used() {
        let Prepared {
            clock,
            store,
            keyring,
            key,
            _folder,
        } = prepare().await;
        // There are no further readings, so an unknown key cannot be rejected as unknown.
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        let never_created = PlainToken::generate_for_service().unwrap();
        let unknown = keyring.find(never_created.expose()).await;
        assert!(
            matches!(unknown, Err(Error::DatabaseUnavailable(_))),
            "{unknown:?}"
        );
        assert!(keyring.find("nothing").await.unwrap().is_none());
        clock.advance(BOUND);
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        clock.advance(Duration::from_micros(1));
        let outcome = keyring.find(key.expose()).await;
        assert!(
            matches!(outcome, Err(Error::DatabaseUnavailable(_))),
            "{outcome:?}"
        );

        let reader = tokio::spawn(keyring.clone().run());
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        assert!(keyring.find(never_created.expose()).await.unwrap().is_none());
        // No reading succeeds from here on.
        let drop_table = "DROP TABLE service_keys";
        store.writer().execute_unprepared(drop_table).await.unwrap();
        let unknown = keyring.find(never_created.expose()).await;
        assert!(
            matches!(unknown, Err(Error::DatabaseUnavailable(_))),
            "{unknown:?}"
        );
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        reader.abort();
    }
}
