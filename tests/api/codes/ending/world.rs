//! A server, and what happens in it to the account of a code.

use super::Event::{
    ChangePasswordCommand, ChangePhoneAndBack, DeactivateProfile, DeactivateUser, DeleteProfile, DeleteUser,
    NewLocale, NewNumber, NewPassword, Nothing, Promotion, Reset, RevokeAllOthers, RevokeOneSession,
    RevokeSession, RevokeUserSessions, SetPassword, SignIn, SignInByCode, TakeOverByChange, TakeOverBySignIn,
    UpdateNumberAndBack, UpdateStatus, VerifyByCode, VerifyByStaff,
};
use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;

use super::{Event, FLAGS};
use crate::codes::{Challenge, NEW_PASSWORD, verify};
use crate::support::codes::{CodesClient, codes, start_with_codes};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{
    AdminClient, Client, OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number,
    registration, validation, with_bearer,
};

pub(super) struct World {
    pub(super) server: TestServer,
    pub(super) client: Client,
    pub(super) codes: CodesClient,
    pub(super) admin: AdminClient,
    pub(super) root: Person,
}

impl World {
    pub(super) async fn new() -> Self {
        let server = start_with_codes(&FLAGS).await;
        Self {
            client: server.client().await,
            codes: codes(&server).await,
            admin: server.admin().await,
            root: server.superuser().await,
            server,
        }
    }

    pub(super) async fn challenge(&mut self, purpose: CodePurpose, person: &Person) -> Challenge {
        match purpose {
            CodePurpose::ChangePhone => self.challenge_of(person, &next_phone_number()).await,
            _ => Challenge::of(&mut self.codes, purpose, person).await,
        }
    }

    pub(super) async fn challenge_of(&mut self, person: &Person, phone_number: &str) -> Challenge {
        Challenge::of_new_number(&mut self.codes, person, phone_number).await
    }

    pub(super) async fn update(&mut self, person: &Person, request: v1::UpdateProfileRequest) {
        self.client.update_profile(person.asks(request)).await.unwrap();
    }

    /// Has the event happen.
    pub(super) async fn happen(&mut self, event: Event, person: &Person) {
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

    pub(super) async fn administer(&mut self, event: Event, person: &Person) {
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
    pub(super) async fn meet(&mut self, purpose: CodePurpose, person: &Person) {
        let challenge = self.challenge(purpose, person).await;
        self.codes
            .verify_code(person.asks(challenge.met()))
            .await
            .unwrap();
    }

    /// A session of the account that has the number now.
    pub(super) async fn session(&mut self, person: &Person) -> String {
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

    /// Returns the stored users and sessions, sorted.
    pub(super) async fn stored(&self) -> Vec<String> {
        let dump = self.server.database.dump().await;
        let lines = dump
            .lines()
            .filter(|line| line.starts_with("users.") || line.starts_with("sessions."));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    pub(super) async fn assert_ends(&mut self, event: Event, purpose: CodePurpose, ends: bool) {
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
