//! Registering where numbers are verified first. Until the code is there, nothing is stored of whoever wants to: the
//! password comes with the code.

use super::Codes;
use super::verify::{CodeSubmission, create};
use crate::domain::audit::Action;
use crate::domain::code::Purpose;
use crate::domain::password::Password;
use crate::domain::session::{AuthMethod, AuthMethods};
use crate::domain::user::User;
use crate::service::accounts::{SignedIn, new_user};
use crate::service::error::Error;
use crate::service::retry::retry;
use crate::store::{audit, sessions};

/// Registering by a code.
#[derive(Debug)]
pub struct CodeRegistration {
    /// The code.
    pub offer: CodeSubmission,
    /// The password, to which the password policy was not applied yet.
    pub password: Password,
    /// Whether to give the device a token.
    pub remember_device: bool,
}

impl Codes {
    /// Creates a person who has shown that they hold a number that nobody has, and signs them in.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`], also when another account got the number meanwhile; [`Error::InvalidInput`] when the
    /// password policy rejects the password, only with the right code, which stays valid; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub async fn register(&self, registration: CodeRegistration) -> Result<SignedIn, Error> {
        let CodeRegistration {
            offer,
            password,
            remember_device,
        } = registration;
        let flow = offer.flow();
        self.accounts.hasher.check_room(flow)?;
        let (mut met, attempt) = self
            .check_of_nobody(Purpose::Register, Action::Register, &offer)
            .await?;
        self.reserve_creation(&mut met, &offer, &attempt).await?;
        let hash = self.hash_for(flow, &met, password).await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let user = User {
                    phone_verified_at: Some(now),
                    last_login_at: Some(now),
                    ..new_user(met.challenge.phone_number.clone(), now)
                };
                let methods = AuthMethods::from_iter([AuthMethod::Password, AuthMethod::SmsCode]);
                let (session, token) = accounts.new_session(user.id, methods, offer.client, now)?;
                let device = accounts.device(None, remember_device, now)?;
                let event = attempt.clone().as_user(user.id, session.id).done(now);
                let attempted = met.reservation.without_creation();
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    create(&tx, &met, &user, Some(&hash)).await?;
                    sessions::insert(&tx, &session, &token.hash()).await?;
                    accounts.remember(&tx, &device, user.id, 0, now).await?;
                    audit::insert(&tx, &event).await?;
                    accounts.throttle.give_back_in(&tx, &attempted).await?;
                    Ok(tx.commit().await?)
                });
                let outcome = accounts.unless_code_was_right(outcome.await, &met).await;
                accounts.audit.refused(&attempt, met.counted(outcome)).await?;
                Ok(SignedIn {
                    user,
                    session,
                    token,
                    device_token: device.token(),
                })
            })
            .await
    }
}
