//! A cluster, a proxy in front of it, and a replica of the service behind the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::replicas::sign_in;
use crate::support::binary::ServerProcess;
use crate::support::cluster::Cluster;
use crate::support::place::{Backend, Place};
use crate::support::proxy::{OldConnections, Proxy};
use crate::support::refusal::refusal;
use crate::support::{Client, PASSWORD, connect, credentials, next_phone_number, registration};

/// Writes succeed within this time of the moment at which the new primary is reachable.
pub(super) const RECOVERY: Duration = Duration::from_secs(5);

/// So many writes in a row are a service that has recovered.
const IN_A_ROW: usize = 40;

/// Callers at once: as many as the pool has connections, so that each connection is used.
const CALLERS: usize = 4;

/// The defaults, but for attempts: those that a failover interrupts are not counted against a user.
pub(super) const FLAGS: [&str; 5] = [
    "--database-acquire-timeout=2s",
    "--database-statement-timeout=5s",
    "--throttle-number-attempts=1000000",
    "--throttle-number-recovery=1s",
    "--throttle-address-attempts=0",
];

pub(super) struct Scene {
    /// The replica under test.
    pub(super) here: ServerProcess,
    pub(super) client: Client,
    pub(super) proxy: Proxy,
    pub(super) cluster: Cluster,
    pub(super) place: Place,
}

impl Scene {
    /// `None` on SQLite.
    pub(super) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more flags for the replica under test.
    pub(super) async fn start_with(flags: &[&str]) -> Option<Self> {
        let cluster = start_cluster().await?;
        let proxy = Proxy::to(cluster.primary().address()).await;
        let place = Place::without_database();
        let url = cluster.url(&proxy.address());
        let here = start_service(&place, &url, flags).await;
        Some(Self {
            client: connect(here.address).await,
            here,
            proxy,
            cluster,
            place,
        })
    }

    /// Another replica of the service, directly on the primary.
    pub(super) async fn on_primary(&self) -> ServerProcess {
        let url = self.cluster.url(&self.cluster.primary().address());
        start_service(&self.place, &url, &[]).await
    }

    /// A new user.
    pub(super) async fn user(&self) -> String {
        register(&mut self.client.clone()).await
    }

    /// A new session of a user.
    pub(super) async fn session(&self, user: &str) -> String {
        sign_in(&mut self.client.clone(), user).await
    }

    /// Sends new connections to the primary of the cluster. Returns when that is done.
    pub(super) fn lead_to_primary(&self, old: OldConnections) -> Instant {
        self.proxy.lead_to(self.cluster.primary().address(), old);
        Instant::now()
    }

    /// Makes the primary read-only, and promotes its replica, which has all that was acknowledged.
    pub(super) async fn switch_over(&mut self) {
        Cluster::set_read_only(self.cluster.primary(), true).await;
        self.cluster.writes_end().await;
        self.cluster.catch_up().await;
        self.cluster.promote().await;
    }
}

/// `None` on SQLite, which has no cluster.
pub(super) async fn start_cluster() -> Option<Cluster> {
    let backend = Backend::of_this_run();
    if backend == Backend::Sqlite {
        eprintln!("NOT RUN: SQLite has no network");
        return None;
    }
    Some(Cluster::start(backend).await)
}

pub(super) async fn start_service(place: &Place, url: &str, flags: &[&str]) -> ServerProcess {
    let url = format!("--database-url={url}");
    ServerProcess::start(place, &[&[url.as_str()], &FLAGS[..], flags].concat()).await
}

/// Registers a new user.
pub(super) async fn register(client: &mut Client) -> String {
    let user = next_phone_number();
    client.register(registration(&user, PASSWORD)).await.unwrap();
    user
}

/// Revokes a session, which has to succeed, and returns when that was acknowledged.
pub(super) async fn revoke(client: &mut Client, token: &str) -> Instant {
    crate::replicas::revoke(client, token).await;
    Instant::now()
}

/// Checks that a call failed as calls may fail during a failover: with UNAVAILABLE and RetryInfo.
pub(super) fn assert_unavailable(status: &Status) {
    let refused = refusal(status);
    assert_eq!(
        (refused.code, refused.retry_after.is_some()),
        (Code::Unavailable, true),
        "{status:?}"
    );
}

/// Users for the writes of [`Writes::recover`].
pub(super) struct Writes {
    client: Client,
    users: Vec<String>,
}

/// What the callers of [`Writes::recover`] have seen.
#[derive(Default)]
struct Progress {
    in_a_row: AtomicUsize,
    failures: AtomicUsize,
    first: OnceLock<Duration>,
    last_failure: Mutex<Option<(Duration, Status)>>,
}

impl Writes {
    pub(super) async fn new(client: &Client) -> Self {
        let mut users = Vec::new();
        for _ in 0..CALLERS {
            users.push(register(&mut client.clone()).await);
        }
        // Every connection of the pool is open.
        let writes = Self {
            client: client.clone(),
            users,
        };
        writes.recover("warm-up", Instant::now()).await;
        writes
    }

    /// Signs in by several callers at once until all of them succeed again, which has to be so within [`RECOVERY`] of the
    /// move to the new primary.
    pub(super) async fn recover(&self, name: &str, moved: Instant) {
        let progress = Arc::new(Progress::default());
        let mut callers = JoinSet::new();
        for user in &self.users {
            callers.spawn(keep_signing_in(
                self.client.clone(),
                user.clone(),
                moved,
                progress.clone(),
            ));
        }
        let recovery = async {
            while progress.in_a_row.load(Ordering::SeqCst) < IN_A_ROW {
                if let Ok(Some(ended)) = timeout(Duration::from_millis(5), callers.join_next()).await {
                    ended.unwrap();
                }
            }
        };
        let left = (moved + RECOVERY).saturating_duration_since(Instant::now());
        let outcome = timeout(left, recovery).await;
        let after = moved.elapsed();
        callers.shutdown().await;
        let failures = progress.failures.load(Ordering::SeqCst);
        let (first, last) = (
            progress.first.get(),
            progress.last_failure.lock().unwrap().clone(),
        );
        if name != "warm-up" {
            eprintln!(
                "{name}: the first write after the move succeeded after {first:?}; {failures} failed, the last one after \
                 {:?}; {IN_A_ROW} in a row after {after:?}",
                last.as_ref().map(|(after, _)| after)
            );
        }
        assert!(
            outcome.is_ok(),
            "no {IN_A_ROW} writes in a row within {RECOVERY:?}: first success {first:?}, {failures} failed, last {last:?}"
        );
    }
}

async fn keep_signing_in(mut client: Client, user: String, moved: Instant, progress: Arc<Progress>) {
    loop {
        match client.authenticate(credentials(&user, PASSWORD)).await {
            Ok(_) => {
                let _ = progress.first.set(moved.elapsed());
                progress.in_a_row.fetch_add(1, Ordering::SeqCst);
            }
            Err(status) => {
                assert_unavailable(&status);
                progress.in_a_row.store(0, Ordering::SeqCst);
                progress.failures.fetch_add(1, Ordering::SeqCst);
                *progress.last_failure.lock().unwrap() = Some((moved.elapsed(), status));
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// A STRONG check.
pub(super) fn strongly(token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        session_token: token.to_owned(),
        consistency: v1::Consistency::Strong.into(),
    }
}
