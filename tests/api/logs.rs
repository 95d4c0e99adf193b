//! The log contains no secrets and no personal data. The test reads the whole log of a run of every RPC, at the finest
//! level.

pub(crate) mod calls;

use sea_orm::ConnectionTrait as _;

use calls::{calls_with_keys, every_rpc, every_rpc_of_codes};

use crate::support::binary::ServerProcess;
use crate::support::place::{Place, write_secret};
use crate::support::{OTHER_PASSWORD, PASSWORD, connect, credentials};

const PHONE_NUMBER: &str = "+998901234567";
const NEW_PHONE_NUMBER: &str = "+998712345678";
pub(crate) const SUPERUSER: &str = "+998931112233";
const OPERATOR_KEY: &str = "operator-key-of-thirty-two-characters-or-more";

async fn log_of_every_rpc(format: &str) -> (String, Vec<String>) {
    let place = Place::new().await;
    let made = place
        .run(
            &["createsuperuser", "--phone-number", SUPERUSER, "--password-stdin"],
            PASSWORD,
        )
        .await;
    assert!(made.status.success(), "{made:?}");
    let made = place
        .run(&["service-key", "create", "orders", "--allow", "all"], "")
        .await;
    let service_key = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let key_file = place.path().join("operator-key");
    write_secret(&key_file, OPERATOR_KEY);
    let key_file = format!("--operator-key-file={}", key_file.display());
    let flags = [
        "--log-level=trace",
        "--sms-providers=log",
        "--unverified-phone-change",
        "--log-format",
        format,
        &key_file,
    ];
    let server = ServerProcess::start(&place, &flags).await;
    let mut tokens = every_rpc(&server).await;
    every_rpc_of_codes(&server).await;
    server.terminate();
    let (code, mut log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    // The same calls with service keys.
    let flags = [&flags[..], &["--require-service-key"]].concat();
    let server = ServerProcess::start(&place, &flags).await;
    calls_with_keys(&server, &service_key).await;
    server.terminate();
    let (code, more) = server.ended().await;
    assert_eq!(code, Some(0), "{more}");
    log.push_str(&more);
    tokens.push(service_key);
    tokens.push(OPERATOR_KEY.to_owned());
    let server = ServerProcess::start(&place, &flags[..flags.len() - 1]).await;
    break_password_of_everybody(&place).await;
    let mut client = connect(server.address).await;
    client
        .authenticate(credentials(SUPERUSER, PASSWORD))
        .await
        .unwrap_err();
    server.terminate();
    let (code, more) = server.ended().await;
    assert_eq!(code, Some(0), "{more}");
    log.push_str(&more);
    (log, tokens)
}

/// So that there is a fault to log.
async fn break_password_of_everybody(place: &Place) {
    place
        .connect()
        .await
        .execute_unprepared("UPDATE users SET password_hash = 'broken'")
        .await
        .unwrap();
}

pub(crate) fn assert_tells_nothing(log: &str, tokens: &[String]) {
    for number in [PHONE_NUMBER, NEW_PHONE_NUMBER, SUPERUSER] {
        // The last seven digits are more than the mask shows, and stand in every way of writing the number.
        assert!(
            !log.contains(&number[number.len() - 7..]),
            "{number} is in the log:\n{log}"
        );
    }
    for secret in [PASSWORD, OTHER_PASSWORD, "$argon2"]
        .into_iter()
        .chain(tokens.iter().map(String::as_str))
    {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    // Not in pieces either: every token begins with this.
    for prefix in ["pid_", "pdv_", "pis_"] {
        assert!(!log.contains(prefix), "{prefix} is in the log:\n{log}");
    }
    // As users write it.
    assert!(!log.contains("90-123-45-67"), "{log}");
}

#[tokio::test]
async fn a_json_log_has_every_call_and_no_personal_data() {
    let (log, tokens) = log_of_every_rpc("json").await;
    assert_tells_nothing(&log, &tokens);
    let fault = log.lines().find(|line| line.contains("\"ERROR\"")).expect(&log);
    assert!(
        fault.contains("internal error: stored hash: ") && fault.contains("request_id"),
        "{fault}"
    );
    assert!(
        log.contains("\"code\":\"Unauthenticated\",\"reason\":\"INVALID_CREDENTIALS\""),
        "{log}"
    );
    for rpc in [
        "Register",
        "Authenticate",
        "ValidateSession",
        "RevokeSession",
        "ListSessions",
        "RevokeSessions",
        "UpdateProfile",
        "DeactivateProfile",
        "DeleteProfile",
        "CreateSuperuser",
    ] {
        let named = format!("\"rpc\":\"phone_identity.v1.PhoneIdentity/{rpc}\"");
        let line = log
            .lines()
            .find(|line| line.contains(&named) && line.contains("call ended"));
        let line = line.unwrap_or_else(|| panic!("no line of {rpc}:\n{log}"));
        assert!(
            line.starts_with('{') && line.ends_with('}') && line.contains("\"request_id\":\""),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_pretty_log_has_no_personal_data() {
    let (log, tokens) = log_of_every_rpc("pretty").await;
    assert_tells_nothing(&log, &tokens);
    assert!(log.contains("call ended") && !log.starts_with('{'), "{log}");
}
