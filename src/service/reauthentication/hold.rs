//! The hold after a change of the phone number: for some time, a code to the new number sets no password and gives no
//! lasting power.

use std::time::Duration;

use super::Reauthentication;
use crate::clock::Timestamp;
use crate::domain::session::{AuthMethod, Session};
use crate::domain::user::{UserId, hold_remaining};
use crate::service::error::{Error, chain};
use crate::service::retry::retry;
use crate::store::users::{self, Account};

impl Reauthentication {
    /// Rest of the hold of an account. `None`: a code to its number sets a password.
    pub(in crate::service) fn phone_change_hold_remaining(
        &self,
        account: &Account,
        now: Timestamp,
    ) -> Option<Duration> {
        hold_remaining(account.phone_changed_at?, self.policy.phone_change_hold, now)
    }

    /// Whether the session was created by a code alone, to a number on hold. Without this rule a sign-in by code would
    /// replace the reset that the hold refuses.
    pub(in crate::service) fn password_change_blocked(
        &self,
        account: &Account,
        session: &Session,
        now: Timestamp,
    ) -> bool {
        session.auth_methods.as_slice() == [AuthMethod::SmsCode]
            && self.phone_change_hold_remaining(account, now).is_some()
    }

    /// Whether the sign-in of a session is fresh enough for what outlasts the session. A code alone to a number on hold
    /// is not: the thief of an earlier session may have changed the number.
    pub(in crate::service) fn is_fresh_for_lasting_power(
        &self,
        account: &Account,
        session: &Session,
        now: Timestamp,
    ) -> bool {
        self.is_fresh(session) && !self.password_change_blocked(account, session, now)
    }

    /// Returns the outcome. If the hold may have refused the call, and the change of the number is in the future, the
    /// hold begins now: it must neither last until the wall clock reaches that time, nor be dropped. A statement of its
    /// own, since the transaction of the refused call is rolled back.
    pub(in crate::service) async fn bound_hold<T>(
        &self,
        user: UserId,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(Error::PhoneChangedRecently { .. } | Error::ReauthenticationRequired) = outcome {
            let now = self.work.now();
            let writer = self.work.store().writer();
            let moved = retry(|| async { Ok(users::bound_phone_change(writer, user, now).await?) });
            if let Err(error) = moved.await {
                // The next refused call tries again.
                tracing::warn!(error = chain(&error), "the start of a hold was not corrected");
            }
        }
        outcome
    }
}
