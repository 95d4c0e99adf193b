//! The end of codes before their time: a change of the credentials of an account ends the codes that were requested
//! before it.
//!
//! The class of each RPC lists the events by which it ends codes and by which it leaves them valid: [`classes`].

mod world;

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;

use world::World;

use super::Challenge;
use super::outbox::is_due_at;
use super::providers::{SECRET, secret, send, start, webhook};
use super::registering::challenge as registration_of;
use super::sending::{again, left};
use crate::rpcs::classes;
use crate::support::codes::{CodesClient, codes, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::stub::{Answer, Stub};
use crate::support::{
    PASSWORD, TestServer, UNTHROTTLED, credentials, next_phone_number, validation, with_bearer,
};
use phone_identity::clock::Clock as _;

const FLAGS: [&str; 7] = [
    "--throttle-code-attempts=0",
    "--sms-limit-number=none",
    "--sms-limit-prefix=none",
    "--sms-pumping-codes=0",
    "--unverified-phone-change",
    UNTHROTTLED[0],
    UNTHROTTLED[1],
];

/// Purposes of codes that concern an account.
const PURPOSES: [CodePurpose; 4] = [
    CodePurpose::VerifyPhone,
    CodePurpose::SignIn,
    CodePurpose::ResetPassword,
    CodePurpose::ChangePhone,
];

/// A change of an account between the request of a code and its use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    Nothing,
    NewLocale,
    SignIn,
    SignInByCode,
    RevokeSession,
    RevokeOneSession,
    VerifyByCode,
    VerifyByStaff,
    Promotion,
    NewPassword,
    NewNumber,
    RevokeAllOthers,
    Reset,
    ChangePhoneAndBack,
    TakeOverBySignIn,
    TakeOverByChange,
    SetPassword,
    ChangePasswordCommand,
    RevokeUserSessions,
    DeactivateProfile,
    DeactivateUser,
    UpdateStatus,
    UpdateNumberAndBack,
    DeleteProfile,
    DeleteUser,
}

use Event::{
    ChangePhoneAndBack, DeactivateProfile, DeleteProfile, DeleteUser, NewPassword, SetPassword,
    UpdateNumberAndBack,
};

#[tokio::test]
async fn a_change_of_credentials_ends_codes_of_every_purpose() {
    for event in classes().iter().flat_map(|class| class.ends_codes) {
        let mut world = World::new().await;
        for purpose in PURPOSES {
            world.assert_ends(*event, purpose, true).await;
        }
    }
}

#[tokio::test]
async fn other_changes_end_no_code() {
    for event in classes().iter().flat_map(|class| class.keeps_codes) {
        let mut world = World::new().await;
        for purpose in PURPOSES {
            world.assert_ends(*event, purpose, false).await;
        }
    }
}

/// The response does not reveal that the account changed. A password that the policy rejects is not checked, and a
/// resend has the usual response.
#[tokio::test]
async fn an_ended_code_is_rejected_like_a_wrong_one() {
    let mut world = World::new().await;
    let person = world.server.person().await;
    let challenge = world.challenge(CodePurpose::ResetPassword, &person).await;
    let sign_in = world.challenge(CodePurpose::SignIn, &person).await;
    world.happen(SetPassword, &person).await;
    let wrong = world.codes.verify_code(sign_in.with("000000")).await.unwrap_err();
    let mut rejected = challenge.met();
    rejected.new_password.clone_from(&person.phone_number);
    for request in [rejected, challenge.met(), sign_in.met()] {
        let ended = world.codes.verify_code(request).await.unwrap_err();
        assert_eq!(
            (ended.code(), ended.message(), ended.details()),
            (wrong.code(), wrong.message(), wrong.details())
        );
    }
    world.server.clock.advance(Duration::from_secs(30));
    let resent = world.codes.send_code(again(&challenge.id)).await.unwrap();
    assert_eq!(resent.into_inner().challenge_id, challenge.id);
}

