//! What a code is exchanged for: a verified number, a session, or a new password; and how it is checked for all purposes.
//!
//! That a code is tried is counted before it is looked at, and whoever meets a challenge takes it away in the transaction of
//! what it gives: of many who have the right code at the same time, one gets it.

use super::Codes;
use super::metrics::Fate;
use super::register::refuse_number;
use crate::clock::Timestamp;
use crate::domain::audit::{Action, Attempt, EventActor, Field};
use crate::domain::caller::Caller;
use crate::domain::code::{Challenge, ChallengeId, Code, Purpose};
use crate::domain::password::Password;
use crate::domain::session::{AuthMethod, ClientInfo};
use crate::domain::user::{User, UserId, UserStatus};
use crate::error::Error;
use crate::service::accounts::{Accounts, SignedIn, new_user};
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::service::throttle::Reservation;
use crate::store::sessions::Selection;
use crate::store::users::{Account, Change};
use crate::store::{StoreError, Transaction, audit, challenges, changes, sessions, users};

/// A code that somebody offers.
#[derive(Debug)]
pub struct Offer {
    /// For which challenge.
    pub challenge: ChallengeId,
    /// `None`: what was given cannot be a code.
    pub code: Option<Code>,
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
}

/// Signing in by a code.
#[derive(Debug)]
pub struct CodeSignIn {
    /// The code.
    pub offer: Offer,
    /// Whether to bring an account back that the person has deactivated.
    pub reactivate: bool,
    /// Whether to give the device a token.
    pub remember_device: bool,
}

/// Resetting a password by a code.
#[derive(Debug)]
pub struct Reset {
    /// The code.
    pub offer: Offer,
    /// The new password, fit to be chosen.
    pub password: Password,
}

/// What came of somebody who was there already.
struct Returned {
    user: User,
    /// What of them has changed.
    fields: Vec<Field>,
    ended_sessions: u64,
    changes: Vec<changes::Change>,
}

