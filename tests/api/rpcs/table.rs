//! The classes of all RPCs. A new RPC needs a row.

use phone_identity::proto::v1;
use prost::Message as _;

use super::RpcClass;
use crate::access::matrix::{
    ACCOUNT, BEARER, CODE, EXPIRED, FOR_STAFF, FOR_SUPERUSERS, INVALID, NO_RIGHT, NOT_SUPER, OK, UNKNOWN,
};
use crate::admin::fresh::{ALL, NONE, PRIVILEGED, Target};
use crate::codes::ending::Event::{
    ChangePasswordCommand, ChangePhoneAndBack, DeactivateProfile, DeactivateUser, DeleteProfile, DeleteUser,
    NewLocale, NewNumber, NewPassword, Nothing, Promotion, Reset, RevokeAllOthers, RevokeOneSession,
    RevokeSession, RevokeUserSessions, SetPassword, SignIn, SignInByCode, TakeOverByChange, TakeOverBySignIn,
    UpdateNumberAndBack, UpdateStatus, VerifyByCode, VerifyByStaff,
};
use crate::support::codes::{offered, wanted};
use crate::support::{OTHER_PASSWORD, PASSWORD, credentials, next_phone_number, registration, validation};

const USER: &[Target] = &[Target::User];

/// In the order of the proto files.
pub(super) const CLASSES: &[RpcClass] = &[
    RpcClass {
        rpc: "PhoneIdentity/Register",
        right: "register",
        answers: [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, OK, OK, OK],
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| registration(&next_phone_number(), PASSWORD).encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentity/Authenticate",
        right: "authenticate",
        answers: [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, ACCOUNT, OK, OK],
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[SignIn],
        request: |scene| credentials(&scene.phone_number, PASSWORD).encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentity/ValidateSession",
        right: "validate",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[Nothing],
        request: |scene| validation(&scene.token).encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentity/RevokeSession",
        right: "revoke",
        answers: [UNKNOWN, NO_RIGHT, INVALID, OK, OK, OK, OK, OK, OK],
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[RevokeSession],
        request: |scene| {
            v1::RevokeSessionRequest {
                session_token: scene.token.clone(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentity/ListSessions",
        right: "sessions",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| v1::ListSessionsRequest {}.encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentity/RevokeSessions",
        right: "sessions",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[RevokeAllOthers, RevokeOneSession],
        request: |_| {
            v1::RevokeSessionsRequest {
                all_others: true,
                ..Default::default()
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentity/UpdateProfile",
        right: "profile",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[NewPassword, NewNumber],
        keeps_codes: &[NewLocale],
        request: |_| {
            v1::UpdateProfileRequest {
                locale: Some("uz".to_owned()),
                ..Default::default()
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentity/DeactivateProfile",
        right: "profile",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[DeactivateProfile],
        keeps_codes: &[],
        request: |_| v1::DeactivateProfileRequest::default().encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentity/DeleteProfile",
        right: "profile",
        answers: BEARER,
        fresh: &[],
        ends_codes: &[DeleteProfile],
        keeps_codes: &[],
        request: |_| v1::DeleteProfileRequest::default().encode_to_vec(),
    },
    // The other commands of the operator do the same as an RPC.
    RpcClass {
        rpc: "PhoneIdentity/CreateSuperuser",
        right: "superuser",
        answers: [
            UNKNOWN, NO_RIGHT, INVALID, NOT_SUPER, NOT_SUPER, OK, INVALID, EXPIRED, INVALID,
        ],
        fresh: &[("", USER, USER)],
        ends_codes: &[ChangePasswordCommand],
        keeps_codes: &[],
        request: |_| {
            v1::CreateSuperuserRequest {
                phone_number: next_phone_number(),
                default_region: String::new(),
                password: OTHER_PASSWORD.to_owned(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/ListUsers",
        right: "admin",
        answers: FOR_STAFF,
        fresh: &[("", USER, NONE)],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| v1::ListUsersRequest::default().encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/GetUser",
        right: "admin",
        answers: FOR_STAFF,
        fresh: &[("", ALL, NONE)],
        ends_codes: &[],
        keeps_codes: &[],
        request: |scene| {
            v1::GetUserRequest {
                user_id: scene.user_id.clone(),
                ..Default::default()
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/CreateUser",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[
            ("", USER, NONE),
            ("password", USER, NONE),
            ("is_staff", USER, USER),
            ("is_superuser", USER, USER),
        ],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| {
            v1::CreateUserRequest {
                phone_number: next_phone_number(),
                password: Some(OTHER_PASSWORD.to_owned()),
                ..Default::default()
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/UpdateUser",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[
            ("status", ALL, PRIVILEGED),
            ("phone_number", ALL, ALL),
            ("is_staff", ALL, ALL),
            ("is_superuser", ALL, ALL),
            ("status, and flags as they are", USER, NONE),
        ],
        ends_codes: &[UpdateStatus, UpdateNumberAndBack],
        keeps_codes: &[Promotion],
        request: |scene| {
            v1::UpdateUserRequest {
                user_id: scene.user_id.clone(),
                etag: scene.etag.clone(),
                is_staff: Some(true),
                ..Default::default()
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/SetPassword",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[("", ALL, ALL)],
        ends_codes: &[SetPassword],
        keeps_codes: &[],
        request: |scene| {
            v1::SetPasswordRequest {
                user_id: scene.user_id.clone(),
                new_password: OTHER_PASSWORD.to_owned(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/VerifyPhone",
        right: "admin",
        answers: FOR_STAFF,
        fresh: &[("", ALL, NONE)],
        ends_codes: &[],
        keeps_codes: &[VerifyByStaff],
        request: |scene| {
            v1::VerifyPhoneRequest {
                phones: vec![v1::PhoneToVerify {
                    user_id: scene.user_id.clone(),
                    etag: String::new(),
                }],
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/RevokeUserSessions",
        right: "admin",
        answers: FOR_STAFF,
        fresh: &[("", ALL, PRIVILEGED)],
        ends_codes: &[RevokeUserSessions],
        keeps_codes: &[],
        request: |scene| {
            v1::RevokeUserSessionsRequest {
                user_id: scene.user_id.clone(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/DeactivateUser",
        right: "admin",
        answers: FOR_STAFF,
        fresh: &[("", ALL, PRIVILEGED)],
        ends_codes: &[DeactivateUser],
        keeps_codes: &[],
        request: |scene| {
            v1::DeactivateUserRequest {
                user_id: scene.user_id.clone(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/ReactivateUser",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[("", ALL, PRIVILEGED)],
        ends_codes: &[DeactivateUser],
        keeps_codes: &[],
        request: |scene| {
            v1::ReactivateUserRequest {
                user_id: scene.user_id.clone(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/DeleteUser",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[("", ALL, ALL)],
        ends_codes: &[DeleteUser],
        keeps_codes: &[],
        request: |scene| {
            v1::DeleteUserRequest {
                user_id: scene.user_id.clone(),
            }
            .encode_to_vec()
        },
    },
    RpcClass {
        rpc: "PhoneIdentityAdmin/ListAuditEvents",
        right: "admin",
        answers: FOR_SUPERUSERS,
        fresh: &[("", USER, NONE)],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| v1::ListAuditEventsRequest::default().encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneVerification/SendCode",
        right: "codes",
        answers: [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, OK, OK, OK],
        fresh: &[],
        ends_codes: &[],
        keeps_codes: &[],
        request: |_| wanted(v1::CodePurpose::SignIn, &next_phone_number()).encode_to_vec(),
    },
    RpcClass {
        rpc: "PhoneVerification/VerifyCode",
        right: "codes",
        answers: [UNKNOWN, NO_RIGHT, CODE, CODE, CODE, CODE, CODE, CODE, CODE],
        fresh: &[],
        ends_codes: &[Reset, ChangePhoneAndBack, TakeOverBySignIn, TakeOverByChange],
        keeps_codes: &[SignInByCode, VerifyByCode],
        request: |_| offered("x", v1::CodePurpose::SignIn, "123456").encode_to_vec(),
    },
];
