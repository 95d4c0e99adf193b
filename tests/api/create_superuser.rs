//! CreateSuperuser.

use phone_identity::proto::v1::{CreateSuperuserRequest, RevokeSessionRequest};
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{OTHER_PASSWORD, TestServer, credentials, with_bearer};

fn superuser(phone_number: &str, password: &str) -> CreateSuperuserRequest {
    CreateSuperuserRequest {
        phone_number: phone_number.to_owned(),
        default_region: String::new(),
        password: password.to_owned(),
    }
}

#[tokio::test]
async fn a_superuser_creates_another_that_can_create_another() {
    let server = TestServer::start().await;
    let first = server.superuser().await;
    let mut client = server.client().await;
    let request = superuser("+998712345678", OTHER_PASSWORD);
    let user = client
        .create_superuser(first.asks(request))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert!(user.is_staff && user.is_superuser && user.has_password);
    assert_eq!(
        (user.phone_number.as_str(), user.last_login_at),
        ("+998712345678", None)
    );
    let second = client
        .authenticate(credentials("+998712345678", OTHER_PASSWORD))
        .await
        .unwrap()
        .into_inner();
    let request = with_bearer(&second.session_token, superuser("+998712345679", OTHER_PASSWORD));
    client.create_superuser(request).await.unwrap();
}

#[tokio::test]
async fn no_other_user_creates_a_superuser() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let revoked = server.superuser().await;
    let mut client = server.client().await;
    client
        .revoke_session(RevokeSessionRequest {
            session_token: revoked.token.clone(),
        })
        .await
        .unwrap();
    let request = || superuser("+998712345678", OTHER_PASSWORD);
    let outcome = client.create_superuser(request()).await;
    assert_refused(outcome, Code::Unauthenticated, "SESSION_INVALID");
    let outcome = client.create_superuser(person.asks(request())).await;
    assert_refused(outcome, Code::PermissionDenied, "NOT_SUPERUSER");
    // A caller without the right learns nothing about the request.
    let outcome = client.create_superuser(person.asks(superuser("", ""))).await;
    assert_refused(outcome, Code::PermissionDenied, "NOT_SUPERUSER");
    let outcome = client.create_superuser(revoked.asks(request())).await;
    assert_refused(outcome, Code::Unauthenticated, "SESSION_INVALID");
    server
        .database
        .execute("UPDATE users SET is_staff = TRUE WHERE id = ?", &person)
        .await;
    let outcome = client.create_superuser(person.asks(request())).await;
    assert_refused(outcome, Code::PermissionDenied, "NOT_SUPERUSER");
    assert_eq!(server.database.count("users").await, 2);
}

#[tokio::test]
async fn a_taken_number_and_bad_fields_are_refused() {
    let server = TestServer::start().await;
    let first = server.superuser().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let taken = client
        .create_superuser(first.asks(superuser(&person.phone_number, OTHER_PASSWORD)))
        .await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let bad = client
        .create_superuser(first.asks(superuser("+18002345678", "zqvkxwj")))
        .await;
    let violations = [
        ("phone_number", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED"),
        ("password", "PASSWORD_TOO_SHORT"),
    ];
    assert_violations(bad, &violations);
    let common = client
        .create_superuser(first.asks(superuser("+998712345678", "password")))
        .await;
    assert_violations(common, &[("password", "PASSWORD_TOO_COMMON")]);
}
