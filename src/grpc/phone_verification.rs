//! Handlers of service `PhoneVerification`: each one parses the request, calls one service method, and converts the
//! result.

use std::pin::pin;

use tonic::Request;

use super::call::{Call, RpcResult, answer, split};
use super::{convert, parse};
use crate::domain::code::Purpose;
use crate::domain::rules::Rules;
use crate::proto::v1;
use crate::proto::v1::phone_verification_server::PhoneVerification;
use crate::service::accounts::SignedIn;
use crate::service::codes::{CodeRegistration, CodeSignIn, Codes, PhoneChange, Reset};
use crate::service::error::Error;
use crate::service::sessions::Sessions;
use crate::telemetry::tracing::span;
use parse::codes::{CodeOperation, CodeToSend};

/// The handlers of service `PhoneVerification`.
pub(super) struct PhoneVerificationHandlers {
    /// `None`: there is no SMS provider.
    pub(super) codes: Option<Codes>,
    pub(super) sessions: Sessions,
    pub(super) rules: Rules,
}

impl PhoneVerificationHandlers {
    fn codes(&self) -> Result<&Codes, Error> {
        self.codes.as_ref().ok_or(Error::SmsNotConfigured)
    }

    fn signed_in(&self, signed_in: &SignedIn) -> v1::VerifyCodeResponse {
        let (session, lifetimes) = (&signed_in.session, self.sessions.lifetimes());
        v1::VerifyCodeResponse {
            user: Some(convert::user(&signed_in.user)),
            session: Some(convert::session(session, session.last_seen_at, lifetimes)),
            session_token: signed_in.token.expose().to_owned(),
            device_token: convert::device_token(signed_in.device_token.as_ref()),
        }
    }

    async fn try_send_code(
        &self,
        call: &Call,
        request: v1::SendCodeRequest,
    ) -> Result<v1::SendCodeResponse, Error> {
        let codes = self.codes()?;
        let (code, request) = parse::codes::code_to_send(request, &call.caller, call.language, &self.rules)?;
        let (purpose, phone_number, actor) = match code {
            CodeToSend::Resend(id) => {
                let sent = span("codes.send_again", pin!(codes.send_again(id, request))).await?;
                return Ok(convert::sent(&sent));
            }
            CodeToSend::VerifyOwnNumber => {
                let user = call.actor(&self.sessions).await?.user;
                (Purpose::VerifyPhone, user.phone_number.clone().into(), Some(user))
            }
            CodeToSend::VerifyNewNumber(phone_number) => {
                let user = call.actor(&self.sessions).await?.user;
                (Purpose::ChangePhone, phone_number.into(), Some(user))
            }
            CodeToSend::SignedOut(purpose, phone_number) => (purpose, phone_number, None),
        };
        let sent = codes.send(purpose, phone_number, actor, request);
        Ok(convert::sent(&span("codes.send", pin!(sent)).await?))
    }

    async fn try_verify_code(
        &self,
        call: &Call,
        request: v1::VerifyCodeRequest,
    ) -> Result<v1::VerifyCodeResponse, Error> {
        let codes = self.codes()?;
        let (offer, operation) = parse::codes::code_submission(request, &call.caller, &self.rules)?;
        let user = match operation {
            CodeOperation::VerifyPhone => {
                let actor = call.actor(&self.sessions).await?;
                span("codes.verify_phone", pin!(codes.verify_phone(actor, offer))).await?
            }
            CodeOperation::ResetPassword(password) => {
                let reset = codes.reset_password(Reset {
                    submission: offer,
                    password,
                });
                span("codes.reset_password", pin!(reset)).await?
            }
            CodeOperation::ChangePhone { current_password } => {
                let change = PhoneChange {
                    submission: offer,
                    current_password,
                    language: call.language,
                };
                let actor = call.actor(&self.sessions).await?;
                span("codes.change_phone", pin!(codes.change_phone(actor, change))).await?
            }
            CodeOperation::SignIn {
                reactivate,
                remember_device,
            } => {
                let signed_in = codes.sign_in(CodeSignIn {
                    submission: offer,
                    reactivate,
                    remember_device,
                });
                let signed_in = span("codes.sign_in", pin!(signed_in)).await?;
                return Ok(self.signed_in(&signed_in));
            }
            CodeOperation::Register {
                password,
                remember_device,
            } => {
                let registered = codes.register(CodeRegistration {
                    submission: offer,
                    password,
                    remember_device,
                });
                let registered = span("codes.register", pin!(registered)).await?;
                return Ok(self.signed_in(&registered));
            }
        };
        Ok(v1::VerifyCodeResponse {
            user: Some(convert::user(&user)),
            ..v1::VerifyCodeResponse::default()
        })
    }
}

#[tonic::async_trait]
impl PhoneVerification for PhoneVerificationHandlers {
    async fn send_code(&self, request: Request<v1::SendCodeRequest>) -> RpcResult<v1::SendCodeResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_send_code(&call, request).await)
    }

    async fn verify_code(
        &self,
        request: Request<v1::VerifyCodeRequest>,
    ) -> RpcResult<v1::VerifyCodeResponse> {
        let (call, request) = split(request);
        answer(&call, self.try_verify_code(&call, request).await)
    }
}