impl Codes {
    /// Notes that the actor's person holds their number.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::SessionInvalid`] when the session ended meanwhile; [`Error::TooManyAttempts`].
    pub async fn verify_phone(&self, actor: Actor, offer: Offer) -> Result<User, Error> {
        let mut attempt = actor.attempt(Action::VerifyPhone);
        let checked = self.check(Purpose::VerifyPhone, &offer, &mut attempt).await;
        let checked = checked.and_then(|(challenge, reservation)| {
            let is_theirs = challenge.person == Some(actor.user.id);
            is_theirs
                .then_some((challenge, reservation))
                .ok_or(Error::CodeInvalid)
        });
        let (challenge, reservation) = self.accounts.audit.refused(&attempt, checked).await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let account = accounts.lock_actor(&tx, &actor).await?;
                    take(&tx, &challenge, &account).await?;
                    let id = account.user.id;
                    users::verify_phones(&tx, &[id], now).await?;
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &reservation).await?;
                    accounts.commit_change_of(tx, id).await?;
                    Ok(User {
                        phone_verified_at: Some(now),
                        updated_at: now,
                        ..account.user
                    })
                });
                accounts.audit.refused(&attempt, outcome.await).await
            })
            .await
    }

    /// Signs a person in, or creates them where that is allowed. If nobody had verified the number before, whoever registered
    /// it may be somebody else: all their sessions, their password and their known devices are gone then.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`], only with the right code and unless `reactivate` is set and it was
    /// not administration that did it; [`Error::TooManyAttempts`].
    pub async fn sign_in(&self, sign_in: CodeSignIn) -> Result<SignedIn, Error> {
        let CodeSignIn {
            offer,
            reactivate,
            remember_device,
        } = sign_in;
        let (challenge, reservation, attempt) = self
            .check_of_nobody(Purpose::SignIn, Action::SignInByCode, &offer)
            .await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let newcomer = challenge.person.is_none().then(|| newcomer(&challenge, now));
                let id = newcomer.as_ref().map(|user| user.id).or(challenge.person);
                let id = id.ok_or(Error::CodeInvalid)?;
                let (session, token) =
                    accounts.new_session(id, vec![AuthMethod::SmsCode], offer.client, now)?;
                let device = accounts.device(None, remember_device, now)?;
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let mut attempt = attempt.clone().as_user(id, session.id);
                    let returned = match &newcomer {
                        Some(user) => create(&tx, &challenge, user, None)
                            .await
                            .map(|()| returned_new(user))?,
                        None => accounts.returns(&tx, &challenge, id, reactivate, now).await?,
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
                    accounts.throttle.give_back_in(&tx, &reservation).await?;
                    accounts.changes.commit(tx, &returned.changes).await?;
                    Ok(returned.user)
                });
                let outcome = accounts.unless_code_was_right(outcome.await, &reservation).await;
                let user = accounts.audit.refused(&attempt, outcome).await?;
                Ok(SignedIn {
                    user,
                    session,
                    token,
                    device_token: device.into_token(),
                })
            })
            .await
    }

    /// Sets a new password and ends all sessions. Known devices are forgotten with the old password.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`] and [`Error::PhoneChangedRecently`], only with the right code, which
    /// stays good; [`Error::InvalidInput`] when the password is the number; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn reset_password(&self, reset: Reset) -> Result<User, Error> {
        let Reset { offer, password } = reset;
        self.accounts.hasher.check_room()?;
        let (challenge, reservation, mut attempt) = self
            .check_of_nobody(Purpose::ResetPassword, Action::ResetPassword, &offer)
            .await?;
        let hash = match refuse_number(&password, &challenge.phone_number) {
            Ok(()) => self.accounts.hasher.hash(password).await,
            Err(error) => Err(error),
        };
        let hash = self.accounts.unless_code_was_right(hash, &reservation).await?;
        self.accounts
            .finish(move |accounts| async move {
                let now = accounts.clock.now();
                let id = challenge.person.ok_or(Error::CodeInvalid)?;
                attempt.fields = vec![Field::Password];
                let change = Change {
                    password_hash: Some(hash),
                    ..Change::default()
                };
                let outcome = retry(|| async {
                    let tx = accounts.store.begin().await?;
                    let account = lock(&tx, id).await?;
                    if !account.user.is_active() {
                        return Err(Error::AccountDeactivated);
                    }
                    take(&tx, &challenge, &account).await?;
                    if let Some(retry_after) = accounts.held(&account, now) {
                        return Err(Error::PhoneChangedRecently { retry_after });
                    }
                    users::update(&tx, id, &change, now).await?;
                    if account.user.phone_verified_at.is_none() {
                        users::verify_phones(&tx, &[id], now).await?;
                    }
                    let mut attempt = attempt.clone();
                    attempt.actor = EventActor::User(id);
                    attempt.ended_sessions = Some(sessions::delete(&tx, id, &Selection::All).await?);
                    audit::insert(&tx, &attempt.done(now)).await?;
                    accounts.throttle.give_back_in(&tx, &reservation).await?;
                    accounts.commit_change_of(tx, id).await?;
                    Ok(User {
                        has_password: true,
                        phone_verified_at: account.user.phone_verified_at.or(Some(now)),
                        updated_at: now,
                        ..account.user
                    })
                });
                let outcome = accounts.unless_code_was_right(outcome.await, &reservation).await;
                accounts.audit.refused(&attempt, outcome).await
            })
            .await
    }

    /// As [`Self::check`], for somebody who has not shown who they are. A refusal is noted in the audit log, of whoever had the
    /// number.
    pub(super) async fn check_of_nobody(
        &self,
        purpose: Purpose,
        action: Action,
        offer: &Offer,
    ) -> Result<(Challenge, Reservation, Attempt), Error> {
        let mut attempt = Attempt::by_nobody(action, offer.client.clone(), offer.caller.clone());
        let checked = self.check(purpose, offer, &mut attempt).await;
        let (challenge, reservation) = self.accounts.audit.refused(&attempt, checked).await?;
        Ok((challenge, reservation, attempt))
    }

    /// Looks whether a code is right. It counts as an attempt on the challenge, and until it is given back as one from the
    /// address and by the service. If nobody is the subject of what is attempted, whoever had the number is.
    pub(super) async fn check(
        &self,
        purpose: Purpose,
        offer: &Offer,
        attempt: &mut Attempt,
    ) -> Result<(Challenge, Reservation), Error> {
        let accounts = &self.accounts;
        let reservation = accounts
            .throttle
            .reserve(&[], offer.client.ip_address, &offer.caller)
            .await?;
        let refused = |number| {
            self.metrics.code(purpose, Fate::Refused, number);
            Error::CodeInvalid
        };
        let code = offer.code.as_ref().ok_or_else(|| refused(None))?;
        let now = accounts.clock.now();
        // Who cuts the power has not won many guesses by it.
        let writer = accounts.store.unsynced_writer();
        let max = self.options.max_attempts;
        let counted =
            retry(|| async { Ok(challenges::attempt(&writer, offer.challenge, purpose, max, now).await?) });
        let challenge = counted.await?.ok_or_else(|| refused(None))?;
        attempt.subject = attempt.subject.or(challenge.person);
        let right = self.coder.code(&challenge);
        // Nobody was told a code that was not sent.
        if challenge.is_sent && right.is_some_and(|right| right.is(code)) {
            self.metrics
                .code(purpose, Fate::Verified, Some(&challenge.phone_number));
            self.note_verified(&challenge.phone_number).await;
            Ok((challenge, reservation))
        } else {
            Err(refused(Some(&challenge.phone_number)))
        }
    }
}

