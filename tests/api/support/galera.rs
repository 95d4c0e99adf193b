//! A Galera cluster of MariaDB nodes, each of which accepts writes.
//!
//! Each node starts from a copy of the first one's data directory, so that a joining node receives the write sets that
//! it lacks and no copy of the data. All ports are free ports of 127.0.0.1.

use std::fs;

use tokio::time::Instant;

use super::cluster::{DATABASE, ROLE, ROLE_PASSWORD};
use super::database_server::{DatabaseServer, done, free_port};
use super::place::Backend;

/// Debian's package galera-4.
const LIBRARY: &str = "/usr/lib/galera/libgalera_smm.so";

/// An unreachable node is evicted after 2 s and not after the default of 5 s, which is the time limit of a recovery. It
/// is longer than the second for which a node that starts is silent.
const EVICTION: &str = "evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.2S;evs.suspect_timeout=PT2S;\
                        evs.inactive_timeout=PT4S;evs.install_timeout=PT4S";

pub(crate) struct Galera {
    nodes: Vec<DatabaseServer>,
}

impl Galera {
    /// A cluster of so many nodes, with an empty database.
    pub(crate) async fn start(count: usize) -> Self {
        let ports: Vec<_> = (0..count).map(|_| free_port()).collect();
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let settings = |index: usize| settings(&addresses, index);
        let new_cluster = ["--wsrep-new-cluster".to_owned()];

        let mut first =
            DatabaseServer::start(Backend::MySql, &[&settings(0)[..], &new_cluster].concat()).await;
        first.finds(&synced(1)).await;
        // The position in the history of the cluster is written down at a clean stop.
        first.stop().await;
        fs::remove_file(first.data().join("galera.cache")).unwrap();
        // The administrator is in the data directory now.
        let users = "users.sql";
        fs::write(first.folder().join(users), "").unwrap();
        let mut nodes = vec![first];
        for index in 1..count {
            let node = DatabaseServer::prepare(Backend::MySql, &settings(index)).await;
            let mut copy = node.program("/bin/cp");
            copy.arg("-a")
                .arg(nodes[0].data())
                .arg(nodes[0].folder().join(users));
            done(copy.arg(".")).await;
            nodes.push(node);
        }
        // One after another: nodes that join at once take several rounds to agree.
        for (index, node) in nodes.iter_mut().enumerate() {
            node.start_again().await;
            node.finds(&synced(index + 1)).await;
        }
        let user = format!("{ROLE}@'127.0.0.1'");
        let cluster = Self { nodes };
        cluster
            .node(0)
            .run(&[
                &format!("CREATE DATABASE {DATABASE}"),
                &format!("CREATE USER {user} IDENTIFIED BY '{ROLE_PASSWORD}'"),
                &format!("GRANT ALL ON {DATABASE}.* TO {user}"),
            ])
            .await;
        for node in &cluster.nodes {
            node.finds(&format!("SELECT 1 FROM mysql.db WHERE user = '{ROLE}'"))
                .await;
        }
        cluster
    }

    pub(crate) fn node(&self, index: usize) -> &DatabaseServer {
        &self.nodes[index]
    }

    /// The service's URL of its database on these nodes.
    pub(crate) fn url(&self, nodes: &[usize]) -> String {
        let addresses: Vec<_> = nodes.iter().map(|index| self.nodes[*index].address()).collect();
        let addresses = addresses.join(",");
        format!("mysql://{ROLE}:{ROLE_PASSWORD}@{addresses}/{DATABASE}?ssl-mode=DISABLED")
    }

    /// `kill -9` of a node. Returns when that is done.
    pub(crate) async fn kill(&mut self, index: usize) -> Instant {
        self.nodes[index].kill().await;
        Instant::now()
    }

    /// Cuts a node off from the others, or connects it again. Clients reach it all the time.
    pub(crate) async fn isolate(&self, index: usize, is_isolated: bool) {
        let value = u8::from(is_isolated);
        let set = format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={value}'");
        self.nodes[index].run(&[&set]).await;
    }

    /// Waits until a node belongs to a component of the cluster that has the quorum, or to one that has not.
    pub(crate) async fn is_primary(&self, index: usize, is_primary: bool) {
        let status = if is_primary { "Primary" } else { "non-Primary" };
        let query = format!(
            "SELECT 1 FROM information_schema.global_status \
             WHERE variable_name = 'wsrep_cluster_status' AND variable_value = '{status}'"
        );
        self.nodes[index].finds(&query).await;
    }
}

/// A query that has a row on a node that has joined a cluster of so many nodes.
fn synced(nodes: usize) -> String {
    format!(
        "SELECT 1 FROM information_schema.global_status WHERE variable_name = 'wsrep_cluster_size' \
         AND variable_value = {nodes} AND EXISTS (SELECT 1 FROM information_schema.global_status \
         WHERE variable_name = 'wsrep_local_state_comment' AND variable_value = 'Synced')"
    )
}

fn settings(addresses: &[String], index: usize) -> Vec<String> {
    let own = &addresses[index];
    let (transfer, snapshot) = (free_port(), free_port());
    [
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        "--wsrep-on=ON",
        "--wsrep-sst-method=rsync",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("--wsrep-provider={LIBRARY}"),
        // Another cluster that gets a port of this one later is not joined.
        format!("--wsrep-cluster-name={}", addresses[0]),
        format!("--wsrep-cluster-address=gcomm://{}", addresses.join(",")),
        format!("--wsrep-node-address={own}"),
        format!("--wsrep-sst-receive-address=127.0.0.1:{snapshot}"),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{own};ist.recv_addr=127.0.0.1:{transfer};\
             gcache.size=16M;{EVICTION}"
        ),
    ])
    .collect()
}
