//! Files with secrets that other users of the machine can read: the service rejects them, with a clear error.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use clap::Args as _;
use phone_identity::config::Settings;

use crate::process::refusal_to_start_in;
use crate::support::TEST_FLAGS;
use crate::support::binary::{ServerProcess, command};
use crate::support::certificates::{Authority, SERVER};
use crate::support::codes::CEILING;
use crate::support::place::{Place, set_mode, write_secret};

const PEPPER: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZg==";
const SECRET: &str = "a-secret-of-thirty-two-characters-or-more";

/// Modes that only other users' bits make unfit.
const OPEN: [u32; 6] = [0o644, 0o604, 0o602, 0o606, 0o664, 0o444];

/// The settings of files with secrets: the name of each, the setting as an error names it, and what is in its file.
fn secret_settings() -> Vec<(&'static str, &'static str, String)> {
    let identity = Authority::new().sign(&[SERVER]);
    vec![
        (
            "database-url-file",
            "DATABASE_URL_FILE",
            "sqlite://phone-identity.db".to_owned(),
        ),
        ("tls-key", "tls-key", identity.key),
        ("peppers-file", "PHONE_IDENTITY_PEPPERS_FILE", PEPPER.to_owned()),
        (
            "code-keys-file",
            "PHONE_IDENTITY_CODE_KEYS_FILE",
            PEPPER.to_owned(),
        ),
        (
            "operator-key-file",
            "PHONE_IDENTITY_OPERATOR_KEY_FILE",
            SECRET.to_owned(),
        ),
        (
            "twilio-auth-token-file",
            "PHONE_IDENTITY_TWILIO_AUTH_TOKEN_FILE",
            SECRET.to_owned(),
        ),
        (
            "playmobile-password-file",
            "PHONE_IDENTITY_PLAYMOBILE_PASSWORD_FILE",
            SECRET.to_owned(),
        ),
        (
            "webhook-secret-file",
            "PHONE_IDENTITY_WEBHOOK_SECRET_FILE",
            SECRET.to_owned(),
        ),
    ]
}

/// Files without secrets.
const OTHERS: [&str; 5] = [
    "tls-certificate",
    "client-ca",
    "breached-passwords-file",
    "sms-ca",
    "sms-prices-file",
];

/// A folder with a file for each setting, by its name, and the flags of a server that needs them all.
fn flags_of_all(folder: &Path) -> Vec<String> {
    let mut flags: Vec<String> = [
        "--sms-providers=twilio,playmobile,webhook",
        "--twilio-account-sid=AC",
        "--twilio-from=shop",
        "--playmobile-url=http://localhost/",
        "--playmobile-login=shop",
        "--playmobile-originator=3700",
        "--webhook-url=http://localhost/",
    ]
    .into_iter()
    .chain(CEILING)
    .map(str::to_owned)
    .collect();
    for (name, _, content) in secret_settings() {
        let file = folder.join(name);
        write_secret(&file, content);
        flags.push(format!("--{name}={}", file.display()));
    }
    // The key of one pair replaces the key above.
    let identity = Authority::new().sign(&[SERVER]);
    write_secret(&folder.join("tls-key"), identity.key);
    fs::write(folder.join("tls-certificate"), identity.certificate).unwrap();
    flags.push(format!(
        "--tls-certificate={}",
        folder.join("tls-certificate").display()
    ));
    flags
}

/// A new setting of a file has to be in one of the two lists.
#[test]
fn every_setting_of_a_file_is_known_to_hold_a_secret_or_not() {
    let command = Settings::augment_args(clap::Command::new("settings"));
    let is_file = |argument: &&clap::Arg| {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().any(|name| *name == "FILE")
    };
    let found: BTreeSet<String> = command
        .get_arguments()
        .filter(is_file)
        .map(|argument| argument.get_long().unwrap().to_owned())
        .collect();
    let secrets = secret_settings();
    let known: BTreeSet<String> = secrets
        .iter()
        .map(|(name, ..)| *name)
        .chain(OTHERS)
        .map(str::to_owned)
        .collect();
    assert_eq!(found, known);
}

#[test]
fn a_secret_file_that_all_users_can_read_or_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let flags = flags_of_all(folder.path());
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push("--listen=127.0.0.1:0");
    flags.extend(TEST_FLAGS);
    for (name, shown, content) in secret_settings() {
        let file = folder.path().join(name);
        for mode in OPEN {
            set_mode(&file, mode);
            let line = refusal_to_start_in(folder.path(), &flags, &[]);
            let expected = format!("{shown} is open to all users of this machine (mode {mode:04o}): ");
            assert!(line.starts_with("error: ") && line.contains(&expected), "{line}");
            assert!(
                line.contains("--allow-readable-secrets") && !line.contains(&content),
                "{line}"
            );
        }
        set_mode(&file, 0o600);
    }
}