/// A code that ended while its message waited in the outbox is not sent.
#[tokio::test]
async fn a_code_that_ended_before_it_was_sent_is_not_sent() {
    let stub = Stub::start(&[Answer::Status(503, ""), Answer::Status(204, "")]).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let (root, person, other) = (
        server.superuser().await,
        server.person().await,
        server.person().await,
    );
    send(&server, &person).await;
    is_due_at(&server, server.clock.now() + Duration::from_secs(1)).await;
    let request = v1::RevokeUserSessionsRequest {
        user_id: person.user.user_id.clone(),
    };
    let mut admin = server.admin().await;
    admin.revoke_user_sessions(root.asks(request)).await.unwrap();
    server.clock.advance(Duration::from_secs(1));
    left(&server, 0).await;
    send(&server, &other).await;
    left(&server, 0).await;
    let requests = stub.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].contains(&other.phone_number));
}

/// A replica of the version before stores no version of the credentials. A message of such a challenge is sent, since
/// that replica accepts its code.
#[tokio::test]
async fn a_code_of_a_version_without_credential_versions_is_invalid() {
    let stub = Stub::start(&[Answer::Status(503, ""), Answer::Status(204, "")]).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    is_due_at(&server, server.clock.now() + Duration::from_secs(1)).await;
    let forget = "UPDATE challenges SET credential_version = NULL WHERE user_id = ?";
    server.database.execute(forget, &person).await;
    let mut codes = codes(&server).await;
    let refused = codes.verify_code(challenge.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    server.clock.advance(Duration::from_secs(1));
    left(&server, 0).await;
    assert!(stub.requests()[1].contains(&challenge.code));
}

/// A code to a number without a user creates one. It ends when another user has had the number in the meantime.
#[tokio::test]
async fn a_code_to_a_number_that_had_a_user_in_the_meantime_creates_no_user() {
    let mut flags = FLAGS.to_vec();
    flags.retain(|flag| *flag != "--unverified-phone-change");
    flags.extend(["--registration=verified", "--sign-up-by-code"]);
    let server = start_with_codes(&flags).await;
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    let mut codes = codes(&server).await;
    let root = root_of(&server, &mut codes).await;
    for purpose in [CodePurpose::Register, CodePurpose::SignIn] {
        for leaves in [DeleteProfile, DeleteUser, ChangePhoneAndBack, UpdateNumberAndBack] {
            let case = format!("{purpose:?}, {leaves:?}");
            let number = next_phone_number();
            let old = of_unknown_number(&server, &mut codes, purpose, &number).await;
            let by = of_unknown_number(&server, &mut codes, purpose, &number).await;
            let came = codes.verify_code(by.met()).await.unwrap().into_inner();
            let (token, user) = (came.session_token, came.user.unwrap());
            match leaves {
                DeleteProfile => {
                    let request = with_bearer(&token, v1::DeleteProfileRequest::default());
                    client.delete_profile(request).await.unwrap();
                }
                DeleteUser => {
                    let user_id = user.user_id;
                    let request = with_bearer(&root, v1::DeleteUserRequest { user_id });
                    admin.delete_user(request).await.unwrap();
                }
                UpdateNumberAndBack => {
                    let get = v1::GetUserRequest {
                        user_id: user.user_id.clone(),
                        ..v1::GetUserRequest::default()
                    };
                    let managed = admin.get_user(with_bearer(&root, get)).await.unwrap();
                    let request = v1::UpdateUserRequest {
                        user_id: user.user_id,
                        etag: managed.into_inner().user.unwrap().etag,
                        phone_number: Some(next_phone_number()),
                        ..v1::UpdateUserRequest::default()
                    };
                    admin.update_user(with_bearer(&root, request)).await.unwrap();
                }
                _ => {
                    let new = next_phone_number();
                    let request = with_bearer(&token, wanted(CodePurpose::ChangePhone, &new));
                    let id = codes.send_code(request).await.unwrap().into_inner().challenge_id;
                    let purpose = CodePurpose::ChangePhone;
                    let code = crate::support::codes::code_of(&id, purpose, &new, Some(&user.user_id));
                    let challenge = Challenge { id, purpose, code };
                    let request = with_bearer(&token, challenge.met());
                    codes.verify_code(request).await.unwrap();
                }
            }
            let users = server.database.count("users").await;
            let status = codes.verify_code(old.met()).await.expect_err(&case);
            assert_eq!(refusal(&status).reason, "CODE_INVALID", "{case}");
            assert_eq!(server.database.count("users").await, users, "{case}");
            server.clock.advance(Duration::from_secs(30));
            codes.send_code(again(&old.id)).await.unwrap();
            // The number is free.
            let new = of_unknown_number(&server, &mut codes, purpose, &number).await;
            codes.verify_code(new.met()).await.unwrap();
        }
    }
}

/// The account goes while the password of a registration by an older code to its number is hashed.
#[tokio::test]
async fn a_code_that_ends_while_its_password_is_hashed_creates_no_user() {
    let mut flags = FLAGS.to_vec();
    flags.retain(|flag| *flag != "--unverified-phone-change");
    flags.push("--registration=verified");
    let server = start_with_codes(&flags).await;
    let (mut client, mut codes) = (server.client().await, codes(&server).await);
    let number = next_phone_number();
    let old = registration_of(&server, &number).await;
    let by = registration_of(&server, &number).await;
    let came = codes.verify_code(by.met()).await.unwrap().into_inner();
    let held = server.hasher.hold();
    let late = tokio::spawn(async move { codes.verify_code(old.met()).await });
    server.waiting(1).await;
    let request = with_bearer(&came.session_token, v1::DeleteProfileRequest::default());
    client.delete_profile(request).await.unwrap();
    drop(held);
    assert_refused(late.await.unwrap(), Code::InvalidArgument, "CODE_INVALID");
    assert_eq!(server.database.count("users").await, 0);
}

/// A code is the only proof that the holder of an unverified number has: the user that registered it without holding it
/// cannot end that code by one change of credentials after another.
#[tokio::test]
async fn a_user_of_an_unverified_number_does_not_keep_its_holder_out() {
    for event in [NewPassword, DeactivateProfile] {
        for purpose in [CodePurpose::SignIn, CodePurpose::ResetPassword] {
            let case = format!("{purpose:?} after {event:?}");
            let mut world = World::new().await;
            let squatter = world.server.person().await;
            let challenge = world.challenge(purpose, &squatter).await;
            world.happen(event, &squatter).await;
            let mut squatters = squatter.token.clone();
            if event == DeactivateProfile {
                let request = v1::AuthenticateRequest {
                    reactivate: true,
                    ..credentials(&squatter.phone_number, PASSWORD)
                };
                let back = world.client.authenticate(request).await.unwrap();
                squatters = back.into_inner().session_token;
            }
            let taken = world.codes.verify_code(challenge.met()).await;
            taken.unwrap_or_else(|status| panic!("{case}: {status}"));
            let check = world.client.validate_session(validation(&squatters)).await;
            assert_refused(check, Code::Unauthenticated, "SESSION_INVALID");
        }
    }
}

async fn of_unknown_number(
    server: &TestServer,
    codes: &mut CodesClient,
    purpose: CodePurpose,
    number: &str,
) -> Challenge {
    if purpose == CodePurpose::Register {
        registration_of(server, number).await
    } else {
        Challenge::of_unknown_number(codes, purpose, number).await
    }
}

/// The token of a superuser where numbers are verified first.
async fn root_of(server: &TestServer, codes: &mut CodesClient) -> String {
    let challenge = registration_of(server, &next_phone_number()).await;
    let came = codes.verify_code(challenge.met()).await.unwrap();
    let statement = "UPDATE users SET is_superuser = TRUE";
    server.database.execute_with(statement, Vec::new()).await;
    came.into_inner().session_token
}
