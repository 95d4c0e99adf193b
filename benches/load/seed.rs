//! Databases with many users and sessions, written without the service, in its format.
//!
//! All users have the same password and the same stored hash, since the cost of a check is the same for each. A token
//! is derived from its number, so that a later run can reuse a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phone_identity::clock::{Clock as _, SystemClock, Timestamp};
use phone_identity::domain::token::TokenHash;
use phone_identity::proto::v1::{Consistency, RegisterRequest, UserStatus, ValidateSessionRequest};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
    TransactionTrait as _, Value,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::server::{self, Server, Setup};
use crate::{Bench, report};

/// The password of all users.
pub(crate) const PASSWORD: &str = "mountains and rivers";

/// Number of users in the smaller database, which serves sign-ins.
pub(crate) const PEOPLE: usize = SMALL / SESSIONS_PER_PERSON;

/// Number of sessions in the smaller database.
pub(crate) const SMALL: usize = 10_000;

/// Number of sessions in the larger database.
pub(crate) const LARGE: usize = 1_000_000;

const SESSIONS_PER_PERSON: usize = 5;

const LIFETIME: Duration = Duration::from_hours(30 * 24);

/// A database that is older is made anew, so that no session ends while it is used.
const REUSED_FOR: Duration = Duration::from_hours(7 * 24);

/// Rows per statement. SQLite takes 32,766 values.
const ROWS: usize = 500;

/// Returns the phone number of a user.
pub(crate) fn phone_number(person: usize) -> String {
    format!("+99890{}", 4_200_000 + person)
}

/// The token of a session.
pub(crate) fn token(session: usize) -> String {
    let bytes: [u8; 32] = Sha256::digest(format!("session {session}")).into();
    let mut token = "pid_".to_owned();
    for half in bytes.chunks_exact(16) {
        token.push_str(&base62(u128::from_be_bytes(half.try_into().unwrap()), 22));
    }
    token.push_str(&base62(crc32fast::hash(token.as_bytes()).into(), 6));
    token
}

fn base62(value: u128, width: usize) -> String {
    format!("{:0>width$}", base62::encode_fmt(value).to_string())
}

/// The request that checks a session.
pub(crate) fn validation(session: usize, consistency: Consistency) -> ValidateSessionRequest {
    ValidateSessionRequest {
        session_token: token(session),
        consistency: consistency.into(),
    }
}

/// Returns a database with this number of sessions, each of which was used in the last minute, as after hours of load.
/// Only this function writes to it; [`scratch`] copies it for measurements that write.
pub(crate) fn database(bench: &Bench, sessions: usize) -> PathBuf {
    let path = bench.folder.join(format!("sessions-{sessions}.db"));
    let now = SystemClock.now();
    if path.exists() {
        server::run(bench, &["migrate", &format!("--database-url={}", url(&path))]);
        if is_usable(bench, &path, sessions, now) {
            return path;
        }
    }
    report::say(&format!("seeding a database with {sessions} sessions"));
    remove(&path);
    let password_hash = stored_hash(bench);
    server::run(bench, &["migrate", &format!("--database-url={}", url(&path))]);
    bench.runtime.block_on(async {
        let database = open(&path).await;
        execute(&database, "PRAGMA synchronous = OFF", []).await;
        execute(&database, "PRAGMA cache_size = -500000", []).await;
        write_rows(&database, sessions, &password_hash, now).await;
        execute(&database, "PRAGMA wal_checkpoint(TRUNCATE)", []).await;
        database.close().await.unwrap();
    });
    check(bench, &path, sessions);
    path
}

/// A copy of the smaller database, for one row, with the uses of its sessions spread over the minute that has passed.
pub(crate) fn scratch(bench: &Bench) -> PathBuf {
    let source = database(bench, SMALL);
    let path = bench.folder.join("scratch.db");
    remove(&path);
    fs::copy(source, &path).unwrap();
    bench.runtime.block_on(async {
        let database = open(&path).await;
        let now = SystemClock.now();
        for second in 0..60_u32 {
            let seen = now - Duration::from_secs(second.into());
            let sql = "UPDATE sessions SET last_seen_at = ? WHERE rowid % 60 = ?";
            execute(&database, sql, [seen.into(), second.into()]).await;
        }
        database.close().await.unwrap();
    });
    path
}

