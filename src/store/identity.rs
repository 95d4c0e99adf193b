//! Server identity: which server answers on a connection, and whether it accepts writes.
//!
//! A failover does not always break connections: a demoted server keeps its sessions, and a proxy that leads new
//! connections to the new server keeps the old ones alive. The readings on which freshness depends therefore return the
//! identity of the server in the same statement, and a connection to any other server is closed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sea_orm::sea_query::{Alias, Expr, Query, SelectStatement};
use sea_orm::{DbBackend, DbErr, QueryResult};

use crate::clock::Timestamp;

/// Alias of the subquery of [`stamp`].
const SERVER: &str = "server";

/// Whether PostgreSQL accepts writes in this transaction. The setting is on in each transaction that began during
/// recovery, even if the server is promoted before the transaction ends, so the answer matches the snapshot that the
/// statement reads.
const POSTGRES_WRITABLE: &str = "current_setting('transaction_read_only') = 'off'";

const POSTGRES_NODE: &str = "pg_postmaster_start_time()";

/// `read_only` is a flag, and an enumeration in newer versions of MariaDB.
const MYSQL_WRITABLE: &str = "CAST(@@GLOBAL.read_only AS CHAR) IN ('0', 'OFF')";

const MYSQL_NODE: &str = "CONCAT(@@hostname, ':', @@port, ':', @@server_id)";

/// One run of one database server. Another server has another incarnation, and so has the same server after a restart.
/// The nodes of a Galera cluster share one: with `wsrep_sync_wait`, each of them returns what the others have
/// committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of an SQLite file, which has no server.
    pub(super) const FILE: Self = Self(1);

    /// Creates an incarnation from its number, which is never 0.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number.max(1))
    }

    /// Its number, which is never 0.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    fn of(identity: impl AsRef<str>) -> Self {
        let mut hasher = DefaultHasher::new();
        identity.as_ref().hash(&mut hasher);
        Self::new(hasher.finish())
    }
}

/// Identity of a server as far as a statement can return it at no cost. A proxy that distributes statements may lead
/// two statements of one connection to two servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Node {
    /// SQLite has no server.
    File,
    /// Start time of PostgreSQL. The address is not included: one server may have several, and a virtual address moves.
    Started(Timestamp),
    /// Host name, port and server id of MySQL or MariaDB.
    Named(String),
}

/// The server at the other end of a connection, as it was when the connection was opened.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) node: Node,
    pub(super) incarnation: Incarnation,
    /// Whether a commit waits for a standby. A server that was cut off from its standbys then cannot commit.
    pub(super) is_synchronous: bool,
    /// Statement that a connection to this server executes before it is used.
    pub(super) session: Option<&'static str>,
}

/// Galera variables in the status of a MySQL server. All of them are empty or off without Galera.
#[derive(Default)]
struct Galera {
    provider: String,
    cluster: String,
    is_ready: bool,
}

/// Whether a server is a node of Galera.
#[derive(Debug, Eq, PartialEq)]
enum Membership {
    None,
    /// In the cluster with this identifier.
    Ready(String),
    /// A node that is not ready accepts connections and answers queries about its status. A connection to it must not
    /// count as one to a stand-alone server: the node may become ready later.
    NotReady,
}

impl Galera {
    /// Reads a status variable.
    fn read(&mut self, name: &str, value: String) {
        match name {
            "wsrep_provider_name" => self.provider = value,
            "wsrep_cluster_state_uuid" => self.cluster = value,
            "wsrep_ready" => self.is_ready = value == "ON",
            _ => {}
        }
    }

    fn membership(self) -> Membership {
        match (self.provider.as_str(), self.is_ready) {
            ("", _) => Membership::None,
            (_, true) => Membership::Ready(self.cluster),
            (_, false) => Membership::NotReady,
        }
    }
}

/// Makes a node of Galera read what all nodes have committed, and refuse to read after it has left the cluster.
const GALERA_SESSION: &str = "SET SESSION wsrep_sync_wait = 1, wsrep_dirty_reads = OFF";

impl Identity {
    pub(super) fn of_file() -> Self {
        Self {
            node: Node::File,
            incarnation: Incarnation::FILE,
            is_synchronous: false,
            session: None,
        }
    }

    /// Reads the row of [`identification`].
    fn of_postgres(row: &QueryResult) -> Result<Self, DbErr> {
        let started: Timestamp = row.try_get_by_index(1)?;
        Ok(Self {
            node: Node::Started(started),
            incarnation: Incarnation::new(started.timestamp_micros().cast_unsigned()),
            is_synchronous: row.try_get_by_index(2)?,
            session: None,
        })
    }

    /// Reads the rows of [`identification`]: each has the same columns, and a name and a value of the server's status.
    /// `None`: a node of Galera that is not ready, since it joins the cluster or has no quorum.
    fn of_mysql(rows: &[QueryResult], node: String) -> Result<Option<Self>, DbErr> {
        let mut started = 0;
        let mut galera = Galera::default();
        for row in rows {
            let (name, value): (String, String) = (row.try_get_by_index(3)?, row.try_get_by_index(4)?);
            match name.to_ascii_lowercase().as_str() {
                "uptime" => {
                    // Both are in whole seconds, from the same reading of the server's clock.
                    let now: i64 = row.try_get_by_index(2)?;
                    started = now - value.parse::<i64>().unwrap_or_default();
                }
                name => galera.read(name, value),
            }
        }
        let (incarnation, session) = match galera.membership() {
            Membership::None => (Incarnation::of(format!("{node}:{started}")), None),
            Membership::Ready(cluster) => {
                (Incarnation::of(format!("galera:{cluster}")), Some(GALERA_SESSION))
            }
            Membership::NotReady => return Ok(None),
        };
        Ok(Some(Self {
            node: Node::Named(node),
            incarnation,
            is_synchronous: false,
            session,
        }))
    }

