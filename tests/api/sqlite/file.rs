//! The file of the database is deleted, replaced, or has no room.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::metrics::until_readyz_is;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{Client, PASSWORD, connect, credentials, next_phone_number, registration, validation};

/// A new user, and the token of their session.
async fn register(client: &mut Client) -> (String, String) {
    let user = next_phone_number();
    let registered = client.register(registration(&user, PASSWORD)).await.unwrap();
    (user, registered.into_inner().session_token)
}

/// Calls would go on to answer from a file that has no name, and lose what they write.
#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_is_noticed() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--metrics-listen=127.0.0.1:0"]).await;
    let mut client = connect(server.address).await;
    let (user, token) = register(&mut client).await;
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

/// The command in a namespace of its own, with a small file system in this folder. `None`: the tests do not run as root.
fn in_small_file_system(place: &Place, folder: &Path) -> Option<Command> {
    let possible = Command::new("unshare").args(["--mount", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mount = format!(
        "mount -t tmpfs -o size=4m tmpfs '{}' && exec \"$@\"",
        folder.display()
    );
    let program = place.command().get_program().to_owned();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &mount, "sh"])
        .arg(program)
        .current_dir(place.path())
        .env_clear();
    Some(command)
}

#[tokio::test]
async fn a_full_disk_is_told_by_readiness_and_recovers() {
    let place = Place::new().await;
    let folder = place.path().join("small");
    fs::create_dir(&folder).unwrap();
    let Some(command) = in_small_file_system(&place, &folder) else {
        eprintln!("NOT RUN: a file system can be mounted by root only");
        return;
    };
    let url = format!("--database-url=sqlite://{}", folder.join("small.db").display());
    let flags = ["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", &url];
    let server = ServerProcess::spawn(command, &flags).await;
    let mut client = connect(server.address).await;
    let (user, token) = register(&mut client).await;
    let metrics = server.metrics.unwrap();
    until_readyz_is(metrics, 200).await;

    // The file system, as the process sees it.
    let inside = Path::new("/proc")
        .join(server.pid().to_string())
        .join("root")
        .join(folder.strip_prefix("/").unwrap());
    let filler = inside.join("filler");
    assert!(
        fs::write(&filler, vec![0; 8 << 20]).is_err(),
        "the file system is full"
    );
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
}
