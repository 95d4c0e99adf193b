//! Handlers of service `PhoneIdentityAdmin`: each one authorizes the administrator, parses the request, calls one
//! service method, and converts the result. Authorization is first, so that a user without the right learns nothing
//! about the validity of a request.

use std::pin::pin;

use tonic::Request;

use super::call::{Call, RpcResult, answer, split};
use super::{convert, page_token, parse};
use crate::domain::rights::AdminAction;
use crate::domain::rules::Rules;
use crate::proto::v1;
use crate::proto::v1::phone_identity_admin_server::PhoneIdentityAdmin;
use crate::service::admin::{Admin, Administrator, ManagedUser};
use crate::service::error::Error;
use crate::service::sessions::Sessions;
use crate::telemetry::tracing::span;

/// The handlers of service `PhoneIdentityAdmin`.
pub(super) struct PhoneIdentityAdminHandlers {
    pub(super) admin: Admin,
    pub(super) sessions: Sessions,
    pub(super) rules: Rules,
}

impl PhoneIdentityAdminHandlers {
    /// Returns the signed-in administrator.
    ///
    /// # Errors
    /// Those of [`Call::actor`], and a missing right for `action` on any user.
    async fn administrator(&self, call: &Call, action: AdminAction) -> Result<Administrator, Error> {
        let actor = call.actor(&self.sessions).await?;
        let administrator = Administrator::Person(Box::new(actor));
        span("admin.may", pin!(self.admin.may(&administrator, action))).await?;
        Ok(administrator)
    }

    async fn try_list_users(
        &self,
        call: &Call,
        request: v1::ListUsersRequest,
    ) -> Result<v1::ListUsersResponse, Error> {
        let by = self.administrator(call, AdminAction::Read).await?;
        let list = parse::admin::list(&request)?;
        let page = span("admin.list", pin!(self.admin.list(&by, list))).await?;
        let token = page.end.map(|end| page_token::encode_user(&request, &end));
        Ok(v1::ListUsersResponse {
            users: page.users.iter().map(convert::managed_user).collect(),
            next_page_token: token.unwrap_or_default(),
        })
    }

    async fn try_get_user(&self, call: &Call, request: v1::GetUserRequest) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::Read).await?;
        let selector = parse::admin::user_selector(&request, &self.rules)?;
        span(
            "admin.get",
            pin!(self.admin.get(&by, AdminAction::Read, &selector)),
        )
        .await
    }

    async fn try_create_user(
        &self,
        call: &Call,
        request: v1::CreateUserRequest,
    ) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::Create).await?;
        let new = parse::admin::new_user(request, &self.rules)?;
        span("admin.create", pin!(self.admin.create(by, new))).await
    }

    async fn try_update_user(
        &self,
        call: &Call,
        request: v1::UpdateUserRequest,
    ) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::Update).await?;
        let (id, etag, update) = parse::admin::update(&request, &self.rules, call.language)?;
        span("admin.update", pin!(self.admin.update(&by, id, &etag, update))).await
    }

    async fn try_set_password(
        &self,
        call: &Call,
        request: v1::SetPasswordRequest,
    ) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::SetPassword).await?;
        let (id, password) = parse::admin::password(request, &self.rules)?;
        span(
            "admin.set_password",
            pin!(self.admin.set_password(by, id, password)),
        )
        .await
    }

    async fn try_verify_phone(
        &self,
        call: &Call,
        request: v1::VerifyPhoneRequest,
    ) -> Result<v1::VerifyPhoneResponse, Error> {
        let by = self.administrator(call, AdminAction::VerifyPhone).await?;
        let phones = parse::admin::phones(request)?;
        let verifications = span(
            "admin.verify_phones",
            pin!(self.admin.verify_phones(&by, &phones)),
        )
        .await?;
        Ok(convert::verifications(&verifications))
    }

    async fn try_revoke_user_sessions(
        &self,
        call: &Call,
        request: v1::RevokeUserSessionsRequest,
    ) -> Result<v1::RevokeUserSessionsResponse, Error> {
        let by = self.administrator(call, AdminAction::RevokeSessions).await?;
        let id = parse::admin::managed_user_id(&request.user_id)?;
        let revoked = span("admin.revoke_sessions", pin!(self.admin.revoke_sessions(&by, id))).await?;
        Ok(v1::RevokeUserSessionsResponse {
            revoked_count: i32::try_from(revoked).unwrap_or(i32::MAX),
        })
    }

    async fn try_deactivate_user(
        &self,
        call: &Call,
        request: v1::DeactivateUserRequest,
    ) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::Deactivate).await?;
        let id = parse::admin::managed_user_id(&request.user_id)?;
        span("admin.deactivate", pin!(self.admin.deactivate(&by, id))).await
    }

    async fn try_reactivate_user(
        &self,
        call: &Call,
        request: v1::ReactivateUserRequest,
    ) -> Result<ManagedUser, Error> {
        let by = self.administrator(call, AdminAction::Reactivate).await?;
        let id = parse::admin::managed_user_id(&request.user_id)?;
        span("admin.reactivate", pin!(self.admin.reactivate(&by, id))).await
    }

    async fn try_delete_user(
        &self,
        call: &Call,
        request: v1::DeleteUserRequest,
    ) -> Result<v1::DeleteUserResponse, Error> {
        let by = self.administrator(call, AdminAction::Delete).await?;
        let id = parse::admin::managed_user_id(&request.user_id)?;
        span("admin.delete", pin!(self.admin.delete(&by, id))).await?;
        Ok(v1::DeleteUserResponse {})
    }

    async fn try_list_audit_events(
        &self,
        call: &Call,
        request: v1::ListAuditEventsRequest,
    ) -> Result<v1::ListAuditEventsResponse, Error> {
        let by = self.administrator(call, AdminAction::ReadAudit).await?;
        let parse::admin::Events { filter, before, size } = parse::admin::events(&request)?;
        let listed = self.admin.list_events(&by, &filter, before, size);
        let page = span("admin.list_events", pin!(listed)).await?;
        let token = page.next.map(|next| page_token::encode_event(&request, next));
        Ok(v1::ListAuditEventsResponse {
            events: page.entries.into_iter().map(convert::audit::event).collect(),
            next_page_token: token.unwrap_or_default(),
        })
    }
}