    /// Reads the answer to [`identification`]. `None`: the server does not accept writes, or not yet.
    ///
    /// # Errors
    /// The rows have another form.
    pub(super) fn read(rows: &[QueryResult], backend: DbBackend) -> Result<Option<Self>, DbErr> {
        let first = rows
            .first()
            .ok_or_else(|| DbErr::RecordNotFound("the server has no identity".to_owned()))?;
        let (is_writable, node) = read_stamp(first, backend)?;
        if !is_writable {
            return Ok(None);
        }
        match node {
            Node::File => Ok(Some(Self::of_file())),
            Node::Started(_) => Self::of_postgres(first).map(Some),
            Node::Named(node) => Self::of_mysql(rows, node),
        }
    }

    /// Returns whether a row of a statement with a [`stamp`] is from this server, and this server accepts writes.
    ///
    /// # Errors
    /// The row has no stamp.
    pub(super) fn is_of(&self, row: &QueryResult) -> Result<bool, DbErr> {
        let (is_writable, node) = read_stamp(row, self.backend())?;
        Ok(is_writable && node == self.node)
    }

    pub(super) fn backend(&self) -> DbBackend {
        match self.node {
            Node::File => DbBackend::Sqlite,
            Node::Started(_) => DbBackend::Postgres,
            Node::Named(_) => DbBackend::MySql,
        }
    }
}

/// Statement that returns only the [`stamp`] of a server. For MySQL, this avoids a query of its status.
pub(super) fn verification(backend: DbBackend) -> String {
    match backend {
        DbBackend::Postgres => format!("SELECT {POSTGRES_WRITABLE}, {POSTGRES_NODE}"),
        DbBackend::MySql => format!("SELECT {MYSQL_WRITABLE}, {MYSQL_NODE}"),
        _ => "SELECT 1".to_owned(),
    }
}

/// Statement that returns the identity of a server.
pub(super) fn identification(backend: DbBackend) -> String {
    match backend {
        DbBackend::Postgres => format!(
            "SELECT {POSTGRES_WRITABLE}, {POSTGRES_NODE}, current_setting('synchronous_standby_names') <> '' \
             AND current_setting('synchronous_commit') NOT IN ('off', 'local')"
        ),
        // The first comment is for MySQL, the second for MariaDB. The clock and the uptime are read in one statement,
        // so that their difference is constant.
        DbBackend::MySql => format!(
            "SELECT {MYSQL_WRITABLE}, {MYSQL_NODE}, UNIX_TIMESTAMP(), VARIABLE_NAME, VARIABLE_VALUE \
             FROM /*!80000 performance_schema.global_status */ /*M! information_schema.GLOBAL_STATUS */ \
             WHERE VARIABLE_NAME IN ('Uptime', 'wsrep_provider_name', 'wsrep_cluster_state_uuid', 'wsrep_ready')"
        ),
        _ => "SELECT 1".to_owned(),
    }
}

/// A SELECT with the stamp of the server in its first columns. It has one row even if nothing is joined to it. Join
/// tables only by LEFT JOIN. SQLite has no server and no stamp columns: there, the row is empty.
pub(super) fn stamp(backend: DbBackend) -> SelectStatement {
    let mut server = Query::select();
    let mut select = Query::select();
    let (writable, node) = match backend {
        DbBackend::Postgres => (POSTGRES_WRITABLE, POSTGRES_NODE),
        DbBackend::MySql => (MYSQL_WRITABLE, MYSQL_NODE),
        _ => {
            server.expr_as(Expr::val(1), Alias::new("file"));
            return select.from_subquery(server, SERVER).take();
        }
    };
    server
        .expr_as(Expr::cust(writable), Alias::new("writable"))
        .expr_as(Expr::cust(node), Alias::new("node"));
    select
        .column((SERVER, Alias::new("writable")))
        .column((SERVER, Alias::new("node")))
        .from_subquery(server, SERVER)
        .take()
}

/// Number of columns of a [`stamp`].
pub(super) fn stamp_columns(backend: DbBackend) -> usize {
    match backend {
        DbBackend::Postgres | DbBackend::MySql => 2,
        _ => 0,
    }
}

/// Returns whether the server accepts writes, and which server it is.
fn read_stamp(row: &QueryResult, backend: DbBackend) -> Result<(bool, Node), DbErr> {
    Ok(match backend {
        DbBackend::Postgres => (row.try_get_by_index(0)?, Node::Started(row.try_get_by_index(1)?)),
        DbBackend::MySql => (
            row.try_get_by_index::<i64>(0)? != 0,
            Node::Named(row.try_get_by_index(1)?),
        ),
        _ => (true, Node::File),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_galera_is_used_only_when_it_is_ready() {
        let cluster = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let ready = Membership::Ready(cluster.to_owned());
        for (provider, uuid, is_ready, expected) in [
            // MariaDB without Galera, and MySQL, which has no such variables.
            ("", "", "OFF", Membership::None),
            ("Galera", cluster, "ON", ready),
            // A node without quorum, and a node that joins.
            ("Galera", cluster, "OFF", Membership::NotReady),
            (
                "Galera",
                "00000000-0000-0000-0000-000000000000",
                "OFF",
                Membership::NotReady,
            ),
            ("Galera", "", "OFF", Membership::NotReady),
        ] {
            let mut galera = Galera::default();
            galera.read("wsrep_provider_name", provider.to_owned());
            galera.read("wsrep_cluster_state_uuid", uuid.to_owned());
            galera.read("wsrep_ready", is_ready.to_owned());
            assert_eq!(galera.membership(), expected, "{provider} {uuid} {is_ready}");
        }
    }
}
