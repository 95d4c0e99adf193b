//! Health: what probes are told, by gRPC and by HTTP.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::grpc::{PHONE_IDENTITY, PHONE_IDENTITY_ADMIN, PHONE_VERIFICATION};
use crate::metrics::Readiness;
use crate::service::sessions::Sessions;

/// The names under which health says whether calls can be served.
const READINESS: [&str; 5] = [
    "",
    PHONE_IDENTITY,
    PHONE_IDENTITY_ADMIN,
    PHONE_VERIFICATION,
    "readiness",
];

/// The name under which health says whether the process lives.
const LIVENESS: &str = "liveness";

/// How often it is looked at whether the database answers.
const READINESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long the reader of the change log may be late before the database is said not to answer: longer than a moment in
/// which a disk or a network hesitates, since all replicas are told of it at once, and none would be asked any more.
pub(super) const SLOW: Duration = Duration::from_secs(2);

/// Whoever asks for health is told the same, by gRPC and by HTTP.
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

    /// What HTTP is told by.
    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The process lives, and cannot serve calls yet. (tonic-health says SERVING from the start.) Connections wait in
    /// line until the database has answered.
    pub(super) async fn begin(&self) {
        self.set_ready(false).await;
        self.reporter
            .set_service_status(LIVENESS, ServingStatus::Serving)
            .await;
    }

    /// Says whether calls can be served.
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

    /// Reports whether a database that accepts writes answers, for as long as it is polled. The change-log follower,
    /// which reads all the time, and the write probe know that. The database does not answer when the follower has
    /// completed no reading for longer than `patience`.
    pub(super) async fn tell(&self, sessions: &Sessions, patience: Duration) -> Infallible {
        let mut is_serving = true;
        // Until then the reader may be about to begin.
        let mut ticks = interval_at(Instant::now() + patience, READINESS_INTERVAL);
        loop {
            ticks.tick().await;
            let is_up = sessions.metrics().is_database_up(patience);
            if is_up == is_serving {
                continue;
            }
            is_serving = is_up;
            if is_up {
                tracing::info!("serving: the database answers and accepts writes again");
            } else {
                tracing::warn!("not serving: no database that accepts writes answers");
            }
            self.set_ready(is_up).await;
        }
    }
}
