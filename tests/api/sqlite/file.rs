//! The file of the database is deleted, replaced, or has no room.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::metrics::until_readyz_is;
use crate::process::refusal_to_start_in;
use crate::support::binary::ServerProcess;
use crate::support::place::{Place, set_mode};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{Client, PASSWORD, connect, credentials, next_phone_number, registration, validation};

/// A new user, and the token of their session.
async fn register(client: &mut Client) -> (String, String) {
    let user = next_phone_number();
    let registered = client.register(registration(&user, PASSWORD)).await.unwrap();
    (user, registered.into_inner().session_token)
}

/// Otherwise calls would use a deleted file, and lose their writes.
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

/// The command in a namespace of its own, with a small file system in this folder. `None`: the tests do not run as
/// root.
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
    // Writes that fit into the allocated pages of the log may still succeed.
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
    // Reads still succeed.
    client.validate_session(validation(&token)).await.unwrap();

    fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    until_readyz_is(metrics, 200).await;
    client.authenticate(credentials(&user, PASSWORD)).await.unwrap();
    assert!(freed.elapsed() < Duration::from_secs(5), "{:?}", freed.elapsed());
}

/// The command with this umask.
fn with_umask(place: &Place, umask: &str, arguments: &[&str]) -> Command {
    let program = place.command().get_program().to_owned();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"])
        .arg(program)
        .args(arguments)
        .current_dir(place.path())
        .env_clear();
    command
}

fn mode_of(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o7777
}

/// It has hashes and numbers in it, and so have the files beside it, and a backup.
#[tokio::test]
async fn no_other_user_can_read_the_file() {
    for umask in ["000", "022", "077"] {
        let place = Place::new().await;
        let server = ServerProcess::spawn(with_umask(&place, umask, &[]), &["--listen=127.0.0.1:0"]).await;
        register(&mut connect(server.address).await).await;
        let made = with_umask(&place, umask, &["backup", "copy.db"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        for name in [
            "phone-identity.db",
            "phone-identity.db-wal",
            "phone-identity.db-shm",
            "copy.db",
        ] {
            assert_eq!(mode_of(&place.path().join(name)), 0o600, "{umask} {name}");
        }
    }
}

/// A user that can write to the folder would choose where the database is, and SQLite would create it readable by all.
#[tokio::test]
async fn a_database_is_not_created_through_a_link() {
    let place = Place::new().await;
    let (link, target) = (
        place.path().join("phone-identity.db"),
        place.path().join("elsewhere.db"),
    );
    symlink(&target, &link).unwrap();
    let flags = ["--listen=127.0.0.1:0"];
    let line = refusal_to_start_in(place.path(), &flags, &[]);
    assert!(
        line.starts_with(
            "error: the database of DATABASE_URL cannot be used: the file phone-identity.db \
        is a symbolic link"
        ),
        "{line}"
    );
    let backup = place.run(&["backup", "copy.db"], "").await;
    assert_eq!(backup.status.code(), Some(2), "{backup:?}");
    assert!(!target.exists());
    // One that leads to a database is followed.
    fs::remove_file(&link).unwrap();
    assert!(place.run(&["migrate"], "").await.status.success());
    fs::rename(&link, &target).unwrap();
    symlink(&target, &link).unwrap();
    let server = ServerProcess::start(&place, &[]).await;
    register(&mut connect(server.address).await).await;
    assert_eq!(mode_of(&place.path().join("elsewhere.db-wal")), 0o600);
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    // A link beside it is not.
    symlink(place.path().join("a_log"), place.path().join("elsewhere.db-wal")).unwrap();
    let line = refusal_to_start_in(place.path(), &flags, &[]);
    assert!(line.contains("elsewhere.db-wal is a symbolic link"), "{line}");
    assert!(!place.path().join("a_log").exists());
}

#[tokio::test]
async fn a_database_that_all_users_can_read_or_write_is_refused() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let (file, beside) = (
        place.path().join("phone-identity.db"),
        place.path().join("phone-identity.db-journal"),
    );
    fs::write(&beside, "").unwrap();
    for name in [&file, &beside] {
        set_mode(&file, 0o600);
        set_mode(&beside, 0o600);
        for mode in [0o644, 0o604, 0o602, 0o666] {
            set_mode(name, mode);
            for arguments in [
                &["serve", "--listen=127.0.0.1:0"][..],
                &["migrate"],
                &["backup", "copy.db"],
                &["users", "list"],
                &["audit"],
                &["service-key", "list"],
            ] {
                let output = place.run(arguments, "").await;
                let line = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
                let name = name.file_name().unwrap().to_str().unwrap();
                let expected = format!("{name} is open to all users of this machine (mode {mode:04o}): ");
                assert!(
                    line.contains(&expected) && line.contains("--allow-readable-secrets"),
                    "{line}"
                );
            }
            let allowed = place
                .run(&["users", "list", "--allow-readable-secrets"], "")
                .await;
            assert!(allowed.status.success(), "{allowed:?}");
        }
        // Its files have the mode of the database.
        for entry in fs::read_dir(place.path()).unwrap() {
            set_mode(&entry.unwrap().path(), 0o600);
        }
        // As a volume with an fsGroup has it.
        for mode in [0o660, 0o640] {
            set_mode(name, mode);
            let output = place.run(&["users", "list"], "").await;
            assert!(output.status.success(), "{mode:o} {output:?}");
        }
    }
}
