//! The PostgreSQL server of `TEST_POSTGRES_URL`, with databases that are made for one run.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use phone_identity::domain::token::TokenHash;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};

use crate::{Bench, report, seed, server};

/// Number of tokens that callers use, for any number of users. The tokens of other sessions are unknown to callers.
pub(crate) const ASKED: usize = 10_000;

/// A server on which databases can be made.
pub(crate) struct Postgres {
    url: String,
}

impl Postgres {
    /// # Errors
    /// When there is none.
    pub(crate) fn of_environment() -> Result<Self, &'static str> {
        match env::var("TEST_POSTGRES_URL") {
            Ok(url) if !url.is_empty() => Ok(Self { url }),
            _ => Err("TEST_POSTGRES_URL is not set; scripts/bench.sh starts a server"),
        }
    }

    /// The URL of a database.
    fn database(&self, name: &str) -> String {
        let (server, parameters) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let (server, _) = server.rsplit_once('/').unwrap();
        format!("{server}/{name}?{parameters}")
    }

    /// Creates a database with this number of users, each with a session that was just used, and returns its URL.
    /// [`ASKED`] of the sessions, evenly spread, have the tokens of [`seed::token`].
    pub(crate) fn seed(&self, bench: &Bench, people: usize) -> String {
        report::say(&format!("seeding PostgreSQL with {people} people"));
        let name = format!("bench_{people}");
        let url = self.database(&name);
        bench.runtime.block_on(async {
            let server = connect(&self.url).await;
            execute(&server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            execute(&server, &format!("CREATE DATABASE {name}")).await;
        });
        server::run(bench, &["migrate", &format!("--database-url={url}")]);
        bench.runtime.block_on(async {
            let database = connect(&url).await;
            execute(
                &database,
                &format!(
                    "INSERT INTO users (id, phone_number, password_hash, credential_version, status, \
                     is_staff, is_superuser, \
                     created_at, updated_at, last_login_at) \
                     SELECT {user}, '+99890' || (4200000 + n), NULL, 0, 'active', FALSE, FALSE, now(), now(), now() \
                     FROM generate_series(0, {last}) AS n",
                    user = id(7),
                    last = people - 1
                ),
            )
            .await;
            execute(
                &database,
                &format!(
                    "INSERT INTO sessions (id, token_hash, user_id, created_at, last_seen_at, expires_at, \
                     auth_methods, \
                     client_ip_address, client_user_agent) \
                     SELECT {session}, sha256(n::text::bytea), {user}, now(), now(), now() + interval '30 days', \
                     'password', '203.0.113.9', 'Mozilla/5.0 (X11; Linux x86_64) Example/1.0' \
                     FROM generate_series(0, {last}) AS n",
                    session = id(8),
                    user = id(7),
                    last = people - 1
                ),
            )
            .await;
            let all: Vec<usize> = (0..ASKED).collect();
            for some in all.chunks(500) {
                let tokens = some.iter().map(|number| {
                    let hash = TokenHash::of(&seed::token(*number)).unwrap();
                    let hash: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("({}, decode('{hash}', 'hex'))", number * (people / ASKED))
                });
                let tokens = tokens.collect::<Vec<_>>().join(", ");
                execute(
                    &database,
                    &format!(
                        "UPDATE sessions SET token_hash = t.hash FROM (VALUES {tokens}) AS t(n, hash) \
                         WHERE id = {session}",
                        session = id(8)
                    ),
                )
                .await;
            }
            for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
                execute(&database, statement).await;
            }
        });
        url
    }

    /// Looks as many rows up by primary key as pgbench can with so many clients, and gives how many it were a second.
    ///
    /// # Errors
    /// When pgbench cannot be run.
    pub(crate) fn bare_selects(
        &self,
        bench: &Bench,
        url: &str,
        clients: usize,
        lasting: Duration,
    ) -> Result<f64, String> {
        let script = bench.folder.join("select.pgbench");
        let statement = format!(
            "\\set n random(0, {})\nSELECT * FROM sessions WHERE id = {};\n",
            ASKED - 1,
            // pgbench does not tell what type its variable is.
            id(8).replace("(n)", "(:n::int)")
        );
        std::fs::write(&script, statement).map_err(|error| error.to_string())?;
        let output = Command::new(pgbench())
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
            .arg(format!("--client={clients}"))
            .arg(format!("--time={}", lasting.as_secs().max(1)))
            .arg(format!("--file={}", script.display()))
            .arg(url)
            .output()
            .map_err(|error| format!("pgbench: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = text
            .split_once("tps = ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        rate.ok_or_else(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// SQL for an id of row `n`.
fn id(variant: u8) -> String {
    format!("('00000000-0000-7000-{variant}000-' || lpad(to_hex(n), 12, '0'))::uuid")
}

/// Debian puts it where the server is.
fn pgbench() -> PathBuf {
    env::var_os("PGBENCH").map_or_else(|| PathBuf::from("pgbench"), PathBuf::from)
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap();
}
