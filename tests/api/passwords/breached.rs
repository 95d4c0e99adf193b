//! `--breached-passwords-file`, with files that the test makes.

use std::fs;
use std::path::Path;

use phone_identity::proto::v1;

use crate::support::place::Place;
use crate::support::refusal::assert_violations;
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, registration};

/// A password, and its hash by `sha1sum`.
const BREACHED: (&str, &str) = (
    "tinted walrus parade 41",
    "84E35DC8BBB4BBF9C9907B82452E19F11A0BD0A1",
);

/// A password that is typed decomposed, and the hash of its composed form by Python's hashlib.
const DECOMPOSED: (&str, &str) = (
    "cafe\u{301} au lait a\u{300} minuit",
    "E43F043A88D22C7F953C918B3433522F47D3807E",
);

/// Writes a file with both, between the lowest and the highest hash that there can be.
fn write(path: &Path, ending: &str) {
    let lines = [
        "0".repeat(40),
        BREACHED.1.to_owned(),
        DECOMPOSED.1.to_owned(),
        "F".repeat(40),
    ];
    let text: String = lines
        .iter()
        .zip(1..)
        .map(|(hash, count)| format!("{hash}:{count}{ending}"))
        .collect();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn breached_passwords_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pwned.txt");
    let flag = format!("--breached-passwords-file={}", path.display());
    for ending in ["\n", "\r\n"] {
        write(&path, ending);
        let server = TestServer::start_with(&[&flag]).await;
        let mut client = server.client().await;
        for (password, _) in [BREACHED, DECOMPOSED] {
            let rejected = client
                .register(registration(&next_phone_number(), password))
                .await;
            assert_violations(rejected, &[("password", "PASSWORD_BREACHED")]);
        }
        let person = server.person().await;
        let update = person.asks(v1::UpdateProfileRequest {
            new_password: Some(BREACHED.0.to_owned()),
            ..v1::UpdateProfileRequest::default()
        });
        let rejected = client.update_profile(update).await;
        assert_violations(rejected, &[("new_password", "PASSWORD_BREACHED")]);
    }
}

/// The policy applies to new passwords: a user with a breached password can still sign in.
#[tokio::test]
async fn a_breached_password_that_is_in_use_stays_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pwned.txt");
    write(&path, "\n");
    let server = TestServer::start().await;
    let number = next_phone_number();
    let registration = registration(&number, BREACHED.0);
    server.client().await.register(registration).await.unwrap();
    let flag = format!("--breached-passwords-file={}", path.display());
    let server = server.restart_with(&[&flag]).await;
    let credentials = credentials(&number, BREACHED.0);
    server.client().await.authenticate(credentials).await.unwrap();
}

#[tokio::test]
async fn commands_reject_breached_passwords_and_files_of_another_form() {
    let place = Place::new().await;
    let path = place.path().join("pwned.txt");
    write(&path, "\n");
    let run = async |path: &Path, password: &str| {
        let flag = format!("--breached-passwords-file={}", path.display());
        let number = next_phone_number();
        let arguments = [
            "createsuperuser",
            "--phone-number",
            &number,
            "--password-stdin",
            &flag,
        ];
        let output = place.run(&arguments, password).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run(&path, BREACHED.0).await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("the password is known from a data breach"),
        "{stderr}"
    );
    assert_eq!(run(&path, PASSWORD).await.0, Some(0));
    fs::write(place.path().join("words.txt"), "password\n").unwrap();
    fs::write(place.path().join("empty.txt"), "").unwrap();
    for (name, expected) in [
        ("missing.txt", "--breached-passwords-file cannot be read"),
        ("empty.txt", "--breached-passwords-file is empty"),
        (
            "words.txt",
            "--breached-passwords-file does not have lines HASH:COUNT",
        ),
    ] {
        let (code, stderr) = run(&place.path().join(name), PASSWORD).await;
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
