//! Handlers of service `PhoneIdentity`: each one parses the request, calls one service method, and converts the result.

use std::pin::pin;

use tonic::Request;

use super::call::{Call, RpcResult, answer, split};
use super::{convert, metadata, parse};
use crate::domain::access::OperatorKey;
use crate::domain::registration::RegistrationMode;
use crate::domain::rules::Rules;
use crate::domain::session::Session;
use crate::proto::v1;
use crate::proto::v1::phone_identity_server::PhoneIdentity;
use crate::service::accounts::{Accounts, SuperuserMaker};
use crate::service::codes::Codes;
use crate::service::error::Error;
use crate::service::sessions::Sessions;
use crate::telemetry::tracing::span;

/// The handlers of service `PhoneIdentity`.
pub(super) struct PhoneIdentityHandlers {
    pub(super) accounts: Accounts,
    pub(super) sessions: Sessions,
    /// `None`: there is no SMS provider.
    pub(super) codes: Option<Codes>,
    pub(super) rules: Rules,
    pub(super) operator_key: Option<OperatorKey>,
    pub(super) registration: RegistrationMode,
}

impl PhoneIdentityHandlers {
    fn session(&self, session: &Session) -> v1::Session {
        convert::session(session, session.last_seen_at, self.sessions.lifetimes())
    }

    async fn try_register(
        &self,
        call: &Call,
        request: v1::RegisterRequest,
    ) -> Result<v1::RegisterResponse, Error> {
        match self.registration {
            RegistrationMode::Open => {}
            RegistrationMode::Verified => return Err(self.require_code(call, request).await?),
            RegistrationMode::Closed => return Err(Error::RegistrationClosed),
        }
        let registration = parse::registration(request, &call.caller, &self.rules)?;
        let signed_in = span("accounts.register", pin!(self.accounts.register(registration))).await?;
        Ok(v1::RegisterResponse {
            user: Some(convert::user(&signed_in.user)),
            session: Some(self.session(&signed_in.session)),
            session_token: signed_in.token.expose().to_owned(),
            device_token: convert::device_token(signed_in.device_token.as_ref()),
        })
    }

    /// Sends a code to the phone number of a new user, and returns the error that asks for the code.
    async fn require_code(&self, call: &Call, request: v1::RegisterRequest) -> Result<Error, Error> {
        let codes = self.codes.as_ref().ok_or(Error::SmsNotConfigured)?;
        let registration = parse::codes::registration(request, &call.caller, call.language, &self.rules)?;
        let sent = span("codes.send", pin!(codes.send_to_register(registration))).await?;
        Ok(Error::VerificationRequired { sent: Some(sent) })
    }

    async fn try_authenticate(
        &self,
        call: &Call,
        request: v1::AuthenticateRequest,
    ) -> Result<v1::AuthenticateResponse, Error> {
        let credentials = parse::credentials(request, &call.caller, &self.rules)?;
        let signed_in = span(
            "accounts.authenticate",
            pin!(self.accounts.authenticate(credentials)),
        )
        .await?;
        Ok(v1::AuthenticateResponse {
            user: Some(convert::user(&signed_in.user)),
            session: Some(self.session(&signed_in.session)),
            session_token: signed_in.token.expose().to_owned(),
            device_token: convert::device_token(signed_in.device_token.as_ref()),
        })
    }

    async fn try_validate_session(
        &self,
        request: v1::ValidateSessionRequest,
    ) -> Result<v1::ValidateSessionResponse, Error> {
        let consistency = parse::consistency(request.consistency)?;
        let validated = self.sessions.validate(&request.session_token, consistency);
        let known = span("sessions.validate", pin!(validated)).await?;
        let session = convert::session(known.session(), known.last_seen_at(), self.sessions.lifetimes());
        Ok(v1::ValidateSessionResponse {
            user: Some(convert::user(known.user())),
            session: Some(session),
        })
    }

