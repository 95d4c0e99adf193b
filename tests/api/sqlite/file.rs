//! The file of the database is deleted, replaced, or has no room.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use crate::metrics::until_readyz_is;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{Client, PASSWORD, connect, credentials, next_phone_number, registration, validation};

/// A server with metrics, and a user with a session.
async fn start(place: &Place, flags: &[&str]) -> (ServerProcess, Client, String, String) {
    let flags = [&["--metrics-listen=127.0.0.1:0"], flags].concat();
    let server = ServerProcess::start(place, &flags).await;
    let mut client = connect(server.address).await;
    let user = next_phone_number();
    let registered = client.register(registration(&user, PASSWORD)).await.unwrap();
    let token = registered.into_inner().session_token;
    (server, client, user, token)
}

/// Calls would go on to answer from a file that has no name, and lose what they write.
#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_is_noticed() {
    let place = Place::new().await;
    let (server, mut client, user, token) = start(&place, &[]).await;
    let metrics = server.metrics.unwrap();
    until_readyz_is(metrics, 200).await;
    let (file, aside) = (
        place.path().join("phone-identity.db"),
        place.path().join("aside.db"),
    );
    for replacement in [None, Some("")] {
        fs::rename(&file, &aside).unwrap();
        if let Some(content) = replacement {
            fs::write(&file, content).unwrap();
        }
        let refused = client.authenticate(credentials(&user, PASSWORD)).await;
        let refused = refusal(&refused.unwrap_err());
        assert_eq!(
            (
                refused.code,
                refused.reason.as_str(),
                refused.retry_after.is_some()
            ),
            (Code::Unavailable, "DATABASE_UNAVAILABLE", true)
        );
        until_readyz_is(metrics, 503).await;
        let checked = client.validate_session(validation(&token)).await;
        assert_refused(checked, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert_eq!(file.exists(), replacement.is_some(), "it is not created again");
        fs::rename(&aside, &file).unwrap();
        until_readyz_is(metrics, 200).await;
        client.authenticate(credentials(&user, PASSWORD)).await.unwrap();
        client.validate_session(validation(&token)).await.unwrap();
    }
}

/// A file system of its own for a process and its children.
fn in_small_file_system(folder: &Path, script: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    let mount = format!(
        "mount -t tmpfs -o size=4m tmpfs '{}' && {script}",
        folder.display()
    );
    command.args(["--mount", "sh", "-c", &mount]);
    let possible = Command::new("unshare").args(["--mount", "true"]).output();
    possible
        .is_ok_and(|output| output.status.success())
        .then_some(command)
}

#[tokio::test]
async fn a_full_disk_is_told_by_readiness_and_recovers() {
    let place = Place::new().await;
    let folder = place.path().join("small");
    fs::create_dir(&folder).unwrap();
    let Some(mut namespace) = in_small_file_system(&folder, "exec sleep 1000") else {
        eprintln!("NOT RUN: a file system can be mounted by root only");
        return;
    };
    let mut holder = tokio::process::Command::from({
        namespace.stdin(std::process::Stdio::null());
        namespace
    })
    .kill_on_drop(true)
    .spawn()
    .unwrap();
    // The file system, as it is seen in the namespace of that process.
    let inside = Path::new("/proc")
        .join(holder.id().unwrap().to_string())
        .join("root")
        .join(folder.strip_prefix("/").unwrap());
    let is_mounted = async {
        let mut ticks = interval(Duration::from_millis(10));
        while rustix::fs::statfs(&inside).map_or(u64::MAX, |fs| fs.f_blocks * 4096) > 8 << 20 {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(10), is_mounted)
        .await
        .expect("is not mounted");
    let url = format!("--database-url=sqlite://{}", inside.join("small.db").display());
    let (server, mut client, user, token) = start(&place, &[&url]).await;
    let metrics = server.metrics.unwrap();
    until_readyz_is(metrics, 200).await;

    let filler = inside.join("filler");
    let full = fs::write(&filler, vec![0; 8 << 20]);
    assert!(full.is_err(), "the file system is full");
    // What fits into pages that the log has already may still be written.
    let refused = async {
        loop {
            if let Err(status) = client.authenticate(credentials(&user, PASSWORD)).await {
                return refusal(&status);
            }
        }
    };
    let refused = timeout(Duration::from_secs(20), refused)
        .await
        .expect("writes go on");
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE")
    );
    until_readyz_is(metrics, 503).await;
    // What is only read is still answered.
    client.validate_session(validation(&token)).await.unwrap();

    fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    until_readyz_is(metrics, 200).await;
    client.authenticate(credentials(&user, PASSWORD)).await.unwrap();
    assert!(freed.elapsed() < Duration::from_secs(5), "{:?}", freed.elapsed());
    holder.kill().await.unwrap();
}
