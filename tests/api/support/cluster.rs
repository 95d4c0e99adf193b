//! A database cluster: a primary and a replica that follows it. A test switches their roles.
//!
//! PostgreSQL replicates by streaming, MariaDB by GTID with row events. Replication is asynchronous unless
//! [`Cluster::synchronous`] is set. The service has a role of its own, without administrator rights, so that a
//! read-only server is read-only for it.

use std::time::Duration;

use tokio::time::timeout;

use super::database_server::{DatabaseServer, done};
use super::place::{Backend, Place};

/// The role of the service, and its password until a test changes it.
pub(crate) const ROLE: &str = "service";
pub(crate) const ROLE_PASSWORD: &str = "secret";

/// The database of the service.
pub(crate) const DATABASE: &str = "identity";

/// Time limit of anything that a cluster does.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    backend: Backend,
    servers: [DatabaseServer; 2],
    primary: usize,
}

impl Cluster {
    /// A primary with an empty database, and a replica that follows it.
    pub(crate) async fn start(backend: Backend) -> Self {
        let [first, second] = [1, 2].map(|id| settings(backend, id));
        let primary = DatabaseServer::start(backend, &first).await;
        let replica = match backend {
            // It is a copy of the primary.
            Backend::Postgres => DatabaseServer::prepare(backend, &second).await,
            _ => DatabaseServer::start(backend, &second).await,
        };
        let mut cluster = Self {
            backend,
            servers: [primary, replica],
            primary: 0,
        };
        cluster.create_role().await;
        cluster.create_database().await;
        cluster.follow().await;
        cluster.catch_up().await;
        cluster
    }

    /// The server that the cluster writes to.
    pub(crate) fn primary(&self) -> &DatabaseServer {
        &self.servers[self.primary]
    }

    /// The replica, or the old primary after a promotion.
    pub(crate) fn other(&self) -> &DatabaseServer {
        &self.servers[1 - self.primary]
    }

    fn other_mut(&mut self) -> &mut DatabaseServer {
        &mut self.servers[1 - self.primary]
    }

    /// The service's URL of its database at these addresses, separated by commas.
    pub(crate) fn url(&self, addresses: &str) -> String {
        self.url_with_password(addresses, ROLE_PASSWORD)
    }

    pub(crate) fn url_with_password(&self, addresses: &str, password: &str) -> String {
        match self.backend {
            Backend::Postgres => {
                format!("postgres://{ROLE}:{password}@{addresses}/{DATABASE}?sslmode=disable")
            }
            _ => format!("mysql://{ROLE}:{password}@{addresses}/{DATABASE}?ssl-mode=DISABLED"),
        }
    }

    /// The database of the service on one of the servers, by the administrator's role.
    pub(crate) fn place(server: &DatabaseServer) -> Place {
        Place::existing(server.url(), DATABASE)
    }

    /// Whether a commit on the primary waits for the replica.
    pub(crate) async fn synchronous(&self, is_synchronous: bool) {
        match self.backend {
            Backend::Postgres => {
                let names = if is_synchronous { "*" } else { "" };
                let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
                self.primary().run(&[&set, "SELECT pg_reload_conf()"]).await;
                if is_synchronous {
                    let is_attached =
                        "SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
                    self.primary().finds(is_attached).await;
                }
            }
            _ => {
                let set = format!(
                    "SET GLOBAL rpl_semi_sync_master_enabled = {}",
                    u8::from(is_synchronous)
                );
                self.primary().run(&[&set]).await;
                if is_synchronous {
                    // A replica acknowledges from the start of its thread on.
                    self.other()
                        .run(&["STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"])
                        .await;
                    let attached = "SELECT 1 FROM information_schema.global_status \
                        WHERE variable_name = 'RPL_SEMI_SYNC_MASTER_CLIENTS' AND variable_value > 0";
                    self.primary().finds(attached).await;
                }
            }
        }
    }

    /// Waits until the replica has applied what the primary has committed so far.
    pub(crate) async fn catch_up(&self) {
        match self.backend {
            Backend::Postgres => {
                let position = self.primary().text("SELECT pg_current_wal_lsn()::text").await;
                let has_applied = format!("SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{position}'");
                self.other().finds(&has_applied).await;
            }
            _ => {
                let position = self.primary().text("SELECT @@gtid_binlog_pos").await;
                let has_applied = format!("SELECT 1 FROM dual WHERE MASTER_GTID_WAIT('{position}', 30) = 0");
                self.other().finds(&has_applied).await;
            }
        }
    }

    /// Makes new transactions on a server read-only, or lets them write again. Connections stay open.
    pub(crate) async fn set_read_only(server: &DatabaseServer, is_read_only: bool) {
        let value = u8::from(is_read_only);
        match server.backend() {
            Backend::Postgres => {
                let word = if is_read_only { "on" } else { "off" };
                let set = format!("ALTER SYSTEM SET default_transaction_read_only = {word}");
                server.run(&[&set, "SELECT pg_reload_conf()"]).await;
                // A new session reads the setting, and the reload reaches the existing sessions no later.
                let is_set =
                    format!("SELECT 1 WHERE current_setting('default_transaction_read_only') = '{word}'");
                server.finds(&is_set).await;
            }
            _ => server.run(&[&format!("SET GLOBAL read_only = {value}")]).await,
        }
    }