/// The private key of the client certificate for the database.
#[test]
fn a_client_key_of_the_database_that_all_users_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    write_secret(&key, SECRET);
    let file = key.display();
    for (url, variable, shown) in [
        (
            format!("postgres://127.0.0.1:1/d?sslkey={file}"),
            "OTHER",
            "sslkey",
        ),
        (
            format!("mysql://127.0.0.1:1/d?ssl-key={file}"),
            "OTHER",
            "ssl-key",
        ),
        ("postgres://127.0.0.1:1/d".to_owned(), "PGSSLKEY", "PGSSLKEY"),
    ] {
        let flags = [
            "--listen=127.0.0.1:0",
            "--database-start-timeout=0s",
            "--database-url",
            &url,
        ];
        let variables = [(variable, key.to_str().unwrap())];
        for (mode, is_refused) in [(0o644, true), (0o640, false)] {
            set_mode(&key, mode);
            let line = refusal_to_start_in(folder.path(), &flags, &variables);
            let expected = format!("the file of {shown} is open to all users of this machine (mode 0644): ");
            assert_eq!(line.contains(&expected), is_refused, "{url}: {line}");
        }
    }
}

/// As Kubernetes mounts them: links to files of root that the group of the Pod can read. And as it does without
/// `defaultMode`.
#[tokio::test]
async fn secret_files_are_links_that_a_group_can_read_or_are_allowed_to_be_open() {
    let place = Place::without_database();
    let data = place.path().join("..data");
    fs::create_dir(&data).unwrap();
    flags_of_all(&data);
    let mut flags = flags_of_all(place.path());
    for (name, ..) in secret_settings() {
        fs::remove_file(place.path().join(name)).unwrap();
        symlink(Path::new("..data").join(name), place.path().join(name)).unwrap();
    }
    // The pair of the key.
    fs::copy(data.join("tls-certificate"), place.path().join("tls-certificate")).unwrap();
    for (mode, allow, warnings) in [
        (0o440, "--allow-readable-secrets=false", 0),
        (0o660, "--allow-readable-secrets=false", 0),
        (0o644, "--allow-readable-secrets", 1),
    ] {
        for (name, ..) in secret_settings() {
            set_mode(&data.join(name), mode);
        }
        flags.push(allow.to_owned());
        let all: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = ServerProcess::start(&place, &all).await;
        flags.pop();
        server.terminate();
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{mode:o}: {log}");
        let told = log
            .lines()
            .filter(|line| line.contains("--allow-readable-secrets: "));
        assert_eq!(
            told.filter(|line| line.contains("\"WARN\"")).count(),
            warnings,
            "{log}"
        );
    }
}

/// `.env` sets where passwords are sent and which access is allowed, so no other user may write it.
#[test]
fn a_dotenv_of_another_user_or_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    let run = || {
        let output = command(folder.path())
            .args(["phone-check", "+998901234567"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for content in ["", "DATABASE_URL='hunter2"] {
        fs::write(&file, content).unwrap();
        for mode in [0o666, 0o646, 0o664, 0o620, 0o602] {
            set_mode(&file, mode);
            let expected = format!(
                "error: .env is not read: users other than its owner can write it (mode {mode:04o}): run \
                 chmod go-w on it\n"
            );
            assert_eq!(run(), (Some(2), expected));
        }
    }
    fs::write(&file, "").unwrap();
    // It need not hold secrets.
    for mode in [0o644, 0o600, 0o444] {
        set_mode(&file, mode);
        assert_eq!(run(), (Some(0), String::new()), "{mode:o}");
    }
    if chown(&file, Some(12345), None).is_err() {
        eprintln!("NOT RUN: the owner of a file can be changed by root only");
        return;
    }
    let (code, line) = run();
    assert_eq!(code, Some(2), "{line}");
    assert!(
        line.starts_with("error: .env is not read: it belongs to user 12345, not to root"),
        "{line}"
    );
    // A link of another user is refused, too.
    chown(&file, Some(0), None).unwrap();
    fs::rename(&file, folder.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &file).unwrap();
    assert_eq!(run().0, Some(0));
    std::os::unix::fs::lchown(&file, Some(12345), None).unwrap();
    assert_eq!(run().0, Some(2));
}

/// The key of the server is read again while it runs.
#[tokio::test]
async fn a_new_key_that_all_users_can_read_is_not_served() {
    let place = Place::without_database();
    let flags = flags_of_all(place.path());
    let all: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = ServerProcess::start(&place, &all).await;
    let key = place.path().join("tls-key");
    let renewed = Authority::new().sign(&[SERVER]);
    let new = place.path().join("new");
    write_secret(&new, &renewed.key);
    set_mode(&new, 0o644);
    fs::write(place.path().join("tls-certificate"), &renewed.certificate).unwrap();
    fs::rename(&new, &key).unwrap();
    server
        .has_logged("is open to all users of this machine (mode 0644)", 1)
        .await;
    set_mode(&key, 0o640);
    server.has_logged("new certificates are served", 1).await;
}
