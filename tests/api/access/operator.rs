//! CreateSuperuser with the operator's key.

use phone_identity::proto::v1::CreateSuperuserRequest;
use tonic::{Code, Request};

use super::{REQUIRE_KEY, make_key, text};
use crate::support::binary::{ServerProcess, run};
use crate::support::place::{Place, write_secret};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, TEST_FLAGS, connect, credentials, registration};

const KEY: &str = "an operator key of thirty-two characters, or more";

fn superuser(phone_number: &str, keys: &[(&'static str, &str)]) -> Request<CreateSuperuserRequest> {
    let mut request = Request::new(CreateSuperuserRequest {
        phone_number: phone_number.to_owned(),
        default_region: String::new(),
        password: OTHER_PASSWORD.to_owned(),
    });
    for (name, value) in keys {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn the_operator_key_makes_the_first_superuser_and_a_wrong_one_does_not() {
    let place = Place::new().await;
    let file = place.path().join("operator-key");
    write_secret(&file, format!("{KEY}\n"));
    let flag = format!("--operator-key-file={}", file.display());
    let server = ServerProcess::start(&place, &[&flag]).await;
    let mut client = connect(server.address).await;
    for wrong in ["", &KEY[1..], &format!("{KEY}x"), &KEY.to_uppercase()] {
        let request = superuser("+998712345678", &[("x-operator-key", wrong)]);
        let outcome = client.create_superuser(request).await;
        assert_refused(outcome, Code::PermissionDenied, "OPERATOR_KEY_WRONG");
    }
    let request = superuser("+998712345678", &[("x-operator-key", KEY)]);
    let user = client
        .create_superuser(request)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert!(user.is_superuser && user.is_staff);
    let request = credentials("+998712345678", OTHER_PASSWORD);
    client.authenticate(request).await.unwrap();
    let request = superuser("+998712345678", &[("x-operator-key", KEY)]);
    let outcome = client.create_superuser(request).await;
    assert_refused(outcome, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let events = text(
        &place
            .run(&["audit", "--action", "create_superuser", "--json"], "")
            .await
            .stdout,
    );
    let done = events
        .lines()
        .find(|line| line.contains("\"done\""))
        .expect(&events);
    assert!(
        done.contains("\"actor\":\"operator\"") && done.contains("requestId"),
        "{done}"
    );
    assert_eq!(events.lines().count(), 2, "{events}");
}

/// It is no service key, and opens nothing else.
#[tokio::test]
async fn the_operator_key_is_needed_beside_a_service_key_and_opens_nothing_else() {
    let place = Place::new().await;
    let file = place.path().join("operator-key");
    write_secret(&file, KEY);
    let flag = format!("--operator-key-file={}", file.display());
    let server = ServerProcess::start(&place, &[&flag, REQUIRE_KEY]).await;
    let mut client = connect(server.address).await;
    let (_, setup) = make_key(&place, "setup", "superuser").await;
    let (_, orders) = make_key(&place, "orders", "register").await;
    let operator = ("x-operator-key", KEY);
    for (keys, reason) in [
        (vec![operator], "SERVICE_UNKNOWN"),
        (vec![operator, ("x-service-key", KEY)], "SERVICE_UNKNOWN"),
        (
            vec![operator, ("x-service-key", orders.as_str())],
            "SERVICE_NOT_ALLOWED",
        ),
        (
            vec![
                ("x-operator-key", setup.as_str()),
                ("x-service-key", setup.as_str()),
            ],
            "OPERATOR_KEY_WRONG",
        ),
    ] {
        let outcome = client.create_superuser(superuser("+998712345678", &keys)).await;
        assert_refused(outcome, Code::PermissionDenied, reason);
    }
    let keys = [operator, ("x-service-key", setup.as_str())];
    client
        .create_superuser(superuser("+998712345678", &keys))
        .await
        .unwrap();
    let mut request = Request::new(registration("+998901234567", PASSWORD));
    request
        .metadata_mut()
        .insert("x-operator-key", KEY.parse().unwrap());
    let outcome = client.register(request).await;
    assert_refused(outcome, Code::PermissionDenied, "SERVICE_UNKNOWN");
}

#[tokio::test]
async fn without_an_operator_key_none_is_right() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    for given in ["", KEY] {
        let request = superuser("+998712345678", &[("x-operator-key", given)]);
        let outcome = client.create_superuser(request).await;
        assert_refused(outcome, Code::PermissionDenied, "OPERATOR_KEY_WRONG");
    }
}

#[tokio::test]
async fn an_operator_key_that_could_be_guessed_or_is_a_flag_is_refused() {
    let place = Place::new().await;
    for (variables, arguments, said) in [
        (
            vec![("PHONE_IDENTITY_OPERATOR_KEY", &KEY[..31])],
            vec![],
            "fewer than 32 characters",
        ),
        (
            vec![
                ("PHONE_IDENTITY_OPERATOR_KEY", KEY),
                ("PHONE_IDENTITY_OPERATOR_KEY_FILE", "file"),
            ],
            vec![],
            "both given",
        ),
        (
            vec![("PHONE_IDENTITY_OPERATOR_KEY_FILE", "nowhere")],
            vec![],
            "cannot be read",
        ),
        (vec![], vec!["--operator-key", KEY], "--operator-key"),
    ] {
        let mut command = place.command();
        command.args(["serve", "--listen=127.0.0.1:0"]).args(TEST_FLAGS);
        command.args(arguments).envs(variables);
        let output = run(command, "").await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said) && !stderr.contains(&KEY[3..31]), "{stderr}");
    }
}