/// Makes these sessions look as if they had been used just now, so that checking them writes nothing. SQL gives the
/// condition.
pub(crate) fn use_now(bench: &Bench, path: &Path, condition: &str) {
    bench.runtime.block_on(async {
        let database = open(path).await;
        let sql = format!("UPDATE sessions SET last_seen_at = ? WHERE {condition}");
        execute(&database, &sql, [SystemClock.now().into()]).await;
        execute(&database, "PRAGMA wal_checkpoint(TRUNCATE)", []).await;
        database.close().await.unwrap();
    });
}

/// Divides the first users into three kinds: unchanged ones, deactivated ones, and ones with hashes of parameters that
/// cost a quarter.
pub(crate) fn make_kinds(bench: &Bench, path: &Path, people: usize) {
    let older = stored_hash_with(bench, &["--argon2-memory-kib=9728", "--argon2-iterations=1"]);
    bench.runtime.block_on(async {
        let database = open(path).await;
        let range = |part: usize| {
            let number = |person| Value::from(phone_number(person));
            [number(part * people), number((part + 1) * people)]
        };
        let sql = "UPDATE users SET status = 'deactivated' WHERE phone_number >= ? AND phone_number < ?";
        execute(&database, sql, range(1)).await;
        let [from, to] = range(2);
        let sql = "UPDATE users SET password_hash = ? WHERE phone_number >= ? AND phone_number < ?";
        execute(&database, sql, [older.into(), from, to]).await;
        let sql = "SELECT (SELECT COUNT(*) FROM users WHERE status = 'deactivated') AS deactivated, \
                   (SELECT COUNT(*) FROM users WHERE password_hash LIKE '%m=9728,t=1,%') AS older";
        let row = query(&database, sql).await;
        let count = |column| usize::try_from(row.try_get::<i64>("", column).unwrap()).unwrap();
        assert_eq!((count("deactivated"), count("older")), (people, people));
        database.close().await.unwrap();
    });
}

/// Fails unless a seeded token is valid and its session has the expected fields.
pub(crate) fn check_token(bench: &Bench, server: &Server, session: usize) {
    bench.runtime.block_on(async {
        let mut client = server.client().await;
        let request = validation(session, Consistency::Strong);
        let answer = client.validate_session(request).await.unwrap().into_inner();
        let (user, session_found) = (answer.user.unwrap(), answer.session.unwrap());
        assert_eq!(user.phone_number, phone_number(session / SESSIONS_PER_PERSON));
        assert_eq!(user.status(), UserStatus::Active);
        assert!(user.has_password);
        assert_eq!(session_found.user_id, user.user_id);
        let (created, expires) = (
            session_found.created_at.unwrap(),
            session_found.expires_at.unwrap(),
        );
        assert_eq!(
            (expires.seconds - created.seconds).unsigned_abs(),
            LIFETIME.as_secs()
        );
    });
}

fn check(bench: &Bench, path: &Path, sessions: usize) {
    let cores = bench.cores.both();
    let server = Server::start(bench, &Setup::new(path, &cores));
    for session in [0, sessions / 2, sessions - 1] {
        check_token(bench, &server, session);
    }
}

/// The PHC string that the service stores for [`PASSWORD`]. Fails when it stores times otherwise than they are written
/// here.
fn stored_hash(bench: &Bench) -> String {
    stored_hash_with(bench, &[])
}

