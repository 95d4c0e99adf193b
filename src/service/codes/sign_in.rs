//! Sign-in by a code, without a password.

use super::Codes;
use super::redeem::{CodeSubmission, RedeemedChallenge, create, lock};
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::code::{Challenge, Purpose};
use crate::domain::session::{AuthMethod, ClientInfo};
use crate::domain::user::{User, UserId, UserStatus};
use crate::service::accounts::SignedIn;
use crate::service::error::Error;
use crate::service::session_issuer::{IssuedSession, SessionRequest};
use crate::service::throttle::Reservation;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::changes::RevocationChange;
use crate::store::users::UserChange;
use crate::store::{Transaction, audit, users};

/// A sign-in by a code.
#[derive(Debug)]
pub struct CodeSignIn {
    /// The code.
    pub submission: CodeSubmission,
    /// Whether to reactivate an account that its user has deactivated.
    pub reactivate: bool,
    /// Whether the device gets a token.
    pub remember_device: bool,
}

/// A sign-in with a right code, to be committed.
struct RedeemedSignIn {
    redeemed: RedeemedChallenge,
    draft: AuditDraft,
    client: ClientInfo,
    reactivate: bool,
    remember_device: bool,
}

/// The rows of a sign-in.
struct SignInRows<'a> {
    user: UserId,
    /// The user to create. `None`: the user exists.
    new: Option<&'a User>,
    issued: &'a IssuedSession,
    /// The attempt, without a created account.
    attempted: &'a Reservation,
}

/// The effect of a sign-in on the user.
struct SignedInUser {
    user: User,
    /// The fields that have changed.
    fields: Vec<Field>,
    ended_sessions: u64,
    changes: Vec<RevocationChange>,
}