impl Accounts {
    /// Gives an attempt back if it was refused only for another reason than the code, which was right. The challenge has counted
    /// it all the same.
    pub(super) async fn unless_code_was_right<T>(
        &self,
        outcome: Result<T, Error>,
        reserved: &Reservation,
    ) -> Result<T, Error> {
        if let Err(
            Error::AccountDeactivated
            | Error::PhoneChangedRecently { .. }
            | Error::PhoneNumberTaken
            | Error::InvalidInput(_)
            | Error::Overloaded { .. },
        ) = outcome
        {
            self.throttle.give_back(reserved).await;
        }
        outcome
    }

    /// Meets a challenge by which somebody signs in who was there already.
    async fn returns(
        &self,
        tx: &Transaction,
        challenge: &Challenge,
        id: UserId,
        reactivate: bool,
        now: Timestamp,
    ) -> Result<Returned, Error> {
        let account = lock(tx, id).await?;
        let may_return = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_return {
            return Err(Error::AccountDeactivated);
        }
        take(tx, challenge, &account).await?;
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
            let change = Change {
                status: Some(user.status),
                ..Change::default()
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
            users::take_over(tx, id, now).await?;
            returned.ended_sessions = sessions::delete(tx, id, &Selection::All).await?;
            returned.changes.push(changes::Change::UserChanged { user: id });
        } else {
            if !returned.fields.is_empty() {
                returned.changes.push(changes::Change::UserChanged { user: id });
            }
            let max = self.policy.max_sessions;
            let pushed_out = sessions::make_room(tx, id, count, max, &self.policy.lifetimes, now).await?;
            returned.ended_sessions = u64::try_from(pushed_out.len()).unwrap_or(u64::MAX);
            let revoked = |session| changes::Change::SessionRevoked { user: id, session };
            returned.changes.extend(pushed_out.into_iter().map(revoked));
        }
        Ok(returned)
    }
}

/// Locks the row of whoever had the number when the code was asked for. Somebody who was deleted has no code.
async fn lock(tx: &Transaction, id: UserId) -> Result<Account, Error> {
    users::lock(tx, id).await?.ok_or(Error::CodeInvalid)
}

/// Takes a challenge away that was met, if the person still has the number. To be called under the lock of their row.
async fn take(tx: &Transaction, challenge: &Challenge, account: &Account) -> Result<(), Error> {
    let has_number = account.user.phone_number == challenge.phone_number;
    if has_number && challenges::take(tx, challenge.id).await? {
        Ok(())
    } else {
        Err(Error::CodeInvalid)
    }
}

/// Meets a challenge by which somebody gets an account.
pub(super) async fn create(
    tx: &Transaction,
    challenge: &Challenge,
    user: &User,
    password_hash: Option<&str>,
) -> Result<(), Error> {
    if !challenges::take(tx, challenge.id).await? {
        return Err(Error::CodeInvalid);
    }
    match users::insert(tx, user, password_hash).await {
        // Somebody has registered it meanwhile. The code was for nobody, and is not theirs.
        Err(StoreError::PhoneNumberTaken) => Err(Error::CodeInvalid),
        inserted => Ok(inserted?),
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
