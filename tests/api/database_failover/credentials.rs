//! The server refuses new connections: the password was changed, or the role has too many connections.

use std::fs;
use std::path::Path;

use tokio::time::Instant;

use super::scene::{FLAGS, assert_all, assert_unavailable, start_cluster, strongly};
use super::writes::Writes;
use crate::replicas::sign_in;
use crate::support::binary::ServerProcess;
use crate::support::cluster::{Cluster, ROLE, ROLE_PASSWORD};
use crate::support::place::{Backend, Place, set_mode, write_secret};
use crate::support::{Client, PASSWORD, connect, credentials};

/// Calls of each kind while the server refuses connections.
const CALLS: usize = 10;

/// The password is rotated, and the file with the URL gets the new one a little later.
#[tokio::test]
async fn a_changed_password_is_read_from_the_file_again() {
    let name = "password rotation";
    let Some(cluster) = start_cluster().await else {
        return;
    };
    let place = Place::without_database();
    let file = place.path().join("url");
    let address = cluster.primary().address();
    write_url(&file, &cluster.url(&address));
    let flag = format!("--database-url-file={}", file.display());
    let server = ServerProcess::start(&place, &[&[flag.as_str()], &FLAGS[..]].concat()).await;
    let client = connect(server.address).await;
    let writes = Writes::new(&client).await;
    let token = sign_in(&mut client.clone(), writes.user()).await;

    rotate_password(&cluster).await;
    are_unavailable(&client, &writes, &token).await;
    // One that other users could read is not taken, which is logged once.
    let new = file.with_extension("open");
    write_secret(&new, cluster.url_with_password(&address, "rotated"));
    set_mode(&new, 0o644);
    fs::rename(&new, &file).unwrap();
    are_unavailable(&client, &writes, &token).await;
    server
        .has_logged("the file of DATABASE_URL_FILE is not read again", 1)
        .await;
    set_mode(&file, 0o600);
    let written = writes.recover(name, Instant::now(), None).await;
    assert_all(name, &[written]);
}

/// The password file of PostgreSQL's own clients, which is read again where the URL has no password.
#[tokio::test]
async fn a_changed_password_is_read_from_the_password_file_again() {
    let name = "password file";
    if Backend::of_this_run() != Backend::Postgres {
        eprintln!("NOT RUN: MariaDB has no password file");
        return;
    }
    let Some(cluster) = start_cluster().await else {
        return;
    };
    let place = Place::without_database();
    let file = place.path().join("pgpass");
    write_password(&file, ROLE_PASSWORD);
    let address = cluster.primary().address();
    let url = cluster.url(&address).replace(&format!(":{ROLE_PASSWORD}@"), "@");
    let mut command = place.command();
    command.env("PGPASSFILE", &file);
    let url = format!("--database-url={url}");
    let flags = [&["--listen=127.0.0.1:0", url.as_str()], &FLAGS[..]].concat();
    let server = ServerProcess::spawn(command, &flags).await;
    let client = connect(server.address).await;
    let writes = Writes::new(&client).await;
    let token = sign_in(&mut client.clone(), writes.user()).await;

    rotate_password(&cluster).await;
    are_unavailable(&client, &writes, &token).await;
    write_password(&file, "rotated");
    let written = writes.recover(name, Instant::now(), None).await;
    assert_all(name, &[written]);
}

#[tokio::test]
async fn too_many_connections_are_unavailable_until_there_is_room() {
    let name = "too many connections";
    let Some(cluster) = start_cluster().await else {
        return;
    };
    let place = Place::without_database();
    let address = cluster.primary().address();
    let url = cluster.url(&address);
    let server = super::scene::start_service(&place, &url, &[]).await;
    let client = connect(server.address).await;
    let writes = Writes::new(&client).await;
    let token = sign_in(&mut client.clone(), writes.user()).await;

    // MariaDB knows no limit of 0, so another client takes the only connection.
    let (limit, unlimited) = match Backend::of_this_run() {
        Backend::Postgres => (
            format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"),
            format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"),
        ),
        _ => (
            format!("ALTER USER {ROLE}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1"),
            format!("ALTER USER {ROLE}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0"),
        ),
    };
    cluster.primary().run(&[&limit]).await;
    terminate_connections(&cluster).await;
    let _taken = match Backend::of_this_run() {
        Backend::Postgres => None,
        _ => Some(sea_orm::Database::connect(&url).await.unwrap()),
    };
    are_unavailable(&client, &writes, &token).await;
    cluster.primary().run(&[&unlimited]).await;
    let written = writes.recover(name, Instant::now(), None).await;
    assert_all(name, &[written]);
}

/// Every call that needs the database is UNAVAILABLE with RetryInfo.
async fn are_unavailable(client: &Client, writes: &Writes, token: &str) {
    let mut client = client.clone();
    for _ in 0..CALLS {
        let signing_in = client.authenticate(credentials(writes.user(), PASSWORD)).await;
        assert_unavailable(&signing_in.unwrap_err());
        let checking = client.validate_session(strongly(token)).await;
        assert_unavailable(&checking.unwrap_err());
    }
}

/// Gives the role the password `rotated`, and ends its connections.
async fn rotate_password(cluster: &Cluster) {
    let set = match Backend::of_this_run() {
        Backend::Postgres => format!("ALTER ROLE {ROLE} PASSWORD 'rotated'"),
        _ => format!("ALTER USER {ROLE}@'127.0.0.1' IDENTIFIED BY 'rotated'"),
    };
    cluster.primary().run(&[&set]).await;
    terminate_connections(cluster).await;
}

/// A password file, which has to be readable by its owner only.
fn write_password(file: &Path, password: &str) {
    let new = file.with_extension("new");
    write_secret(&new, format!("*:*:*:{ROLE}:{password}\n"));
    fs::rename(&new, file).unwrap();
}

/// Replaced at once, as a mounted secret is.
fn write_url(file: &Path, url: &str) {
    let new = file.with_extension("new");
    write_secret(&new, url);
    fs::rename(&new, file).unwrap();
}

async fn terminate_connections(cluster: &Cluster) {
    let server = cluster.primary();
    match Backend::of_this_run() {
        Backend::Postgres => {
            let terminate = format!(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{ROLE}'"
            );
            server.run(&[&terminate]).await;
        }
        _ => {
            server.run(&[&format!("KILL USER {ROLE}@'127.0.0.1'")]).await;
            let are_gone = format!(
                "SELECT 1 FROM dual WHERE NOT EXISTS \
                 (SELECT 1 FROM information_schema.processlist WHERE user = '{ROLE}')"
            );
            server.finds(&are_gone).await;
        }
    }
}
