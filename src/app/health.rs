//! Health reporting for probes, by gRPC and by HTTP.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::grpc::{PHONE_IDENTITY, PHONE_IDENTITY_ADMIN, PHONE_VERIFICATION};
use crate::metrics::Readiness;
use crate::service::sessions::Sessions;

/// Health services that report whether the server is ready for calls.
const READINESS: [&str; 5] = [
    "",
    PHONE_IDENTITY,
    PHONE_IDENTITY_ADMIN,
    PHONE_VERIFICATION,
    "readiness",
];

/// Health service that reports whether the process is alive.
const LIVENESS: &str = "liveness";

/// Interval of checks whether the database responds.
const READINESS_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum delay of the change-log follower before the database counts as down. It is longer than a hiccup of a disk or
/// a network, because all replicas notice one at once, and load balancers would remove all of them.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// Health status, the same by gRPC and by HTTP.
pub(super) struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
}

impl Health {
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Self {
            reporter,
            readiness: Readiness::default(),
        }
    }

    /// Returns the readiness for the HTTP listener.
    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Reports that the process is alive and not ready. (tonic-health reports SERVING from the start.) Connections wait
    /// until the database has responded.
    pub(super) async fn begin(&self) {
        self.set_ready(false).await;
        self.reporter
            .set_service_status(LIVENESS, ServingStatus::Serving)
            .await;
    }

    /// Sets whether the server is ready for calls.
    pub(super) async fn set_ready(&self, is_ready: bool) {
        self.readiness.set(is_ready);
        let status = if is_ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in READINESS {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Reports whether a database that accepts writes responds, until the future is dropped. The change-log follower,
    /// which reads continuously, and the write probe detect that. The database counts as down when the follower has
    /// completed no reading for longer than `max_reading_age`.
    pub(super) async fn report(&self, sessions: &Sessions, max_reading_age: Duration) -> Infallible {
        let mut is_serving = true;
        // Before that the follower may not have started.
        let mut ticks = interval_at(Instant::now() + max_reading_age, READINESS_INTERVAL);
        loop {
            ticks.tick().await;
            let is_up = sessions.metrics().is_database_up(max_reading_age);
            if is_up == is_serving {
                continue;
            }
            is_serving = is_up;
            if is_up {
                tracing::info!("serving: the database responds and accepts writes again");
            } else {
                tracing::warn!("not serving: no database that accepts writes responds");
            }
            self.set_ready(is_up).await;
        }
    }
}