/// The same by other parameters.
fn stored_hash_with(bench: &Bench, flags: &[&str]) -> String {
    let path = bench.folder.join("one-person.db");
    remove(&path);
    let cores = bench.cores.both();
    let server = Server::start(
        bench,
        &Setup {
            flags,
            ..Setup::new(&path, &cores)
        },
    );
    bench.runtime.block_on(async {
        let request = RegisterRequest {
            phone_number: phone_number(0),
            password: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        server.client().await.register(request).await.unwrap();
        let database = open(&path).await;
        let sql = "SELECT u.password_hash, u.created_at AS text, u.created_at, s.auth_methods, typeof(s.id) AS kind \
                   FROM users u JOIN sessions s ON s.user_id = u.id";
        let row = query(&database, sql).await;
        let time: Timestamp = row.try_get("", "created_at").unwrap();
        let text: String = row.try_get("", "text").unwrap();
        let again = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT ? AS text", [time.into()]);
        let again = database.query_one_raw(again).await.unwrap().unwrap();
        assert_eq!(text, again.try_get::<String>("", "text").unwrap());
        assert_eq!(row.try_get::<String>("", "auth_methods").unwrap(), "password");
        assert_eq!(row.try_get::<String>("", "kind").unwrap(), "blob");
        row.try_get("", "password_hash").unwrap()
    })
}

async fn write_rows(database: &DatabaseConnection, sessions: usize, password_hash: &str, now: Timestamp) {
    let tx = database.begin().await.unwrap();
    let people: Vec<usize> = (0..sessions / SESSIONS_PER_PERSON).collect();
    for people in people.chunks(ROWS) {
        let row = "(?, ?, ?, 0, 'active', FALSE, FALSE, NULL, NULL, ?, ?, ?)";
        let values = people.iter().flat_map(|person| -> [Value; 6] {
            [
                id("person", *person, now).into(),
                phone_number(*person).into(),
                password_hash.into(),
                now.into(),
                now.into(),
                now.into(),
            ]
        });
        execute(
            &tx,
            &format!(
                "INSERT INTO users (id, phone_number, password_hash, credential_version, status, is_staff, \
                 is_superuser, phone_verified_at, locale, created_at, updated_at, last_login_at) VALUES {}",
                vec![row; people.len()].join(", ")
            ),
            values,
        )
        .await;
    }
    let all: Vec<usize> = (0..sessions).collect();
    for sessions in all.chunks(ROWS) {
        let row =
            "(?, ?, ?, ?, ?, ?, 'password', '203.0.113.9', 'Mozilla/5.0 (X11; Linux x86_64) Example/1.0')";
        let values = sessions.iter().flat_map(|session| -> [Value; 6] {
            let hash = TokenHash::of(&token(*session)).unwrap();
            [
                id("session", *session, now).into(),
                hash.as_bytes().to_vec().into(),
                id("person", session / SESSIONS_PER_PERSON, now).into(),
                now.into(),
                now.into(),
                (now + LIFETIME).into(),
            ]
        });
        execute(
            &tx,
            &format!(
                "INSERT INTO sessions (id, token_hash, user_id, created_at, last_seen_at, expires_at, auth_methods, \
                 client_ip_address, client_user_agent) VALUES {}",
                vec![row; sessions.len()].join(", ")
            ),
            values,
        )
        .await;
    }
    tx.commit().await.unwrap();
}

/// Returns a reproducible UUIDv7. There is one per millisecond: ids of the service are in the order of its rows, too.
fn id(kind: &str, number: usize, now: Timestamp) -> Uuid {
    let chance: [u8; 32] = Sha256::digest(format!("{kind} id {number}")).into();
    let number = i64::try_from(number).unwrap();
    let first = now.timestamp_millis() - i64::try_from(LARGE).unwrap();
    let millis = u64::try_from(first + number).unwrap();
    uuid::Builder::from_unix_timestamp_millis(millis, chance.first_chunk().unwrap()).into_uuid()
}

fn is_usable(bench: &Bench, path: &Path, sessions: usize, now: Timestamp) -> bool {
    bench.runtime.block_on(async {
        let database = open(path).await;
        let row = query(&database, "SELECT COUNT(*) AS n FROM sessions").await;
        let count: i64 = row.try_get("", "n").unwrap();
        if usize::try_from(count).unwrap() != sessions {
            return false;
        }
        let row = query(&database, "SELECT created_at FROM sessions LIMIT 1").await;
        let created: Timestamp = row.try_get("", "created_at").unwrap();
        database.close().await.unwrap();
        created + REUSED_FOR > now
    })
}

/// One connection, so that a pragma holds for what follows it.
async fn open(path: &Path) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url(path));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

async fn execute(db: &impl ConnectionTrait, sql: &str, values: impl IntoIterator<Item = Value>) {
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    db.execute_raw(statement).await.unwrap();
}

async fn query(db: &impl ConnectionTrait, sql: &str) -> sea_orm::QueryResult {
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    db.query_one_raw(statement).await.unwrap().unwrap()
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
}
