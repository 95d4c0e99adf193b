//! The end of codes before their time: a change of the credentials of an account ends the codes that were requested
//! before it.
//!
//! [`EVENTS`] has a row for each RPC of the contract, so a new one has to be classified.

use std::collections::BTreeSet;
use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;

use super::outbox::is_due_at;
use super::providers::{SECRET, secret, send, start, webhook};
use super::registering::challenge as registration_of;
use super::sending::{again, left};
use super::{Challenge, NEW_PASSWORD, verify};
use crate::support::codes::{CodesClient, codes, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::rpcs::rpcs;
use crate::support::stub::{Answer, Stub};
use crate::support::{
    AdminClient, Client, OTHER_PASSWORD, PASSWORD, Person, TestServer, UNTHROTTLED, credentials,
    next_phone_number, registration, validation, with_bearer,
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

/// What happens to an account between the request of a code and its use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
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
    ChangePasswordCommand, ChangePhoneAndBack, DeactivateProfile, DeactivateUser, DeleteProfile, DeleteUser,
    NewLocale, NewNumber, NewPassword, Nothing, Promotion, Reset, RevokeAllOthers, RevokeOneSession,
    RevokeSession, RevokeUserSessions, SetPassword, SignIn, SignInByCode, TakeOverByChange, TakeOverBySignIn,
    UpdateNumberAndBack, UpdateStatus, VerifyByCode, VerifyByStaff,
};

/// What each RPC does that ends codes, and what it does that leaves them valid.
#[rustfmt::skip]
const EVENTS: &[(&str, &[Event], &[Event])] = &[
    ("PhoneIdentity/Register", &[], &[]),
    ("PhoneIdentity/Authenticate", &[], &[SignIn]),
    ("PhoneIdentity/ValidateSession", &[], &[Nothing]),
    ("PhoneIdentity/RevokeSession", &[], &[RevokeSession]),
    ("PhoneIdentity/ListSessions", &[], &[]),
    ("PhoneIdentity/RevokeSessions", &[], &[RevokeAllOthers, RevokeOneSession]),
    ("PhoneIdentity/UpdateProfile", &[NewPassword, NewNumber], &[NewLocale]),
    ("PhoneIdentity/DeactivateProfile", &[DeactivateProfile], &[]),
    ("PhoneIdentity/DeleteProfile", &[DeleteProfile], &[]),
    // The operator's commands do the same as an RPC, but for this one.
    ("PhoneIdentity/CreateSuperuser", &[ChangePasswordCommand], &[]),
    ("PhoneIdentityAdmin/ListUsers", &[], &[]),
    ("PhoneIdentityAdmin/GetUser", &[], &[]),
    ("PhoneIdentityAdmin/CreateUser", &[], &[]),
    ("PhoneIdentityAdmin/UpdateUser", &[UpdateStatus, UpdateNumberAndBack], &[Promotion]),
    ("PhoneIdentityAdmin/SetPassword", &[SetPassword], &[]),
    ("PhoneIdentityAdmin/VerifyPhone", &[], &[VerifyByStaff]),
    ("PhoneIdentityAdmin/RevokeUserSessions", &[RevokeUserSessions], &[]),
    ("PhoneIdentityAdmin/DeactivateUser", &[DeactivateUser], &[]),
    ("PhoneIdentityAdmin/ReactivateUser", &[DeactivateUser], &[]),
    ("PhoneIdentityAdmin/DeleteUser", &[DeleteUser], &[]),
    ("PhoneIdentityAdmin/ListAuditEvents", &[], &[]),
    ("PhoneVerification/SendCode", &[], &[]),
    ("PhoneVerification/VerifyCode", &[Reset, ChangePhoneAndBack, TakeOverBySignIn, TakeOverByChange],
        &[SignInByCode, VerifyByCode]),
];

struct World {
    server: TestServer,
    client: Client,
    codes: CodesClient,
    admin: AdminClient,
    root: Person,
}

impl World {
    async fn new() -> Self {
        let server = start_with_codes(&FLAGS).await;
        Self {
            client: server.client().await,
            codes: codes(&server).await,
            admin: server.admin().await,
            root: server.superuser().await,
            server,
        }
    }

    async fn challenge(&mut self, purpose: CodePurpose, person: &Person) -> Challenge {
        match purpose {
            CodePurpose::ChangePhone => self.challenge_of(person, &next_phone_number()).await,
            _ => Challenge::of(&mut self.codes, purpose, person).await,
        }
    }

    async fn challenge_of(&mut self, person: &Person, phone_number: &str) -> Challenge {
        Challenge::of_new_number(&mut self.codes, person, phone_number).await
    }

    async fn update(&mut self, person: &Person, request: v1::UpdateProfileRequest) {
        self.client.update_profile(person.asks(request)).await.unwrap();
    }

    /// Has the event happen.
    async fn happen(&mut self, event: Event, person: &Person) {
        let user_id = person.user.user_id.clone();
        match event {
            Nothing => {}
            NewLocale => {
                let locale = Some("uz".to_owned());
                let request = v1::UpdateProfileRequest {
                    locale,
                    ..v1::UpdateProfileRequest::default()
                };
                self.update(person, request).await;
            }
            NewPassword => {
                let new_password = Some(OTHER_PASSWORD.to_owned());
                let request = v1::UpdateProfileRequest {
                    new_password,
                    ..v1::UpdateProfileRequest::default()
                };
                self.update(person, request).await;
            }
            NewNumber => {
                let new_phone_number = Some(next_phone_number());
                let request = v1::UpdateProfileRequest {
                    new_phone_number,
                    ..v1::UpdateProfileRequest::default()
                };
                self.update(person, request).await;
            }
            SignIn => {
                person.sign_in_again(&self.server).await;
            }
            SignInByCode | TakeOverBySignIn => self.meet(CodePurpose::SignIn, person).await,
            VerifyByCode => self.meet(CodePurpose::VerifyPhone, person).await,
            Reset => self.meet(CodePurpose::ResetPassword, person).await,
            RevokeSession => {
                let session_token = person.sign_in_again(&self.server).await.token;
                let request = v1::RevokeSessionRequest { session_token };
                self.client.revoke_session(request).await.unwrap();
            }
            RevokeOneSession => {
                let session = person.sign_in_again(&self.server).await.session;
                let request = v1::RevokeSessionsRequest {
                    session_ids: vec![session.session_id],
                    all_others: false,
                };
                self.client.revoke_sessions(person.asks(request)).await.unwrap();
            }
            RevokeAllOthers => {
                let request = v1::RevokeSessionsRequest {
                    all_others: true,
                    ..v1::RevokeSessionsRequest::default()
                };
                self.client.revoke_sessions(person.asks(request)).await.unwrap();
            }
            ChangePhoneAndBack => {
                for number in [&next_phone_number(), &person.phone_number] {
                    let challenge = self.challenge_of(person, number).await;
                    self.codes
                        .verify_code(person.asks(challenge.met()))
                        .await
                        .unwrap();
                }
            }
            TakeOverByChange => {
                let other = self.server.person().await;
                let challenge = self.challenge_of(&other, &person.phone_number).await;
                let taken = self.codes.verify_code(other.asks(challenge.met())).await;
                assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
            }
            ChangePasswordCommand => {
                let arguments = ["changepassword", &person.phone_number, "--password-stdin"];
                let place = &self.server.place;
                let output = place.run(&arguments, OTHER_PASSWORD).await;
                assert!(output.status.success(), "{output:?}");
            }
            DeactivateProfile => {
                let request = person.asks(v1::DeactivateProfileRequest::default());
                self.client.deactivate_profile(request).await.unwrap();
            }
            DeleteProfile | DeleteUser => {
                if event == DeleteUser {
                    let request = v1::DeleteUserRequest { user_id };
                    self.admin.delete_user(self.root.asks(request)).await.unwrap();
                } else {
                    let request = person.asks(v1::DeleteProfileRequest::default());
                    self.client.delete_profile(request).await.unwrap();
                }
                let anew = registration(&person.phone_number, PASSWORD);
                self.client.register(anew).await.unwrap();
            }
            VerifyByStaff | Promotion | SetPassword | RevokeUserSessions | DeactivateUser | UpdateStatus
            | UpdateNumberAndBack => {
                self.administer(event, person).await;
            }
        }
    }

    async fn administer(&mut self, event: Event, person: &Person) {
        let (root, admin) = (&self.root, &mut self.admin);
        let user_id = person.user.user_id.clone();
        match event {
            VerifyByStaff => {
                let etag = String::new();
                let phones = vec![v1::PhoneToVerify { user_id, etag }];
                let request = root.asks(v1::VerifyPhoneRequest { phones });
                admin.verify_phone(request).await.unwrap();
            }
            SetPassword => {
                let new_password = OTHER_PASSWORD.to_owned();
                let request = v1::SetPasswordRequest {
                    user_id,
                    new_password,
                };
                admin.set_password(root.asks(request)).await.unwrap();
            }
            RevokeUserSessions => {
                let request = root.asks(v1::RevokeUserSessionsRequest { user_id });
                admin.revoke_user_sessions(request).await.unwrap();
            }
            DeactivateUser => {
                let request = v1::DeactivateUserRequest {
                    user_id: user_id.clone(),
                };
                admin.deactivate_user(root.asks(request)).await.unwrap();
                let request = root.asks(v1::ReactivateUserRequest { user_id });
                admin.reactivate_user(request).await.unwrap();
            }
            Promotion => {
                let mut request = crate::admin::update_of(&self.server, root, person).await;
                request.is_staff = Some(true);
                admin.update_user(root.asks(request)).await.unwrap();
            }
            UpdateStatus => {
                for status in [v1::UserStatus::Deactivated, v1::UserStatus::Active] {
                    let mut request = crate::admin::update_of(&self.server, root, person).await;
                    request.status = status.into();
                    admin.update_user(root.asks(request)).await.unwrap();
                }
            }
            UpdateNumberAndBack => {
                for number in [&next_phone_number(), &person.phone_number] {
                    let mut request = crate::admin::update_of(&self.server, root, person).await;
                    request.phone_number = Some(number.clone());
                    admin.update_user(root.asks(request)).await.unwrap();
                }
            }
            _ => unreachable!("{event:?}"),
        }
    }

    /// Another code of the user is used.
    async fn meet(&mut self, purpose: CodePurpose, person: &Person) {
        let challenge = self.challenge(purpose, person).await;
        self.codes
            .verify_code(person.asks(challenge.met()))
            .await
            .unwrap();
    }

    /// A session of the account that has the number now.
    async fn session(&mut self, person: &Person) -> String {
        // By the database: a command may have ended it in another process.
        let check = v1::ValidateSessionRequest {
            consistency: v1::Consistency::Strong.into(),
            ..validation(&person.token)
        };
        if self.client.validate_session(check).await.is_ok() {
            return person.token.clone();
        }
        for password in [PASSWORD, OTHER_PASSWORD, NEW_PASSWORD] {
            let request = v1::AuthenticateRequest {
                reactivate: true,
                ..credentials(&person.phone_number, password)
            };
            if let Ok(signed_in) = self.client.authenticate(request).await {
                return signed_in.into_inner().session_token;
            }
        }
        let challenge = self.challenge(CodePurpose::SignIn, person).await;
        let signed_in = self.codes.verify_code(challenge.met()).await;
        signed_in.unwrap().into_inner().session_token
    }

    /// What is stored of users and sessions, in an order of its own.
    async fn stored(&self) -> Vec<String> {
        let dump = self.server.database.dump().await;
        let lines = dump
            .lines()
            .filter(|line| line.starts_with("users.") || line.starts_with("sessions."));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    async fn assert_ends(&mut self, event: Event, purpose: CodePurpose, ends: bool) {
        let case = format!("{purpose:?} after {event:?}");
        let person = self.server.person().await;
        if !matches!(
            event,
            TakeOverBySignIn | TakeOverByChange | VerifyByCode | VerifyByStaff
        ) {
            verify(&self.server, &mut self.codes, &person).await;
        }
        let mut remembering = credentials(&person.phone_number, PASSWORD);
        remembering.remember_device = true;
        self.client.authenticate(remembering).await.unwrap();
        let challenge = self.challenge(purpose, &person).await;
        self.happen(event, &person).await;
        let known_device = "SELECT 1 FROM devices JOIN users ON users.id = devices.user_id WHERE users.id = ? \
                            AND devices.credential_version = users.credential_version";
        let is_known = self.server.database.knows(known_device, &person).await;
        assert_eq!(is_known, !ends, "device token: {case}");
        let token = self.session(&person).await;
        let before = self.stored().await;
        let outcome = self.codes.verify_code(with_bearer(&token, challenge.met())).await;
        if ends {
            let status = outcome.expect_err(&case);
            assert_eq!(refusal(&status).reason, "CODE_INVALID", "{case}");
            assert_eq!(self.stored().await, before, "{case}");
        } else {
            outcome.unwrap_or_else(|status| panic!("{case}: {status}"));
        }
    }
}

#[test]
fn every_rpc_is_classified() {
    let rows: BTreeSet<String> = EVENTS.iter().map(|(rpc, ..)| (*rpc).to_owned()).collect();
    assert_eq!(rows.len(), EVENTS.len(), "two rows of one RPC");
    assert_eq!(rows, rpcs());
}

#[tokio::test]
async fn a_change_of_credentials_ends_codes_of_every_purpose() {
    for event in EVENTS.iter().flat_map(|(_, ends, _)| *ends) {
        let mut world = World::new().await;
        for purpose in PURPOSES {
            world.assert_ends(*event, purpose, true).await;
        }
    }
}

#[tokio::test]
async fn whatever_changes_no_credentials_ends_no_code() {
    for event in EVENTS.iter().flat_map(|(.., leaves)| *leaves) {
        let mut world = World::new().await;
        for purpose in PURPOSES {
            world.assert_ends(*event, purpose, false).await;
        }
    }
}

/// Nothing tells that the account changed: a password that the policy rejects is not looked at, and a resend is
/// answered as before.
#[tokio::test]
async fn an_ended_code_is_answered_as_a_wrong_one() {
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

/// A code whose message waits in the outbox is not sent after it ended.
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
async fn a_code_to_a_number_that_had_a_user_in_the_meantime_creates_nobody() {
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
            let old = of_nobody(&server, &mut codes, purpose, &number).await;
            let by = of_nobody(&server, &mut codes, purpose, &number).await;
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
            let new = of_nobody(&server, &mut codes, purpose, &number).await;
            codes.verify_code(new.met()).await.unwrap();
        }
    }
}

/// The account goes while the password of a registration by an older code to its number is hashed.
#[tokio::test]
async fn a_code_that_ends_while_its_password_is_hashed_creates_nobody() {
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

async fn of_nobody(
    server: &TestServer,
    codes: &mut CodesClient,
    purpose: CodePurpose,
    number: &str,
) -> Challenge {
    if purpose == CodePurpose::Register {
        registration_of(server, number).await
    } else {
        Challenge::of_nobody(codes, purpose, number).await
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