    /// Validates a session for [`crate::grpc::validate_session`], without the boxed future of the trait.
    pub(super) async fn validated_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> RpcResult<v1::ValidateSessionResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_validate_session(request).await)
    }

    async fn try_list_sessions(&self, call: &Call) -> Result<v1::ListSessionsResponse, Error> {
        let actor = call.actor(&self.sessions).await?;
        let sessions = span("sessions.list", pin!(self.sessions.list(&actor))).await?;
        Ok(v1::ListSessionsResponse {
            sessions: sessions.iter().map(|session| self.session(session)).collect(),
            current_session_id: actor.session.id.to_string(),
        })
    }

    async fn try_revoke_sessions(
        &self,
        call: &Call,
        request: v1::RevokeSessionsRequest,
    ) -> Result<v1::RevokeSessionsResponse, Error> {
        let actor = call.actor(&self.sessions).await?;
        let selection = parse::selection(&request, actor.session.id)?;
        let revoked = span(
            "sessions.revoke_selected",
            pin!(self.sessions.revoke_selected(&actor, selection)),
        )
        .await?;
        Ok(v1::RevokeSessionsResponse {
            revoked_count: i32::try_from(revoked).unwrap_or(i32::MAX),
        })
    }

    async fn try_update_profile(
        &self,
        call: &Call,
        request: v1::UpdateProfileRequest,
    ) -> Result<v1::UpdateProfileResponse, Error> {
        let actor = call.actor(&self.sessions).await?;
        let (current_password, update) =
            parse::profile_update(request, &self.rules, &actor.user, call.language)?;
        let updated = self.accounts.update_profile(actor, current_password, update);
        let user = span("accounts.update_profile", pin!(updated)).await?;
        Ok(v1::UpdateProfileResponse {
            user: Some(convert::user(&user)),
        })
    }

    async fn try_deactivate_profile(
        &self,
        call: &Call,
        request: v1::DeactivateProfileRequest,
    ) -> Result<v1::DeactivateProfileResponse, Error> {
        let actor = call.actor(&self.sessions).await?;
        let current_password = parse::current_password(request.current_password)?;
        span(
            "accounts.deactivate_profile",
            pin!(self.accounts.deactivate_profile(actor, current_password)),
        )
        .await?;
        Ok(v1::DeactivateProfileResponse {})
    }

    async fn try_delete_profile(
        &self,
        call: &Call,
        request: v1::DeleteProfileRequest,
    ) -> Result<v1::DeleteProfileResponse, Error> {
        let actor = call.actor(&self.sessions).await?;
        let current_password = parse::current_password(request.current_password)?;
        span(
            "accounts.delete_profile",
            pin!(self.accounts.delete_profile(actor, current_password)),
        )
        .await?;
        Ok(v1::DeleteProfileResponse {})
    }

    /// Returns the creator of a superuser: the operator if the call has an operator key, else the signed-in superuser.
    async fn superuser_creator(&self, call: &Call) -> Result<SuperuserMaker, Error> {
        if let Some(given) = call.headers.get(metadata::OPERATOR_KEY) {
            // The error does not reveal whether an operator key is configured.
            let key = self.operator_key.as_ref();
            return match key.is_some_and(|key| key.is(given.as_bytes())) {
                true => Ok(SuperuserMaker::Operator(call.caller.clone())),
                false => Err(Error::OperatorKeyWrong),
            };
        }
        let actor = call.actor(&self.sessions).await?;
        self.accounts.may_create_superuser(&actor).await?;
        Ok(SuperuserMaker::Person(Box::new(actor)))
    }

    async fn try_create_superuser(
        &self,
        call: &Call,
        request: v1::CreateSuperuserRequest,
    ) -> Result<v1::CreateSuperuserResponse, Error> {
        let creator = self.superuser_creator(call).await?;
        let (phone_number, password) = parse::superuser(request, &self.rules)?;
        let created = self.accounts.create_superuser(creator, phone_number, password);
        let user = span("accounts.create_superuser", pin!(created)).await?;
        Ok(v1::CreateSuperuserResponse {
            user: Some(convert::user(&user)),
        })
    }
}

#[tonic::async_trait]
impl PhoneIdentity for PhoneIdentityHandlers {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> RpcResult<v1::RegisterResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_register(&call, request).await)
    }

    async fn authenticate(
        &self,
        request: Request<v1::AuthenticateRequest>,
    ) -> RpcResult<v1::AuthenticateResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_authenticate(&call, request).await)
    }

    /// Implements the trait. [`crate::grpc::router`] sends the calls of this RPC to [`crate::grpc::validate_session`].
    async fn validate_session(
        &self,
        request: Request<v1::ValidateSessionRequest>,
    ) -> RpcResult<v1::ValidateSessionResponse> {
        self.validated_session(request).await
    }

    async fn revoke_session(
        &self,
        request: Request<v1::RevokeSessionRequest>,
    ) -> RpcResult<v1::RevokeSessionResponse> {
        let (call, request) = split(request);
        let revoked = self.sessions.revoke(&request.session_token, call.caller.clone());
        let outcome = span("sessions.revoke", pin!(revoked)).await;
        answer(&call, outcome.map(|()| v1::RevokeSessionResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> RpcResult<v1::ListSessionsResponse> {
        let (call, _) = split(request);
        answer(&call, self.try_list_sessions(&call).await)
    }

    async fn revoke_sessions(
        &self,
        request: Request<v1::RevokeSessionsRequest>,
    ) -> RpcResult<v1::RevokeSessionsResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_revoke_sessions(&call, request).await)
    }

    async fn update_profile(
        &self,
        request: Request<v1::UpdateProfileRequest>,
    ) -> RpcResult<v1::UpdateProfileResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_update_profile(&call, request).await)
    }

    async fn deactivate_profile(
        &self,
        request: Request<v1::DeactivateProfileRequest>,
    ) -> RpcResult<v1::DeactivateProfileResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_deactivate_profile(&call, request).await)
    }

    async fn delete_profile(
        &self,
        request: Request<v1::DeleteProfileRequest>,
    ) -> RpcResult<v1::DeleteProfileResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_delete_profile(&call, request).await)
    }

    async fn create_superuser(
        &self,
        request: Request<v1::CreateSuperuserRequest>,
    ) -> RpcResult<v1::CreateSuperuserResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_create_superuser(&call, request).await)
    }
}
