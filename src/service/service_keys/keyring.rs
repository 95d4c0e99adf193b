//! The service keys that are good, in memory.
//!
//! All of them are read again and again, as the change log is, so that a call asks no database. Two rules keep what is
//! in memory as good as the database:
//!
//! - **A key that is known** is good only if it was read by a query that was sent at most the staleness bound ago. So a
//!   key that was revoked is good for no longer than that, on every replica.
//! - **Otherwise the call waits** for the next reading that begins after it: because what was read is too old, or
//!   because the key is not among it and may have been made just now. If that reading does not come in time, the
//!   database is unavailable, and so is whatever was to be called. Nothing is guessed.

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

/// The most keys that are read: more than may be made, since several may be made at once.
const LIMIT: u64 = 2 * MAX_LIVE;

/// How much longer than the time between two readings a call waits for one, and how long one may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys that are good. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<KeyringState>);

struct KeyringState {
    store: Store,
    clock: Arc<dyn Clock>,
    /// How old the last reading may be.
    bound: Duration,
    /// How often the keys are read.
    period: Duration,
    /// How many readings have begun.
    readings: AtomicU64,
    known: watch::Sender<Known>,
}

/// What a reading found.
struct Known {
    services: HashMap<TokenHash, Arc<Service>>,
    /// The time since boot before the query was sent.
    asked_at: Duration,
    /// Which reading it was, from 1 on.
    reading: u64,
}

impl Keyring {
    /// Reads the keys once. [`Self::run`] goes on with it, every `period`.
    ///
    /// # Errors
    /// When the database fails.
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

    /// Reads the keys every period. A failure is told when it begins and when it ends, and not at every reading.
    pub async fn run(self) {
        let mut ticks = interval(self.0.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match timeout(PATIENCE, self.read())
                .await
                .unwrap_or_else(|_| Err(late()))
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
                            "service keys not read: calls with one wait"
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
        // Not the time of the answer: the database may have looked long before it arrives.
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

    /// Says whose key this is. `None`: nobody's, or it was revoked.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] when that is not known.
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
        match timeout(self.0.period + PATIENCE, newer).await {
            Ok(Ok(known)) => Ok(known.services.get(&hash).cloned()),
            Ok(Err(_)) | Err(_) => Err(late().into()),
        }
    }

    /// What the last reading says, if it is recent enough. The time is asked last: a process that was stopped in
    /// between must not say yes.
    fn find_recent(&self, hash: &TokenHash) -> Option<Arc<Service>> {
        let (service, asked_at) = {
            let known = self.0.known.borrow();
            (known.services.get(hash)?.clone(), known.asked_at)
        };
        let age = self.0.clock.since_boot().saturating_sub(asked_at);
        (age <= self.0.bound).then_some(service)
    }
}

fn late() -> StoreError {
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

    /// A keyring that nobody reads again, on a database of its own with one key.
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

    /// A key may be revoked while the answer that it is good is under way.
    #[tokio::test]
    async fn what_was_read_is_as_old_as_its_question() {
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
        let late = keyring.find(key.expose()).await;
        assert!(matches!(late, Err(Error::DatabaseUnavailable(_))), "{late:?}");
        keyring.read().await.unwrap();
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
    }

    /// Keys that cannot be read are good for as long as the last reading is recent, and then nothing is known.
    #[tokio::test]
    async fn what_was_read_too_long_ago_is_no_answer() {
        let Prepared {
            clock,
            store,
            keyring,
            key,
            _folder,
        } = prepare().await;
        // Nobody reads, so what is not known is not known to be nobody's.
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        let never_made = PlainToken::generate_for_service().unwrap();
        let unknown = keyring.find(never_made.expose()).await;
        assert!(
            matches!(unknown, Err(Error::DatabaseUnavailable(_))),
            "{unknown:?}"
        );
        assert!(keyring.find("nothing").await.unwrap().is_none());
        clock.advance(BOUND);
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        clock.advance(Duration::from_micros(1));
        let late = keyring.find(key.expose()).await;
        assert!(matches!(late, Err(Error::DatabaseUnavailable(_))), "{late:?}");

        let reader = tokio::spawn(keyring.clone().run());
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        assert!(keyring.find(never_made.expose()).await.unwrap().is_none());
        // From here on no reading succeeds.
        let drop_table = "DROP TABLE service_keys";
        store.writer().execute_unprepared(drop_table).await.unwrap();
        let unknown = keyring.find(never_made.expose()).await;
        assert!(
            matches!(unknown, Err(Error::DatabaseUnavailable(_))),
            "{unknown:?}"
        );
        assert!(keyring.find(key.expose()).await.unwrap().is_some());
        reader.abort();
    }
}