impl Codes {
    /// Signs a user in, or creates the user where that is allowed. If the number was not verified before, another
    /// person may have registered it: then all sessions, the password and the known devices of the account end.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::AccountDeactivated`], only with the right code, and unless `reactivate` is set
    /// and the user deactivated the account; [`Error::PhoneChangedRecently`], only with the right code, if the number
    /// is not verified; [`Error::TooManyAttempts`].
    pub async fn sign_in(&self, sign_in: CodeSignIn) -> Result<SignedIn, Error> {
        let CodeSignIn {
            submission,
            reactivate,
            remember_device,
        } = sign_in;
        let (mut redeemed, draft) = self
            .redeem(Purpose::SignIn, Action::SignInByCode, &submission)
            .await?;
        if redeemed.challenge.person.is_none() {
            self.reserve_creation(&mut redeemed, &submission, &draft).await?;
        }
        let sign_in = RedeemedSignIn {
            redeemed,
            draft,
            client: submission.client,
            reactivate,
            remember_device,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_sign_in(sign_in).await })
            .await
    }

    async fn commit_sign_in(&self, sign_in: RedeemedSignIn) -> Result<SignedIn, Error> {
        let now = self.work.now();
        let RedeemedSignIn { redeemed, draft, .. } = &sign_in;
        let person = redeemed.challenge.person;
        let new = person.is_none().then(|| signed_up(&redeemed.challenge, now));
        let user = new.as_ref().map(|user| user.id).or(person);
        let user = user.ok_or(Error::CodeInvalid)?;
        let request = SessionRequest {
            user,
            methods: vec![AuthMethod::SmsCode],
            client: sign_in.client.clone(),
            known: None,
            remember_device: sign_in.remember_device,
        };
        let issued = self.issuer.issue(request, now)?;
        let attempted = redeemed.reservation.without_creation();
        let rows = SignInRows {
            user,
            new: new.as_ref(),
            issued: &issued,
            attempted: &attempted,
        };
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_sign_in(tx, &sign_in, &rows, now)))
            .await;
        let outcome = self.give_back_if_code_was_right(outcome, redeemed).await;
        let outcome = redeemed.counted(outcome);
        let user = self.work.audit().refused(draft, outcome).await?;
        Ok(issued.signed_in(user))
    }

    async fn write_sign_in(
        &self,
        tx: &Transaction,
        sign_in: &RedeemedSignIn,
        rows: &SignInRows<'_>,
        now: Timestamp,
    ) -> Result<TransactionEnd<User>, Error> {
        let RedeemedSignIn { redeemed, draft, .. } = sign_in;
        let id = rows.user;
        let signed_in = match rows.new {
            Some(user) => {
                create(tx, redeemed, user, None).await?;
                SignedInUser::new(user)
            }
            None => {
                self.sign_in_existing(tx, redeemed, sign_in.reactivate, now)
                    .await?
            }
        };
        let account = users::find(tx, id).await?.ok_or(Error::CodeInvalid)?;
        let version = account.credential_version;
        self.issuer.insert(tx, rows.issued, version, now).await?;
        let draft = AuditDraft {
            fields: signed_in.fields,
            ended_sessions: Some(signed_in.ended_sessions),
            ..draft.clone().as_user(id, rows.issued.session.id)
        };
        audit::insert(tx, &draft.done(now)).await?;
        self.work.throttle().give_back_in(tx, rows.attempted).await?;
        Ok(TransactionEnd::commit_with(signed_in.changes, signed_in.user))
    }

    /// Uses a challenge for a sign-in of an existing user.
    async fn sign_in_existing(
        &self,
        tx: &Transaction,
        redeemed: &RedeemedChallenge,
        reactivate: bool,
        now: Timestamp,
    ) -> Result<SignedInUser, Error> {
        let account = lock(tx, redeemed).await?;
        let id = account.user.id;
        let may_reactivate = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_reactivate {
            return Err(Error::AccountDeactivated);
        }
        redeemed.delete(tx, now).await?;
        // Otherwise a thief who has changed the number without verifying it would get by a code what a reset refuses.
        if let Some(retry_after) = self.reauthentication.phone_change_hold_remaining(&account, now)
            && account.user.phone_verified_at.is_none()
        {
            return Err(Error::PhoneChangedRecently { retry_after });
        }
        let count = users::sign_in(tx, &account, now).await?;
        let count = count.ok_or(Error::CodeInvalid)?;
        let mut signed_in = SignedInUser {
            user: User {
                last_login_at: Some(now),
                ..account.user
            },
            fields: Vec::new(),
            ended_sessions: 0,
            changes: Vec::new(),
        };
        let user = &mut signed_in.user;
        if !user.is_active() {
            user.status = UserStatus::Active;
            user.updated_at = now;
            let change = UserChange {
                status: Some(user.status),
                ..UserChange::default()
            };
            users::update(tx, id, &change, now).await?;
            signed_in.fields.push(Field::Status);
        }
        if user.phone_verified_at.is_none() {
            if user.has_password {
                signed_in.fields.push(Field::Password);
            }
            user.has_password = false;
            user.phone_verified_at = Some(now);
            user.updated_at = now;
            signed_in.ended_sessions = users::take_over(tx, id, now).await?;
            signed_in.changes.push(RevocationChange::UserChanged { user: id });
        } else {
            if !signed_in.fields.is_empty() {
                signed_in.changes.push(RevocationChange::UserChanged { user: id });
            }
            let revoked = self.issuer.make_room(tx, id, count, now).await?;
            signed_in.ended_sessions = u64::try_from(revoked.len()).unwrap_or(u64::MAX);
            signed_in.changes.extend(revoked);
        }
        Ok(signed_in)
    }
}

impl SignedInUser {
    /// A user that the sign-in created.
    fn new(user: &User) -> Self {
        Self {
            user: user.clone(),
            fields: vec![Field::PhoneNumber],
            ended_sessions: 0,
            changes: Vec::new(),
        }
    }
}

/// A new user with a verified number and without a password.
fn signed_up(challenge: &Challenge, now: Timestamp) -> User {
    User {
        has_password: false,
        phone_verified_at: Some(now),
        last_login_at: Some(now),
        ..User::new(challenge.phone_number.clone(), now)
    }
}
