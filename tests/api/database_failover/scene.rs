//! A cluster, a proxy in front of it, and a replica of the service behind the proxy.

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::replicas::sign_in;
use crate::support::binary::ServerProcess;
use crate::support::cluster::Cluster;
use crate::support::place::{Backend, Place};
use crate::support::proxy::{OldConnections, Proxy};
use crate::support::refusal::refusal;
use crate::support::{Client, PASSWORD, connect, next_phone_number, registration};

/// Writes succeed within this time of the moment at which the new primary is reachable.
pub(super) const RECOVERY: Duration = Duration::from_secs(5);

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
    /// `None`: the replica has the addresses of both database servers.
    pub(super) proxy: Option<Proxy>,
    pub(super) cluster: Cluster,
    pub(super) place: Place,
}

impl Scene {
    /// A replica behind a proxy to the primary, with more flags. `None` on SQLite.
    pub(super) async fn start(flags: &[&str]) -> Option<Self> {
        let cluster = start_cluster().await?;
        let proxy = Proxy::to(cluster.primary().address()).await;
        let url = cluster.url(&proxy.address());
        Some(Self::start_at(cluster, Some(proxy), &url, flags).await)
    }

    /// A replica that has the addresses of both database servers. `None` on SQLite.
    pub(super) async fn start_with_hosts() -> Option<Self> {
        let cluster = start_cluster().await?;
        let hosts = format!("{},{}", cluster.primary().address(), cluster.other().address());
        let mut url = cluster.url(&hosts);
        if Backend::of_this_run() == Backend::Postgres {
            url.push_str("&target_session_attrs=read-write");
        }
        Some(Self::start_at(cluster, None, &url, &[]).await)
    }

    async fn start_at(cluster: Cluster, proxy: Option<Proxy>, url: &str, flags: &[&str]) -> Self {
        let place = Place::without_database();
        let here = start_service(&place, url, flags).await;
        Self {
            client: connect(here.address).await,
            here,
            proxy,
            cluster,
            place,
        }
    }

    /// Another replica of the service, directly on the primary.
    pub(super) async fn on_primary(&self) -> (ServerProcess, Client) {
        let url = self.cluster.url(&self.cluster.primary().address());
        let service = start_service(&self.place, &url, &[]).await;
        let client = connect(service.address).await;
        (service, client)
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
        let proxy = self.proxy.as_ref().unwrap();
        proxy.lead_to(self.cluster.primary().address(), old);
        Instant::now()
    }

    /// New sessions of a new user.
    pub(super) async fn sessions<const N: usize>(&self) -> [String; N] {
        let user = self.user().await;
        let mut tokens = [const { String::new() }; N];
        for token in &mut tokens {
            *token = self.session(&user).await;
        }
        tokens
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

/// A flag replaces the one of [`FLAGS`] with the same name.
pub(super) async fn start_service(place: &Place, url: &str, flags: &[&str]) -> ServerProcess {
    let url = format!("--database-url={url}");
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let mut all = vec![url.as_str()];
    all.extend(
        FLAGS
            .iter()
            .filter(|common| !flags.iter().any(|flag| name(flag) == name(common))),
    );
    ServerProcess::start(place, &[&all[..], flags].concat()).await
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

/// A STRONG check.
pub(super) fn strongly(token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest {
        session_token: token.to_owned(),
        consistency: v1::Consistency::Strong.into(),
    }
}

/// Fails with all that went wrong.
pub(super) fn assert_all(name: &str, outcomes: &[Result<(), String>]) {
    let wrong: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .map(String::as_str)
        .collect();
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}
