//! Backend: PostgreSQL.

use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, IsolationLevel, TransactionTrait as _};

use super::server::{Host, Server};
use super::url::{self, UrlError};
use super::{LIST_CONNECTIONS, Options, Pool, Store, StoreError, migrate_to_date};

/// Parameters that the URL may have, as sqlx reads them.
const PARAMETERS: [&str; 17] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// Number of the advisory lock that migrations hold: the beginning of the SHA-256 of `phone-identity`.
const MIGRATION_LOCK: i64 = 0x4de4_3500_a5af_5462;

/// Connects to the server that accepts writes.
pub(super) async fn open(options: &Options) -> Result<Store, StoreError> {
    // Set by statements and not as start-up parameters, which pgbouncer rejects. Warnings are off: a connection that
    // loses its caller in the middle of a statement is rolled back even if there is no transaction, and each such
    // rollback would add a line to the log of this program. Statements outside of transactions are READ COMMITTED too,
    // whatever the default of the database is.
    let session = format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {statement}; SET client_min_messages = error; \
         SET default_transaction_isolation = 'read committed'",
        statement = options.statement_timeout.as_millis(),
        lock = options.acquire_timeout.as_millis(),
    );
    let server = Server::new(DbBackend::Postgres, options, parse_hosts, vec![session])?;
    let shared = Pool::open(server, options.connections, options).await?;
    let tail = shared.sibling(1, options, None);
    let lists = shared.sibling(LIST_CONNECTIONS, options, None);
    Ok(Store::new(shared.clone(), shared, tail, lists, options))
}

/// Applies the missing migrations, in one transaction under a lock that serialises the processes.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    // Each statement has to see the changes of the previous owner of the lock.
    let tx = schema
        .begin_with_config(Some(IsolationLevel::ReadCommitted), None)
        .await?;
    tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        .await?;
    migrate_to_date(&tx).await?;
    Ok(tx.commit().await?)
}

/// Parses the URL as libpq does: one or several hosts, and `target_session_attrs`.
fn parse_hosts(url: &str) -> Result<Vec<Host>, StoreError> {
    url::check_names(url, &PARAMETERS)?;
    let url = without_target(url)?;
    url::each_host(&url).iter().map(|url| parse_host(url)).collect()
}

/// Removes `target_session_attrs` from a URL. sqlx does not know it, and every connection of this service leads to a
/// server that accepts writes, so other targets are rejected.
fn without_target(url: &str) -> Result<String, StoreError> {
    let Some((server, query)) = url.split_once('?') else {
        return Ok(url.to_owned());
    };
    let (query, fragment) = query.split_once('#').unwrap_or((query, ""));
    let mut kept = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("target_session_attrs", "read-write" | "primary")) => {}
            Some((name @ "target_session_attrs", _)) => return Err(UrlError::Value(name.to_owned()).into()),
            _ => kept.push(parameter),
        }
    }
    let fragment = if fragment.is_empty() {
        String::new()
    } else {
        format!("#{fragment}")
    };
    Ok(format!("{server}?{}{fragment}", kept.join("&")))
}

fn parse_host(url: &str) -> Result<Host, StoreError> {
    let server = PgConnectOptions::from_str(url)
        .map_err(|_| url::rejected_part(url, |url| PgConnectOptions::from_str(url).is_ok()))?;
    let server = if server.get_application_name().is_none() {
        server.application_name("phone-identity")
    } else {
        server
    };
    // There are no floats here, and pgbouncer rejects this parameter.
    let server = server.extra_float_digits(None).disable_statement_logging();
    Ok(Host::Postgres(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Option<Vec<(String, u16)>> {
        let hosts = parse_hosts(url).ok()?.into_iter().map(|host| match host {
            Host::Postgres(host) => (host.get_host().to_owned(), host.get_port()),
            _ => panic!("{host:?}"),
        });
        Some(hosts.collect())
    }

    #[test]
    fn hosts_and_their_target_are_parsed_as_by_libpq() {
        let two = Some(vec![("a".to_owned(), 5433), ("b".to_owned(), 5432)]);
        for url in [
            "postgres://u:p@a:5433,b/d?target_session_attrs=read-write",
            "postgres://u:p@a:5433,b/d?sslmode=disable&target_session_attrs=primary&user=u",
            "postgres://u:p@a:5433,b/d",
        ] {
            assert_eq!(hosts(url), two, "{url}");
        }
        assert_eq!(
            hosts("postgres://a/d?target_session_attrs=read-write"),
            Some(vec![("a".to_owned(), 5432)])
        );
        for url in [
            "postgres://a,b/d?target_session_attrs=any",
            "postgres://a,b/d?target_session_attrs=standby",
            "postgres://a,b/d?load_balance_hosts=random",
            "postgres://a:1,b:no/d",
        ] {
            assert_eq!(hosts(url), None, "{url}");
        }
    }
}
