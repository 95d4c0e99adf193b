//! GCRA rate limiter of sign-ins and other uses of a right password, by calling service and client network.
//!
//! Failures are limited by the attempts in the database. A right password is given back there, so without this limit a
//! client with accounts of its own could use all hashing threads. The limiter is in memory, so the limit is per
//! replica: it protects the threads of this process. Calls without a client address have no limit, since they would
//! share one.
//!
//! A known device has a small allowance of its own, for when its network has used up the allowance of the network:
//! neighbours behind the same carrier-grade NAT must not keep it out. It is small since a device token costs an
//! attacker one sign-in.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::domain::access::Caller;
use crate::domain::network::{Network, Prefix};
use crate::domain::session::DeviceId;
use crate::domain::throttle::{Limit, SubjectKind};
use crate::service::error::Error;

/// Maximum number of prefixes and devices in memory, of about 150 bytes each.
const KEYS: usize = 20_000;

/// A known device may use one part in so many of the burst of a network.
const DEVICE_BURST: u32 = 60;

/// A known device may use one part in so many of the rate of a network.
const DEVICE_RATE: u32 = 600;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum SuccessKey {
    Network(Option<Arc<str>>, Prefix),
    Device(DeviceId),
}

/// Theoretical arrival time, since boot.
type ArrivalTime = Arc<Mutex<Duration>>;

/// The limiter. Cheap to clone.
#[derive(Clone)]
pub(super) struct Successes {
    clock: Arc<dyn Clock>,
    limit: Option<Limit>,
    times: Arc<Cache<SuccessKey, ArrivalTime>>,
}

/// A success that is under way. It counts if it is kept, and is returned when it is dropped otherwise.
#[derive(Default)]
#[must_use]
pub struct SuccessPermit {
    taken: Vec<(ArrivalTime, Duration)>,
    is_kept: AtomicBool,
}

impl SuccessPermit {
    /// Counts the success.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }
}

impl Drop for SuccessPermit {
    fn drop(&mut self) {
        if !*self.is_kept.get_mut() {
            for (time, interval) in &self.taken {
                let mut time = time.lock().unwrap_or_else(PoisonError::into_inner);
                *time = time.saturating_sub(*interval);
            }
        }
    }
}

impl Successes {
    pub(super) fn new(clock: Arc<dyn Clock>, limit: Option<Limit>) -> Self {
        Self {
            clock,
            limit,
            times: Arc::new(Cache::new(KEYS)),
        }
    }

    /// Takes a permit for a success from this address by this service, or on this known device.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`] by address.
    pub(super) fn admit(
        &self,
        address: Option<IpAddr>,
        caller: &Caller,
        device: Option<DeviceId>,
    ) -> Result<SuccessPermit, Error> {
        let (Some(limit), Some(address)) = (self.limit, address) else {
            return Ok(SuccessPermit::default());
        };
        let prefixes = Network::of(address).prefixes();
        let keys = prefixes.map(|prefix| {
            let key = SuccessKey::Network(caller.service.clone(), prefix);
            (key, limit, prefix.factor())
        });
        let by_network = self.take(keys);
        match (by_network, device) {
            (Err(_), Some(device)) => {
                let limit = Limit {
                    free: (limit.free / DEVICE_BURST).max(1),
                    recovery: limit.recovery.saturating_mul(DEVICE_RATE),
                };
                self.take([(SuccessKey::Device(device), limit, 1)])
            }
            (by_network, _) => by_network,
        }
        .map_err(|retry_after| Error::TooManyAttempts {
            retry_after,
            by: SubjectKind::Address,
        })
    }

    /// Takes one of each, or none. A key may use `factor` times the limit.
    fn take(
        &self,
        keys: impl IntoIterator<Item = (SuccessKey, Limit, u32)>,
    ) -> Result<SuccessPermit, Duration> {
        let now = self.clock.since_boot();
        let mut permit = SuccessPermit::default();
        for (key, limit, factor) in keys {
            let Ok(time) = self
                .times
                .get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(ArrivalTime::default()));
            let interval = limit.recovery / factor.max(1);
            // `factor` times as many in the same time.
            let latest = now + limit.recovery.saturating_mul(limit.free);
            {
                let mut time = time.lock().unwrap_or_else(PoisonError::into_inner);
                let next = (*time).max(now) + interval;
                if next > latest {
                    return Err(next - latest);
                }
                *time = next;
            }
            permit.taken.push((time, interval));
        }
        Ok(permit)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: Limit = Limit {
        free: 120,
        recovery: Duration::from_millis(100),
    };

