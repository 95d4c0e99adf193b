//! A run of every RPC, with secrets and phone numbers in all fields that may have them.

use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_identity_admin_client::PhoneIdentityAdminClient;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use tonic::Request;

use super::{NEW_PHONE_NUMBER, OPERATOR_KEY, PHONE_NUMBER, SUPERUSER};
use crate::support::binary::ServerProcess;
use crate::support::codes::{offered, wanted};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, channel, connect, credentials, registration, validation, with_bearer,
};

/// Calls every RPC, well and badly, and gives the tokens that were made.
pub(crate) async fn every_rpc(server: &ServerProcess) -> Vec<String> {
    let mut client = connect(server.address).await;
    let first = client
        .register(registration(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let second = client
        .authenticate(credentials(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    client
        .register(registration(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap_err();
    client
        .register(registration(&format!("{PHONE_NUMBER}x"), "password"))
        .await
        .unwrap_err();
    client
        .authenticate(credentials(PHONE_NUMBER, OTHER_PASSWORD))
        .await
        .unwrap_err();
    client.validate_session(validation(&first)).await.unwrap();
    client
        .validate_session(validation(&first[..40]))
        .await
        .unwrap_err();
    client
        .list_sessions(with_bearer(&first, v1::ListSessionsRequest {}))
        .await
        .unwrap();
    let others = v1::RevokeSessionsRequest {
        all_others: true,
        ..v1::RevokeSessionsRequest::default()
    };
    client.revoke_sessions(with_bearer(&first, others)).await.unwrap();
    let update = v1::UpdateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
        new_phone_number: Some(NEW_PHONE_NUMBER.to_owned()),
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    client.update_profile(with_bearer(&first, update)).await.unwrap();
    client
        .deactivate_profile(with_bearer(&first, v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    let mut back = credentials(NEW_PHONE_NUMBER, OTHER_PASSWORD);
    back.reactivate = true;
    let third = client
        .authenticate(back)
        .await
        .unwrap()
        .into_inner()
        .session_token;
    client
        .revoke_session(v1::RevokeSessionRequest {
            session_token: third.clone(),
        })
        .await
        .unwrap();
    let fourth = client
        .authenticate(credentials(NEW_PHONE_NUMBER, OTHER_PASSWORD))
        .await
        .unwrap();
    let fourth = fourth.into_inner().session_token;
    client
        .delete_profile(with_bearer(&fourth, v1::DeleteProfileRequest::default()))
        .await
        .unwrap();
    let mut remembering = credentials(SUPERUSER, PASSWORD);
    remembering.remember_device = true;
    let remembered = client.authenticate(remembering).await.unwrap().into_inner();
    let (fifth, device) = (remembered.session_token, remembered.device_token);
    let mut known = credentials(SUPERUSER, PASSWORD);
    known.device_token.clone_from(&device);
    client.authenticate(known).await.unwrap();
    let superuser = v1::CreateSuperuserRequest {
        phone_number: PHONE_NUMBER.to_owned(),
        default_region: String::new(),
        password: OTHER_PASSWORD.to_owned(),
    };
    client
        .create_superuser(with_bearer(&fifth, superuser))
        .await
        .unwrap();
    every_rpc_of_administration(server, &fifth).await;
    // A caller puts a secret where the request id belongs, and a client where the user agent belongs.
    let mut request = Request::new(validation(&fifth));
    request
        .metadata_mut()
        .insert("x-request-id", fifth.parse().unwrap());
    client.validate_session(request).await.unwrap();
    let mut odd = credentials(SUPERUSER, PASSWORD);
    odd.client = Some(v1::ClientInfo {
        ip_address: String::new(),
        user_agent: format!("{SUPERUSER} {fifth}"),
    });
    client.authenticate(odd).await.unwrap();
    for secret in [PHONE_NUMBER, "tel:+998-90-123-45-67", &first, &device] {
        with_secret_everywhere(server, secret).await;
    }
    vec![first, second, third, fourth, fifth, device]
}

/// A caller puts a secret into each entry of metadata that the service or a library reads, and into the path of the
/// call.
async fn with_secret_everywhere(server: &ServerProcess, secret: &str) {
    let digits: String = secret.chars().filter(char::is_ascii_digit).take(15).collect();
    let traceparent = format!("00-{digits:0>32}-b7ad6b7169203331-01");
    for (name, value) in [
        ("x-request-id", secret),
        ("x-request-id", &format!("user={secret}")),
        ("traceparent", secret),
        ("traceparent", &traceparent),
        ("tracestate", &format!("vendor={secret}")),
        ("baggage", &format!("user={secret}")),
        ("grpc-encoding", secret),
        ("grpc-accept-encoding", secret),
        ("grpc-timeout", secret),
        ("accept-language", secret),
        ("x-forwarded-for", secret),
        ("authorization", secret),
        ("x-service-key", secret),
        ("x-operator-key", secret),
        ("idempotency-key", secret),
        ("x-made-up", secret),
    ] {
        let mut request = Request::new(credentials("+998909876543", PASSWORD));
        request.metadata_mut().insert(name, value.parse().unwrap());
        let mut client = connect(server.address).await;
        // Answered or refused, whichever.
        let _ = client.authenticate(request).await;
        let mut request = Request::new(validation("nothing"));
        request.metadata_mut().insert(name, value.parse().unwrap());
        let _ = client.validate_session(request).await;
    }
    for path in ["/{}", "/phone_identity.v1.PhoneIdentity/{}", "/{}/Authenticate"] {
        let mut client = tonic::client::Grpc::new(channel(server.address).await);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = path.replace("{}", secret).parse().unwrap();
        let _ = client.unary(Request::new(()), path, codec).await;
    }
}

/// The same of administration, by a superuser.
async fn every_rpc_of_administration(server: &ServerProcess, token: &str) {
    let mut admin = PhoneIdentityAdminClient::new(channel(server.address).await);
    let list = v1::ListUsersRequest {
        phone_number_prefix: PHONE_NUMBER.to_owned(),
        ..v1::ListUsersRequest::default()
    };
    admin.list_users(with_bearer(token, list.clone())).await.unwrap();
    let bad_list = v1::ListUsersRequest {
        phone_number_prefix: format!("{PHONE_NUMBER}x"),
        page_token: PHONE_NUMBER.to_owned(),
        ..list
    };
    admin.list_users(with_bearer(token, bad_list)).await.unwrap_err();
    let get = v1::GetUserRequest {
        phone_number: NEW_PHONE_NUMBER.to_owned(),
        ..v1::GetUserRequest::default()
    };
    admin.get_user(with_bearer(token, get)).await.unwrap_err();
    let create = v1::CreateUserRequest {
        phone_number: NEW_PHONE_NUMBER.to_owned(),
        password: Some(PASSWORD.to_owned()),
        ..v1::CreateUserRequest::default()
    };
    let created = admin
        .create_user(with_bearer(token, create.clone()))
        .await
        .unwrap();
    admin.create_user(with_bearer(token, create)).await.unwrap_err();
    let created = created.into_inner().user.unwrap();
    let user_id = created.user.unwrap().user_id;
    let update = v1::UpdateUserRequest {
        user_id: user_id.clone(),
        etag: created.etag,
        is_staff: Some(true),
        ..v1::UpdateUserRequest::default()
    };
    admin.update_user(with_bearer(token, update)).await.unwrap();
    for (new_password, is_good) in [(OTHER_PASSWORD, true), (NEW_PHONE_NUMBER, false)] {
        let set = v1::SetPasswordRequest {
            user_id: user_id.clone(),
            new_password: new_password.to_owned(),
        };
        assert_eq!(admin.set_password(with_bearer(token, set)).await.is_ok(), is_good);
    }
    let phones = vec![v1::PhoneToVerify {
        user_id: user_id.clone(),
        etag: String::new(),
    }];
    let verify = v1::VerifyPhoneRequest { phones };
    admin.verify_phone(with_bearer(token, verify)).await.unwrap();
    // A number where an id belongs.
    let revoke = |user_id: &str| v1::RevokeUserSessionsRequest {
        user_id: user_id.to_owned(),
    };
    let revoked = admin.revoke_user_sessions(with_bearer(token, revoke(PHONE_NUMBER)));
    revoked.await.unwrap_err();
    let revoked = admin.revoke_user_sessions(with_bearer(token, revoke(&user_id)));
    revoked.await.unwrap();
    let deactivate = v1::DeactivateUserRequest {
        user_id: user_id.clone(),
    };
    admin
        .deactivate_user(with_bearer(token, deactivate))
        .await
        .unwrap();
    let reactivate = v1::ReactivateUserRequest {
        user_id: user_id.clone(),
    };
    admin
        .reactivate_user(with_bearer(token, reactivate))
        .await
        .unwrap();
    let delete = v1::DeleteUserRequest { user_id };
    admin.delete_user(with_bearer(token, delete)).await.unwrap();
}

/// Requests codes and tries wrong ones. The log is the provider here, so it has the texts, but no number.
pub(super) async fn every_rpc_of_codes(server: &ServerProcess) {
    let mut client = PhoneVerificationClient::new(channel(server.address).await);
    for purpose in [v1::CodePurpose::SignIn, v1::CodePurpose::ResetPassword] {
        let sent = client
            .send_code(wanted(purpose, SUPERUSER))
            .await
            .unwrap()
            .into_inner();
        let mut offer = offered(&sent.challenge_id, purpose, "123");
        if purpose == v1::CodePurpose::ResetPassword {
            offer.new_password = OTHER_PASSWORD.to_owned();
        }
        client.verify_code(offer).await.unwrap_err();
    }
    let token = connect(server.address)
        .await
        .authenticate(credentials(SUPERUSER, PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let change = wanted(v1::CodePurpose::ChangePhone, PHONE_NUMBER);
    client.send_code(with_bearer(&token, change)).await.unwrap();
    client
        .send_code(wanted(v1::CodePurpose::SignIn, &format!("{PHONE_NUMBER}x")))
        .await
        .unwrap_err();
}

/// Calls with valid, invalid and exchanged keys.
pub(super) async fn calls_with_keys(server: &ServerProcess, service_key: &str) {
    let mut client = connect(server.address).await;
    let mut wrong = service_key.to_owned();
    wrong.replace_range(10..11, if &wrong[10..11] == "0" { "1" } else { "0" });
    for (key, operator_key, is_good) in [
        (service_key, OPERATOR_KEY, true),
        (service_key, service_key, false),
        (OPERATOR_KEY, OPERATOR_KEY, false),
        (&wrong, OPERATOR_KEY, false),
    ] {
        let mut request = Request::new(v1::CreateSuperuserRequest {
            phone_number: "+998935556677".to_owned(),
            default_region: String::new(),
            password: OTHER_PASSWORD.to_owned(),
        });
        let metadata = request.metadata_mut();
        metadata.insert("x-service-key", key.parse().unwrap());
        metadata.insert("x-operator-key", operator_key.parse().unwrap());
        assert_eq!(client.create_superuser(request).await.is_ok(), is_good);
    }
    // In place of a request id.
    for key in [service_key, OPERATOR_KEY] {
        let mut request = Request::new(validation("nothing"));
        let metadata = request.metadata_mut();
        metadata.insert("x-service-key", service_key.parse().unwrap());
        metadata.insert("x-request-id", key.parse().unwrap());
        let refused = client.validate_session(request).await.unwrap_err();
        assert_ne!(refused.metadata().get("x-request-id").unwrap(), key);
    }
}
