//! A replica is ready as long as it can write.

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::scene::{RECOVERY, Scene};
use crate::support::binary::ServerProcess;
use crate::support::cluster::Cluster;
use crate::support::proxy::OldConnections;
use crate::support::{channel, http};

#[tokio::test]
async fn a_replica_that_reaches_only_a_read_only_server_is_not_ready() {
    let Some(mut scene) = Scene::start(&["--metrics-listen=127.0.0.1:0"]).await else {
        return;
    };
    let mut probe = Probe::of(&scene.here).await;
    probe.turns(true, "started").await;

    // The connections stay open.
    Cluster::set_read_only(scene.cluster.primary(), true).await;
    probe.turns(false, "read-only").await;
    Cluster::set_read_only(scene.cluster.primary(), false).await;
    probe.turns(true, "writable again").await;

    // A new primary.
    scene.switch_over().await;
    probe.turns(false, "read-only before a failover").await;
    scene.lead_to_primary(OldConnections::Kept);
    probe.turns(true, "failed over").await;
}

pub(super) struct Probe {
    health: HealthClient<Channel>,
    metrics: std::net::SocketAddr,
}

impl Probe {
    /// For a replica with `--metrics-listen`.
    pub(super) async fn of(service: &ServerProcess) -> Self {
        Self {
            health: HealthClient::new(channel(service.address).await),
            metrics: service.metrics.unwrap(),
        }
    }

    /// Waits until gRPC health and `/readyz` both have the expected readiness of the replica, at most [`RECOVERY`].
    pub(super) async fn turns(&mut self, is_ready: bool, name: &str) {
        let begun = Instant::now();
        let wanted = match is_ready {
            true => (ServingStatus::Serving, 200),
            false => (ServingStatus::NotServing, 503),
        };
        let mut ticks = interval(Duration::from_millis(10));
        let mut is_so = wanted;
        let turning = async {
            loop {
                is_so = self.ask().await;
                if is_so == wanted {
                    break;
                }
                ticks.tick().await;
            }
        };
        let outcome = timeout(RECOVERY, turning).await;
        eprintln!("readiness, {name}: {is_so:?} after {:?}", begun.elapsed());
        assert!(
            outcome.is_ok(),
            "{name}: not {wanted:?} within {RECOVERY:?}: {is_so:?}"
        );
    }

    async fn ask(&mut self) -> (ServingStatus, u16) {
        let service = "readiness".to_owned();
        let health = self.health.check(HealthCheckRequest { service }).await;
        let health = health.unwrap().into_inner().status();
        (health, http::get(self.metrics, "/readyz").await.0)
    }
}
