//! Settings from the environment and from a `.env` file.

use super::{refusal_to_start, refusal_to_start_in};
use crate::support::binary::{ServerProcess, command};
use crate::support::place::{Place, write_secret};
use crate::support::{PASSWORD, connect};

#[test]
fn a_bad_dotenv_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "DATABASE_URL='hunter2\n").unwrap();
    let line = refusal_to_start_in(folder.path(), &[], &[]);
    assert!(line.contains(".env") && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_dollar_in_dotenv_is_refused_with_its_line_or_taken_literally() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    let key = "PHONE_IDENTITY_OPERATOR_KEY=hunter2-and-thirty-two-characters-";
    for (text, line) in [
        (format!("{key}abc$def\n"), 1),
        (format!("# $ in a comment\n\n{key}\"abc$def\"\n"), 3),
        (format!("A='$1'\nB=\\$2\n{key}${{HOME}}\n"), 3),
    ] {
        std::fs::write(&dotenv, text).unwrap();
        let refusal = refusal_to_start_in(folder.path(), &[], &[]);
        let expected = format!("error: line {line} of .env has a $ ");
        assert!(
            refusal.starts_with(&expected) && !refusal.contains("hunter2"),
            "{refusal}"
        );
    }
    for (value, file) in [
        ("'sqlite://a$b.db'", "a$b.db"),
        ("sqlite://c\\$d.db", "c$d.db"),
        ("\"sqlite://e\\$f.db\"", "e$f.db"),
    ] {
        // As an editor on Windows writes it.
        std::fs::write(&dotenv, format!("\u{feff}DATABASE_URL={value}\r\n")).unwrap();
        let output = command(folder.path()).arg("migrate").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(folder.path().join(file).exists(), "{value}");
    }
}

#[test]
fn an_unknown_variable_that_resembles_a_security_setting_is_refused() {
    for (name, similar) in [
        (
            "PHONE_IDENTITY_REQUIRE_SERVICE_KEYS",
            "(PHONE_IDENTITY_REQUIRE_SERVICE_KEY?)",
        ),
        ("PHONE_IDENTITY_TLS_CERT", ""),
        ("PHONE_IDENTITY_CLIENT_CAS", "(PHONE_IDENTITY_CLIENT_CA?)"),
        ("PHONE_IDENTITY_OPERATORKEY", "(PHONE_IDENTITY_OPERATOR_KEY?)"),
    ] {
        let line = refusal_to_start(&["--listen=127.0.0.1:0"], &[(name, "hunter2")]);
        assert!(
            line.contains(&format!("{name} {similar}").trim().to_owned()) && !line.contains("hunter2"),
            "{line}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let dotenv = "PHONE_IDENTITY_REQUIRE_SERVICEKEY=true\n";
    std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    let line = refusal_to_start_in(folder.path(), &["--listen=127.0.0.1:0"], &[]);
    assert!(line.contains("PHONE_IDENTITY_REQUIRE_SERVICEKEY"), "{line}");
}

#[tokio::test]
async fn another_unknown_variable_is_a_warning_and_those_of_kubernetes_are_none() {
    let place = Place::new().await;
    let mut command = place.command();
    command.envs([
        ("PHONE_IDENTITY_LISTN", "127.0.0.1:1"),
        ("PHONE_IDENTITY_IMAGE_TAG", "1"),
        // Kubernetes sets these for the Services phone-identity, phone-identity-tls and phone-identity-client-ca.
        ("PHONE_IDENTITY_SERVICE_HOST", "10.96.0.1"),
        ("PHONE_IDENTITY_SERVICE_PORT", "50051"),
        ("PHONE_IDENTITY_SERVICE_PORT_GRPC", "50051"),
        ("PHONE_IDENTITY_PORT", "tcp://10.96.0.1:50051"),
        ("PHONE_IDENTITY_PORT_50051_TCP", "tcp://10.96.0.1:50051"),
        ("PHONE_IDENTITY_TLS_SERVICE_HOST", "10.96.0.2"),
        ("PHONE_IDENTITY_TLS_PORT_50051_TCP_ADDR", "10.96.0.2"),
        ("PHONE_IDENTITY_CLIENT_CA_SERVICE_PORT", "50051"),
        // Empty means unset, and a name is a name.
        ("PHONE_IDENTITY_LOG_LEVEL", ""),
    ]);
    let server = ServerProcess::spawn(command, &["--listen=127.0.0.1:0"]).await;
    server.terminate();
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("unknown variable"))
        .collect();
    assert_eq!(warnings.len(), 2, "{log}");
    for (name, similar) in [
        ("PHONE_IDENTITY_LISTN", "\"similar\":\"PHONE_IDENTITY_LISTEN\""),
        ("PHONE_IDENTITY_IMAGE_TAG", ""),
    ] {
        let is_told = |line: &&str| line.contains(name) && line.contains(similar) && line.contains("WARN");
        assert!(warnings.iter().any(is_told), "{warnings:?}");
    }
    assert!(!log.contains("127.0.0.1:1\""), "values are not shown: {log}");
}

/// A byte order mark, with which some editors begin a file, is part of no secret.
#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_secret() {
    let place = Place::new().await;
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        write_secret(&path, format!("\u{feff}{text}\r\n"));
        path.display().to_string()
    };
    let operator_key = "an operator key of thirty-two characters";
    let flags = [
        format!("--operator-key-file={}", write("operator", operator_key)),
        format!(
            "--peppers-file={}",
            write("peppers", "k1:AAECAwQFBgcICQoLDA0ODw==")
        ),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut command = place.command();
    let url = write("url", &place.url());
    command.env_remove("DATABASE_URL").env("DATABASE_URL_FILE", url);
    let server = ServerProcess::spawn(command, &[&["--listen=127.0.0.1:0"], flags.as_slice()].concat()).await;
    let mut client = connect(server.address).await;
    let mut request = tonic::Request::new(phone_identity::proto::v1::CreateSuperuserRequest {
        phone_number: "+998901234567".to_owned(),
        default_region: String::new(),
        password: PASSWORD.to_owned(),
    });
    request
        .metadata_mut()
        .insert("x-operator-key", operator_key.parse().unwrap());
    client.create_superuser(request).await.unwrap();
}
