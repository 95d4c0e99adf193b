//! Signing in by phone number and password.

use tokio::time::{Instant, sleep_until};

use super::{Accounts, Policy, SignedIn};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, Attempt, EventActor, Field};
use crate::domain::caller::Caller;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{ClientInfo, Session};
use crate::domain::token::PlainToken;
use crate::domain::user::{User, UserStatus};
use crate::error::Error;
use crate::service::hasher::Verdict;
use crate::service::retry::retry;
use crate::store::users::{Account, Change};
use crate::store::{audit, changes, sessions, users};

/// What a person signs in with.
#[derive(Debug)]
pub struct Credentials {
    /// The phone number, whether or not somebody has it.
    pub phone_number: PhoneNumber,
    /// The password.
    pub password: Password,
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
    /// Whether to bring an account back that the person has deactivated.
    pub reactivate: bool,
}

/// A sign-in that is to be committed.
struct SignIn<'a> {
    /// The person, as they were read before the hash.
    account: &'a Account,
    /// What the hash has shown.
    verdict: &'a Verdict,
    session: &'a Session,
    token: &'a PlainToken,
    attempt: &'a Attempt,
}

impl Accounts {
    /// Signs a person in. An unknown number takes as long as a wrong password: it is checked against a dummy hash. And
    /// no failure is answered before a fixed time has passed, so that nobody sees whose hash is of another cost: one that
    /// was made with older parameters, or was imported. Both are noted in the audit log by the same statement; the number
    /// is not.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`]; [`Error::AccountDeactivated`], only after the right password and unless
    /// `reactivate` is set and it was not administration that did it; [`Error::Overloaded`].
    pub async fn authenticate(&self, credentials: Credentials) -> Result<SignedIn, Error> {
        let came = Instant::now();
        let outcome = self.try_credentials(credentials).await;
        if let Err(Error::InvalidCredentials) = outcome {
            sleep_until(came + self.policy.failed_sign_in_time).await;
        }
        outcome
    }

    async fn try_credentials(&self, credentials: Credentials) -> Result<SignedIn, Error> {
        let Credentials {
            phone_number,
            password,
            client,
            caller,
            reactivate,
        } = credentials;
        let mut attempt = Attempt::by_nobody(Action::SignIn, client.clone(), caller);
        let account = users::find_by_phone(self.store.reader(), &phone_number).await?;
        attempt.subject = account.as_ref().map(|account| account.user.id);
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let verdict = self.hasher.verify(password, stored).await?;
        let Some(account) = account.filter(|_| verdict != Verdict::Wrong) else {
            return self.audit.refused(&attempt, Err(Error::InvalidCredentials)).await;
        };
        // What administration deactivated is not the person's to bring back.
        let may_return = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_return {
            attempt.actor = EventActor::User(account.user.id);
            return self.audit.refused(&attempt, Err(Error::AccountDeactivated)).await;
        }
        self.finish(|this| async move {
            let now = this.clock.now();
            let (session, token) = this.new_session(account.user.id, client, now)?;
            let sign_in = SignIn {
                account: &account,
                verdict: &verdict,
                session: &session,
                token: &token,
                attempt: &attempt,
            };
            let outcome = retry(|| this.commit_sign_in(&sign_in, now)).await;
            let user = this.audit.refused(&attempt, outcome).await?;
            Ok(SignedIn { user, session, token })
        })
        .await
    }

    /// Signs in a person whose password was right when `account` was read.
    async fn commit_sign_in(&self, sign_in: &SignIn<'_>, now: Timestamp) -> Result<User, Error> {
        let SignIn {
            account,
            verdict,
            session,
            token,
            attempt,
        } = *sign_in;
        let id = account.user.id;
        let mut attempt = attempt.clone().as_user(id, session.id);
        let tx = self.store.begin().await?;
        if !users::sign_in(&tx, account, now).await? {
            return Err(Error::InvalidCredentials);
        }
        if let (Verdict::RightButWeak { stronger }, Some(verified)) = (verdict, &account.password_hash) {
            users::rehash(&tx, id, verified, stronger).await?;
        }
        // As they were when the call came; what was looked at again is what the sign-in depends on.
        let mut user = account.user.clone();
        let mut changes = Vec::new();
        if !user.is_active() {
            user.status = UserStatus::Active;
            user.updated_at = now;
            let change = Change {
                status: Some(user.status),
                ..Change::default()
            };
            users::update(&tx, id, &change, now).await?;
            attempt.fields = vec![Field::Status];
            changes.push(changes::Change::UserChanged { user: id });
        }
        user.last_login_at = Some(now);
        let Policy {
            max_sessions,
            lifetimes,
            ..
        } = &self.policy;
        let pushed_out = sessions::make_room(&tx, id, *max_sessions, lifetimes, now).await?;
        attempt.ended_sessions = u64::try_from(pushed_out.len()).ok();
        let revoked = |session| changes::Change::SessionRevoked { user: id, session };
        changes.extend(pushed_out.into_iter().map(revoked));
        sessions::insert_at_commit(&tx, session, &token.hash()).await;
        audit::insert_at_commit(&tx, &attempt.done(now)).await;
        self.changes.commit(tx, &changes).await?;
        Ok(user)
    }
}
