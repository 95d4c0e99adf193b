//! Signing in by a code, without a password.

use super::Codes;
use super::verify::{CodeSubmission, RedeemedChallenge, create, lock};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, Field};
use crate::domain::code::{Challenge, Purpose};
use crate::domain::session::{AuthMethod, AuthMethods};
use crate::domain::user::{User, UserStatus};
use crate::service::accounts::{Accounts, SignedIn, new_user};
use crate::service::error::Error;
use crate::service::retry::retry;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, changes, sessions, users};

/// Signing in by a code.
#[derive(Debug)]
pub struct CodeSignIn {
    /// The code.
    pub offer: CodeSubmission,
    /// Whether to bring an account back that the person has deactivated.
    pub reactivate: bool,
    /// Whether to give the device a token.
    pub remember_device: bool,
}

/// What came of somebody who was there already.
struct Returned {
    user: User,
    /// What of them has changed.
    fields: Vec<Field>,
    ended_sessions: u64,
    changes: Vec<changes::RevocationChange>,
}

impl Codes {
    /// Signs a person in, or creates them where that is allowed. If nobody had verified the number before, whoever
    /// registered it may be somebody else: all their sessions, their password and their known devices are gone then.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`], only with the right code and unless `reactivate` is set
    /// and it was not administration that did it; [`Error::PhoneChangedRecently`], only with the right code, if nobody
    /// has shown to hold the number yet; [`Error::TooManyAttempts`].
    pub async fn sign_in(&self, sign_in: CodeSignIn) -> Result<SignedIn, Error> {
        let CodeSignIn {
            offer,
            reactivate,
            remember_device,
        } = sign_in;
        let (mut met, attempt) = self
            .check_of_nobody(Purpose::SignIn, Action::SignInByCode, &offer)
            .await?;
        if met.challenge.person.is_none() {
            self.reserve_creation(&mut met, &offer, &attempt).await?;
        }
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let newcomer = met
                    .challenge
                    .person
                    .is_none()
                    .then(|| newcomer(&met.challenge, now));
                let id = newcomer.as_ref().map(|user| user.id).or(met.challenge.person);
                let id = id.ok_or(Error::CodeInvalid)?;
                let (session, token) = accounts.new_session(
                    id,
                    AuthMethods::from_iter([AuthMethod::SmsCode]),
                    offer.client,
                    now,
                )?;
                let device = accounts.device(None, remember_device, now)?;
                let attempted = met.reservation.without_creation();
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let mut attempt = attempt.clone().as_user(id, session.id);
                    let returned = match &newcomer {
                        Some(user) => create(&tx, &met, user, None).await.map(|()| returned_new(user))?,
                        None => accounts.returns(&tx, &met, reactivate, now).await?,
                    };
                    attempt.fields = returned.fields;
                    attempt.ended_sessions = Some(returned.ended_sessions);
                    sessions::insert(&tx, &session, &token.hash()).await?;
                    let version = users::find(&tx, id)
                        .await?
                        .map(|account| account.credential_version);
                    let version = version.ok_or(Error::CodeInvalid)?;
                    accounts.remember(&tx, &device, id, version, now).await?;
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &attempted).await?;
                    accounts.changes.commit(tx, &returned.changes).await?;
                    Ok(returned.user)
                });
                let outcome = accounts.unless_code_was_right(outcome.await, &met).await;
                let user = accounts.audit.refused(&attempt, met.counted(outcome)).await?;
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

impl Accounts {
    /// Meets a challenge by which somebody signs in who was there already.
    async fn returns(
        &self,
        tx: &Transaction,
        met: &RedeemedChallenge,
        reactivate: bool,
        now: Timestamp,
    ) -> Result<Returned, Error> {
        let account = lock(tx, met).await?;
        let id = account.user.id;
        let may_return = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_return {
            return Err(Error::AccountDeactivated);
        }
        met.take(tx, now).await?;
        // Else whoever has changed the number without showing to hold it would get by a code what a reset is refused.
        if let Some(retry_after) = self.held(&account, now)
            && account.user.phone_verified_at.is_none()
        {
            return Err(Error::PhoneChangedRecently { retry_after });
        }
        let count = users::sign_in(tx, &account, now)
            .await?
            .ok_or(Error::CodeInvalid)?;
        let mut returned = Returned {
            user: User {
                last_login_at: Some(now),
                ..account.user
            },
            fields: Vec::new(),
            ended_sessions: 0,
            changes: Vec::new(),
        };
        let user = &mut returned.user;
        if !user.is_active() {
            user.status = UserStatus::Active;
            user.updated_at = now;
            let change = UserChange {
                status: Some(user.status),
                ..UserChange::default()
            };
            users::update(tx, id, &change, now).await?;
            returned.fields.push(Field::Status);
        }
        if user.phone_verified_at.is_none() {
            if user.has_password {
                returned.fields.push(Field::Password);
            }
            user.has_password = false;
            user.phone_verified_at = Some(now);
            user.updated_at = now;
            returned.ended_sessions = users::take_over(tx, id, now).await?;
            returned
                .changes
                .push(changes::RevocationChange::UserChanged { user: id });
        } else {
            if !returned.fields.is_empty() {
                returned
                    .changes
                    .push(changes::RevocationChange::UserChanged { user: id });
            }
            let max = self.policy.max_sessions;
            let pushed_out = sessions::make_room(tx, id, count, max, &self.policy.lifetimes, now).await?;
            returned.ended_sessions = u64::try_from(pushed_out.len()).unwrap_or(u64::MAX);
            let revoked = |session| changes::RevocationChange::SessionRevoked { user: id, session };
            returned.changes.extend(pushed_out.into_iter().map(revoked));
        }
        Ok(returned)
    }
}

/// Somebody who is new.
fn returned_new(user: &User) -> Returned {
    Returned {
        user: user.clone(),
        fields: vec![Field::PhoneNumber],
        ended_sessions: 0,
        changes: Vec::new(),
    }
}

/// Somebody who has shown that they hold a number that nobody has.
fn newcomer(challenge: &Challenge, now: Timestamp) -> User {
    User {
        has_password: false,
        phone_verified_at: Some(now),
        last_login_at: Some(now),
        ..new_user(challenge.phone_number.clone(), now)
    }
}
