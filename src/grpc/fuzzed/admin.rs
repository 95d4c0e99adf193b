//! The requests of `PhoneIdentityAdmin`.

use super::{FuzzedHandlers, decoded, refused};
use crate::grpc::parse::admin;
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::error::{Error, Violation};

pub(crate) fn list_users(bytes: &[u8]) {
    if let Some(request) = decoded(bytes) {
        refused(admin::list(&request));
    }
}

pub(crate) fn get_user(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) {
        refused(admin::user_selector(&request, &desk.rules));
    }
}

pub(crate) fn create_user(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) {
        refused(admin::new_user(request, &desk.rules));
    }
}

pub(crate) fn update_user(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) {
        refused(admin::update(&request, &desk.rules, Language::default()));
    }
}

pub(crate) fn set_password(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded::<v1::SetPasswordRequest>(bytes), FuzzedHandlers::get()) {
        let parsed = admin::password(request, &desk.rules);
        if let Ok((_, password)) = &parsed {
            let _ = password.is_common();
            refused(
                password
                    .check_shape(8, &[&desk.user.phone_number])
                    .map_err(|problem| {
                        Error::InvalidInput(vec![Violation::new("new_password", problem.into())])
                    }),
            );
        }
        refused(parsed);
    }
}

pub(crate) fn verify_phone(bytes: &[u8]) {
    if let Some(request) = decoded(bytes) {
        refused(admin::phones(request));
    }
}

pub(crate) fn revoke_user_sessions(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::RevokeUserSessionsRequest>(bytes) {
        refused(admin::managed_user_id(&request.user_id));
    }
}

pub(crate) fn deactivate_user(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::DeactivateUserRequest>(bytes) {
        refused(admin::managed_user_id(&request.user_id));
    }
}

pub(crate) fn reactivate_user(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::ReactivateUserRequest>(bytes) {
        refused(admin::managed_user_id(&request.user_id));
    }
}

pub(crate) fn list_audit_events(bytes: &[u8]) {
    if let Some(request) = decoded(bytes) {
        refused(admin::events(&request).map(|events| events.filter));
    }
}

pub(crate) fn delete_user(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::DeleteUserRequest>(bytes) {
        refused(admin::managed_user_id(&request.user_id));
    }
}