    struct SuccessesScene {
        clock: Arc<ManualClock>,
        successes: Successes,
    }

    impl SuccessesScene {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH + TimeDelta::days(9)));
            let successes = Successes::new(clock.clone(), Some(LIMIT));
            Self { clock, successes }
        }

        fn admit(
            &self,
            service: &str,
            address: &str,
            device: Option<u128>,
        ) -> Result<SuccessPermit, Duration> {
            let caller = Caller {
                service: Some(service.into()),
                request_id: None,
            };
            let device = device.map(|id| DeviceId(Uuid::from_u128(id)));
            let admitted = self.successes.admit(address.parse().ok(), &caller, device);
            admitted.map_err(|error| match error {
                Error::TooManyAttempts { retry_after, by } => {
                    assert_eq!(by, SubjectKind::Address);
                    retry_after
                }
                other => panic!("{other:?}"),
            })
        }

        /// How many succeed before one is refused, and its wait.
        fn succeed(&self, address: &str, device: Option<u128>) -> (u32, Duration) {
            for count in 0.. {
                match self.admit("shop", address, device) {
                    Ok(permit) => permit.keep(),
                    Err(wait) => return (count, wait),
                }
            }
            unreachable!("it has a limit")
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let scene = SuccessesScene::new();
        assert_eq!(
            scene.succeed("192.0.2.7", None),
            (120, Duration::from_millis(100))
        );
        scene.clock.advance(Duration::from_millis(250));
        assert_eq!(scene.succeed("192.0.2.7", None), (2, Duration::from_millis(50)));
        // Any other network and service goes on, and so do calls without an address.
        assert!(scene.admit("shop", "192.0.2.8", None).is_ok());
        assert!(scene.admit("bank", "192.0.2.7", None).is_ok());
        for _ in 0..500 {
            scene.admit("shop", "", None).unwrap().keep();
        }
        scene.clock.advance(Duration::from_hours(1));
        assert_eq!(scene.succeed("192.0.2.7", None).0, 120);
    }

    #[test]
    fn a_permit_without_a_success_is_returned() {
        let scene = SuccessesScene::new();
        for _ in 0..500 {
            drop(scene.admit("shop", "2001:db8::1", None).unwrap());
        }
        assert_eq!(scene.succeed("2001:db8::1", None).0, 120);
        // A refusal by one prefix takes nothing of the others.
        for _ in 0..500 {
            assert!(scene.admit("shop", "2001:db8::2", None).is_err());
        }
        assert_eq!(scene.succeed("2001:db8:0:1::1", None).0, 120);
    }

    #[test]
    fn under_way_they_count() {
        let scene = SuccessesScene::new();
        let permits: Vec<_> = (0..120).map(|_| scene.admit("shop", "192.0.2.7", None)).collect();
        assert!(permits.iter().all(Result::is_ok));
        assert!(scene.admit("shop", "192.0.2.7", None).is_err());
        drop(permits);
        assert!(scene.admit("shop", "192.0.2.7", None).is_ok());
    }

    #[test]
    fn a_site_of_ipv6_gets_four_times_what_an_address_gets() {
        let scene = SuccessesScene::new();
        let all: u32 = (0..600)
            .map(|subnet| scene.succeed(&format!("2001:db8:0:{subnet:x}::1"), None).0)
            .sum();
        assert_eq!(all, 4 * 120);
    }

    #[test]
    fn a_known_device_has_an_allowance_of_its_own_when_that_of_its_network_is_used_up() {
        let scene = SuccessesScene::new();
        assert_eq!(scene.succeed("192.0.2.7", Some(1)).0, 120 + 2);
        let minute = Duration::from_mins(1);
        assert_eq!(scene.succeed("192.0.2.7", Some(1)), (0, minute));
        assert_eq!(scene.succeed("192.0.2.7", Some(2)), (2, minute));
    }
}