    /// Waits until the transactions that began before the primary turned read-only have ended: they may still write.
    pub(crate) async fn writes_end(&self) {
        if self.backend != Backend::Postgres {
            // `read_only` refuses COMMIT, too.
            return;
        }
        let now = self.primary().text("SELECT clock_timestamp()::text").await;
        let have_ended = format!(
            "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity \
             WHERE usename = '{ROLE}' AND xact_start <= '{now}' AND state <> 'idle')"
        );
        self.primary().finds(&have_ended).await;
    }

    /// Promotes the replica. The old primary continues.
    pub(crate) async fn promote(&mut self) {
        let replica = self.other();
        match self.backend {
            Backend::Postgres => {
                // pg_basebackup copied these settings from the primary.
                replica
                    .run(&[
                        "ALTER SYSTEM RESET default_transaction_read_only",
                        "ALTER SYSTEM RESET synchronous_standby_names",
                        "SELECT pg_reload_conf()",
                    ])
                    .await;
                replica.run(&["SELECT pg_promote(true, 30)"]).await;
                replica
                    .finds(
                        "SELECT 1 WHERE NOT pg_is_in_recovery() AND NOT \
                    current_setting('transaction_read_only')::bool",
                    )
                    .await;
            }
            _ => {
                replica.run(&["STOP SLAVE IO_THREAD"]).await;
                timeout(PATIENCE, self.relay_log_is_applied()).await.unwrap();
                replica
                    .run(&["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"])
                    .await;
            }
        }
        self.primary = 1 - self.primary;
    }

    async fn relay_log_is_applied(&self) {
        loop {
            let status = self.other().rows("SHOW SLAVE STATUS").await;
            let state: String = status[0].try_get("", "Slave_SQL_Running_State").unwrap();
            if state.starts_with("Slave has read all relay log") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9` of the primary.
    pub(crate) async fn kill_primary(&mut self) {
        self.servers[self.primary].kill().await;
    }

    /// Makes the old primary a replica of the new one, whatever state it is in. It is started anew, so its connections
    /// end, and what it has committed on its own is lost.
    pub(crate) async fn rejoin(&mut self) {
        if self.other().is_running() {
            self.other_mut().kill().await;
        }
        if self.backend == Backend::MySql {
            self.other_mut().start_again().await;
        }
        self.follow().await;
        self.catch_up().await;
    }

    /// Copies the primary to the other server, and starts the replication. On PostgreSQL the other one is not running
    /// yet.
    async fn follow(&mut self) {
        let port = self.primary().port().to_string();
        match self.backend {
            Backend::Postgres => {
                done(self.other().program("/bin/rm").args(["-rf", "data"])).await;
                let mut copy = self.other().program("pg_basebackup");
                copy.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-D", "data"]);
                done(copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"])).await;
                self.other_mut().start_again().await;
                self.other().finds("SELECT 1 WHERE pg_is_in_recovery()").await;
            }
            _ => {
                let clear = format!(
                    "STOP SLAVE; RESET SLAVE ALL; SET sql_log_bin = 0; DROP DATABASE IF EXISTS {DATABASE}; \
                     RESET MASTER;"
                );
                // The dump ends with the position from which the replica continues.
                let copy = format!(
                    "{{ echo '{clear}'; mariadb-dump --no-defaults -h 127.0.0.1 -P {port} -u tester \
                     --databases {DATABASE} \
                     --single-transaction --master-data=1 --gtid; }} | mariadb --no-defaults -h 127.0.0.1 \
                     -P {} -u tester",
                    self.other().port()
                );
                let mut shell = self.other().program("bash");
                done(shell.args(["-o", "pipefail", "-c", &copy])).await;
                let source = format!(
                    "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'tester', \
                     MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos"
                );
                let other = self.other();
                other
                    .run(&["SET GLOBAL read_only = 1", &source, "START SLAVE"])
                    .await;
            }
        }
    }

    async fn create_role(&self) {
        match self.backend {
            Backend::Postgres => {
                let create = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE_PASSWORD}'");
                self.primary().run(&[&create]).await;
            }
            // On each server by itself, as its administrator is.
            _ => {
                let user = format!("{ROLE}@'127.0.0.1'");
                let create = format!("CREATE USER {user} IDENTIFIED BY '{ROLE_PASSWORD}'");
                let grant = format!("GRANT ALL ON {DATABASE}.* TO {user}");
                for server in &self.servers {
                    server.run(&["SET sql_log_bin = 0", &create, &grant]).await;
                }
            }
        }
    }

    async fn create_database(&self) {
        let owner = match self.backend {
            Backend::Postgres => format!(" OWNER {ROLE}"),
            _ => String::new(),
        };
        let create = format!("CREATE DATABASE {DATABASE}{owner}");
        self.primary().run(&[&create]).await;
    }
}

/// Settings of a cluster server, beside those of every server. Only `kill -9` happens to them and no power cut, so
/// they write to the operating system at each commit and not to the disk.
fn settings(backend: Backend, id: u32) -> Vec<String> {
    match backend {
        Backend::Postgres => [
            "-cfsync=off",
            "-cshared_buffers=32MB",
            "-cwal_keep_size=128MB",
            "-cwal_retrieve_retry_interval=100ms",
            "-cwal_receiver_status_interval=1s",
        ]
        .map(str::to_owned)
        .to_vec(),
        _ => [
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--log-slave-updates",
            "--relay-log=relay",
            "--skip-slave-start",
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            "--rpl-semi-sync-slave-enabled=1",
            "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
            "--rpl-semi-sync-master-timeout=600000",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("--server-id={id}")])
        .collect(),
    }
}
