//! The hold on an account whose phone number was changed lately: a code to the new number sets no password.

use std::time::Duration;

use super::Accounts;
use crate::clock::Timestamp;
use crate::domain::session::{AuthMethod, Session};
use crate::domain::user::{UserId, hold_remaining};
use crate::error::{Error, chain};
use crate::service::retry::retry;
use crate::store::users::{self, Account};

impl Accounts {
    /// How much longer a code to the number of an account sets no password, since the number was changed lately. `None`: it does.
    pub(in crate::service) fn held(&self, account: &Account, now: Timestamp) -> Option<Duration> {
        hold_remaining(account.phone_changed_at?, self.policy.phone_change_hold, now)
    }

    /// Whether all that was shown in a session is a code to a number that was changed lately, which sets no password: else one
    /// would sign in by it instead of resetting the password.
    pub(in crate::service) fn sets_no_password(
        &self,
        account: &Account,
        session: &Session,
        now: Timestamp,
    ) -> bool {
        session.auth_methods.as_slice() == [AuthMethod::SmsCode] && self.held(account, now).is_some()
    }

    /// Hands an outcome on. If the hold may have refused it, and the change of the number has a time that is not here yet, the hold
    /// begins now: it must neither last until a wrong clock's time comes, nor be dropped. In a statement of its own, since the
    /// transaction of the refused call is rolled back.
    pub(in crate::service) async fn bound_hold<T>(
        &self,
        user: UserId,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(Error::PhoneChangedRecently { .. } | Error::ReauthenticationRequired) = outcome {
            let now = self.clock.now();
            let writer = self.store.writer();
            let moved = retry(|| async { Ok(users::bound_phone_change(writer, user, now).await?) });
            if let Err(error) = moved.await {
                // The next refused call does it.
                tracing::warn!(error = chain(&error), "the start of a hold was not corrected");
            }
        }
        outcome
    }
}