/// Returns the user field of a response.
fn user_field(managed: &ManagedUser) -> Option<v1::ManagedUser> {
    Some(convert::managed_user(managed))
}

#[tonic::async_trait]
impl PhoneIdentityAdmin for PhoneIdentityAdminHandlers {
    async fn list_users(&self, request: Request<v1::ListUsersRequest>) -> RpcResult<v1::ListUsersResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_list_users(&call, request).await)
    }

    async fn get_user(&self, request: Request<v1::GetUserRequest>) -> RpcResult<v1::GetUserResponse> {
        let (call, request) = split(request);
        let outcome = self.try_get_user(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::GetUserResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn create_user(
        &self,
        request: Request<v1::CreateUserRequest>,
    ) -> RpcResult<v1::CreateUserResponse> {
        let (call, request) = split(request);
        let outcome = self.try_create_user(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::CreateUserResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn update_user(
        &self,
        request: Request<v1::UpdateUserRequest>,
    ) -> RpcResult<v1::UpdateUserResponse> {
        let (call, request) = split(request);
        let outcome = self.try_update_user(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::UpdateUserResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn set_password(
        &self,
        request: Request<v1::SetPasswordRequest>,
    ) -> RpcResult<v1::SetPasswordResponse> {
        let (call, request) = split(request);
        let outcome = self.try_set_password(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::SetPasswordResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn verify_phone(
        &self,
        request: Request<v1::VerifyPhoneRequest>,
    ) -> RpcResult<v1::VerifyPhoneResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_verify_phone(&call, request).await)
    }

    async fn revoke_user_sessions(
        &self,
        request: Request<v1::RevokeUserSessionsRequest>,
    ) -> RpcResult<v1::RevokeUserSessionsResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_revoke_user_sessions(&call, request).await)
    }

    async fn deactivate_user(
        &self,
        request: Request<v1::DeactivateUserRequest>,
    ) -> RpcResult<v1::DeactivateUserResponse> {
        let (call, request) = split(request);
        let outcome = self.try_deactivate_user(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::DeactivateUserResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn reactivate_user(
        &self,
        request: Request<v1::ReactivateUserRequest>,
    ) -> RpcResult<v1::ReactivateUserResponse> {
        let (call, request) = split(request);
        let outcome = self.try_reactivate_user(&call, request).await;
        answer(
            &call,
            outcome.map(|user| v1::ReactivateUserResponse {
                user: user_field(&user),
            }),
        )
    }

    async fn delete_user(
        &self,
        request: Request<v1::DeleteUserRequest>,
    ) -> RpcResult<v1::DeleteUserResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_delete_user(&call, request).await)
    }

    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> RpcResult<v1::ListAuditEventsResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_list_audit_events(&call, request).await)
    }
}
