//! Sign-in by phone number and password.

use std::collections::HashSet;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::{Instant, sleep_until};

use super::{Accounts, SignedIn};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, EventActor, Field};
use crate::domain::password::Password;
use crate::domain::phone::NumberQuery;
use crate::domain::session::{AuthMethod, ClientInfo};
use crate::domain::throttle::Subject;
use crate::domain::user::{User, UserStatus};
use crate::service::error::Error;
use crate::service::hasher::{Flow, FlowSubject, Verdict};
use crate::service::passwords::{Check, PasswordAttempt};
use crate::service::session_issuer::{IssuedSession, KnownDevice, SessionRequest};
use crate::service::throttle::{GivenBack, Reservation};
use crate::service::unit_of_work::TransactionEnd;
use crate::store::changes::RevocationChange;
use crate::store::group_commit::{GroupCommit, SubmitError};
use crate::store::users::{Account, UserChange};
use crate::store::{StoreError, Transaction, audit, sessions, users};

/// The credentials of a sign-in.
#[derive(Debug)]
pub struct Credentials {
    /// The phone number, whether or not an account has it.
    pub phone_number: NumberQuery,
    /// The password.
    pub password: Password,
    /// The client.
    pub client: ClientInfo,
    /// The calling service.
    pub caller: Caller,
    /// Whether to reactivate an account that its user has deactivated.
    pub reactivate: bool,
    /// The token of the device, if the device has one.
    pub device_token: Option<SecretString>,
    /// Whether the device gets a token.
    pub remember_device: bool,
}

/// A sign-in with a right password, to be committed.
pub(super) struct SignIn {
    /// The account, as it was before the hash.
    account: Account,
    /// The result of the hash.
    verdict: Verdict,
    issued: IssuedSession,
    draft: AuditDraft,
    /// The reserved attempt, to be given back.
    reservation: Reservation,
}

/// Sign-ins that are committed together. `None`: the caller must commit on its own (a second sign-in of the same user,
/// or a failed group). A sign-in that was committed is not committed twice: the id of its session is unique.
pub(super) type SignInGroups = GroupCommit<Arc<SignIn>, Option<Result<User, Error>>>;

/// Maximum number of sign-ins that are committed together.
pub(super) const MAX_GROUP: usize = 16;

/// What a transaction of sign-ins has written.
#[derive(Default)]
struct Written<'a> {
    /// The outcome of each sign-in, in order.
    outcomes: Vec<Result<User, Error>>,
    /// To be settled after the commit.
    given_back: Vec<GivenBack<'a>>,
}

/// A sign-in whose user was written, and whose session was not yet.
struct SignInOfUser<'a> {
    sign_in: &'a SignIn,
    user: User,
    draft: AuditDraft,
    changes: Vec<RevocationChange>,
}

/// The process that committed a sign-in did not come to an end.
#[derive(Debug, thiserror::Error)]
#[error("a sign-in was not committed, or its outcome is unknown")]
struct OutcomeUnknown;

impl Accounts {
    /// Signs a user in. An unknown number takes as long as a wrong password: it is checked against a dummy hash. A
    /// failure is answered after a minimum duration, so that the time does not reveal a hash of another cost: one with
    /// older parameters, or an imported one. The audit log has both kinds of failure, written by the same statement,
    /// and never the number.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`]; [`Error::AccountDeactivated`], only after the right password, and unless
    /// `reactivate` is set and the user deactivated the account; [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn authenticate(&self, credentials: Credentials) -> Result<SignedIn, Error> {
        let received = Instant::now();
        let outcome = self.try_credentials(credentials).await;
        if let Err(Error::InvalidCredentials) = outcome {
            sleep_until(received + self.policy.min_failed_sign_in_duration).await;
        }
        self.sign_ins.note(&outcome);
        outcome
    }

    async fn try_credentials(&self, credentials: Credentials) -> Result<SignedIn, Error> {
        let Credentials {
            phone_number,
            password,
            client,
            caller,
            reactivate,
            device_token,
            remember_device,
        } = credentials;
        // A number that is not valid today takes the same path as any other number.
        let phone_number = phone_number.into_key();
        let known = self.issuer.known_device(device_token, &phone_number).await?;
        let device = known.as_ref().map(KnownDevice::id);
        let subject = device.map_or_else(|| FlowSubject::from(&phone_number), FlowSubject::from);
        let flow = Flow::new(&caller, client.ip_address, subject);
        let attempt = PasswordAttempt {
            flow,
            address: client.ip_address,
            caller: &caller,
            device,
            subjects: &[Subject::SignIn(&phone_number)],
        };
        let claim = self.passwords.claim(attempt).await?;
        let mut draft = AuditDraft::by_nobody(Action::SignIn, client.clone(), caller);
        let account = users::find_by_phone(self.work.store().reader(), &phone_number).await?;
        draft.subject = account.as_ref().map(|account| account.user.id);
        let check = Check {
            flow,
            password,
            stored: account.as_ref().and_then(|account| account.password_hash.clone()),
            upgrade: true,
            draft: &draft,
            wrong: || Error::InvalidCredentials,
        };
        let (verdict, reservation) = self.passwords.check(claim, check).await?;
        // Without an account, no password is right.
        let account = account.ok_or(Error::InvalidCredentials)?;
        let may_reactivate = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_reactivate {
            // The password is right, so the attempt was no guess.
            self.work.throttle().guard(reservation).give_back().await;
            draft.actor = EventActor::User(account.user.id);
            let refused = Err(Error::AccountDeactivated);
            return self.work.audit().refused(&draft, refused).await;
        }
        let request = SessionRequest {
            user: account.user.id,
            methods: vec![AuthMethod::Password],
            client,
            known,
            remember_device,
        };
        let this = self.clone();
        self.work
            .finish(async move {
                let issued = this.issuer.issue(request, this.work.now())?;
                let sign_in = Arc::new(SignIn {
                    account,
                    verdict,
                    issued,
                    draft,
                    reservation,
                });
                let outcome = this.commit(&sign_in).await;
                let user = this.work.audit().refused(&sign_in.draft, outcome).await?;
                Ok(sign_in.issued.signed_in(user))
            })
            .await
    }

    /// Commits a sign-in whose password was right when the account was read. The store may group it with others.
    async fn commit(&self, sign_in: &Arc<SignIn>) -> Result<User, Error> {
        let work = |group| self.commit_group(group);
        match self.groups.submit(sign_in.clone(), work).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => self.commit_alone(sign_in).await,
            Err(SubmitError::TooLong) => {
                Err(StoreError::unavailable("others were committed for too long").into())
            }
            Err(SubmitError::Unknown) => Err(Error::internal(OutcomeUnknown)),
        }
    }

    async fn commit_alone(&self, sign_in: &SignIn) -> Result<User, Error> {
        let outcome = self.commit_all(&[sign_in]).await?.pop();
        outcome.unwrap_or_else(|| Err(Error::internal(OutcomeUnknown)))
    }

    /// Commits a group of sign-ins. `None`: the caller must commit the sign-in on its own, since the group has another
    /// one of the same user, or since one of the sign-ins made the group fail.
    async fn commit_group(&self, group: Vec<Arc<SignIn>>) -> Vec<Option<Result<User, Error>>> {
        if let [only] = group.as_slice() {
            return vec![Some(self.commit_alone(only).await)];
        }
        let mut users = HashSet::new();
        let are_first: Vec<bool> = group
            .iter()
            .map(|sign_in| users.insert(sign_in.account.user.id))
            .collect();
        let different: Vec<&SignIn> = group
            .iter()
            .zip(&are_first)
            .filter_map(|(sign_in, is_first)| is_first.then_some(sign_in.as_ref()))
            .collect();
        let mut outcomes = match self.commit_all(&different).await {
            Ok(outcomes) => outcomes,
            // Each of them alone would wait as long.
            Err(Error::DatabaseUnavailable(error)) => {
                return group.iter().map(|_| Some(Err(error.clone().into()))).collect();
            }
            Err(_) => Vec::new(),
        }
        .into_iter();
        are_first
            .into_iter()
            .map(|is_first| if is_first { outcomes.next() } else { None })
            .collect()
    }

    /// Commits sign-ins of different users, all of them or none. Returns the outcome of each, in order.
    async fn commit_all(&self, sign_ins: &[&SignIn]) -> Result<Vec<Result<User, Error>>, Error> {
        let Written { outcomes, given_back } = self
            .work
            .transact(|tx, _| Box::pin(self.write_all(tx, sign_ins)))
            .await?;
        for given_back in given_back {
            self.work.throttle().settle(given_back).await;
        }
        Ok(outcomes)
    }

    /// Writes sign-ins of different users: first the users, which are read and locked, then the new rows, so that the
    /// store can send these together with the commit.
    async fn write_all<'a>(
        &self,
        tx: &Transaction,
        sign_ins: &[&'a SignIn],
    ) -> Result<TransactionEnd<Written<'a>>, Error> {
        let times = sign_ins.iter().map(|sign_in| sign_in.issued.session.created_at);
        let now = times.max().unwrap_or_else(|| self.work.now());
        let accounts: Vec<&Account> = sign_ins.iter().map(|sign_in| &sign_in.account).collect();
        let counts = users::sign_in_all(tx, &accounts, now).await?;
        let mut accepted = Vec::with_capacity(sign_ins.len());
        for sign_in in sign_ins {
            accepted.push(match counts.get(&sign_in.account.user.id) {
                Some(count) => Some(self.write_user(tx, sign_in, *count, now).await?),
                // The number, the credentials or the status changed during the hash, or the user was deleted.
                None => None,
            });
        }
        // An attempt that shares rows with others is given back by statements that read, so it goes ahead of the writes
        // that wait for the commit.
        let throttle = self.work.throttle();
        for of_user in accepted.iter().flatten() {
            throttle
                .give_back_shared(tx, &of_user.sign_in.reservation)
                .await?;
        }
        let mut written = Written::default();
        let mut changes = Vec::new();
        for of_user in accepted {
            written.outcomes.push(match of_user {
                Some(SignInOfUser {
                    sign_in,
                    user,
                    draft,
                    changes: of_this,
                }) => {
                    let IssuedSession { session, token, .. } = &sign_in.issued;
                    sessions::insert(tx, session, &token.hash()).await?;
                    audit::insert(tx, &draft.done(now)).await?;
                    let given_back = throttle.give_back_new(tx, &sign_in.reservation).await?;
                    written.given_back.push(given_back);
                    changes.extend(of_this);
                    Ok(user)
                }
                None => Err(Error::InvalidCredentials),
            });
        }
        Ok(TransactionEnd::commit_with(changes, written))
    }

    /// Writes the changes of a user by a sign-in, and of the user's device. The user had `count` sessions before.
    async fn write_user<'a>(
        &self,
        tx: &Transaction,
        sign_in: &'a SignIn,
        count: u64,
        now: Timestamp,
    ) -> Result<SignInOfUser<'a>, Error> {
        let SignIn {
            account,
            verdict,
            issued,
            draft,
            ..
        } = sign_in;
        let id = account.user.id;
        let mut draft = draft.clone().as_user(id, issued.session.id);
        let mut changes = Vec::new();
        if let (Verdict::RightButWeak { stronger }, Some(verified)) = (verdict, &account.password_hash) {
            users::rehash(tx, id, verified, stronger).await?;
        }
        // The user as it was before the hash: the transaction has checked again what the sign-in depends on.
        let mut user = account.user.clone();
        if !user.is_active() {
            user.status = UserStatus::Active;
            user.updated_at = now;
            let change = UserChange {
                status: Some(user.status),
                ..UserChange::default()
            };
            users::update(tx, id, &change, now).await?;
            draft.fields = vec![Field::Status];
            changes.push(RevocationChange::UserChanged { user: id });
        }
        user.last_login_at = Some(now);
        let revoked = self.issuer.make_room(tx, id, count, now).await?;
        draft.ended_sessions = u64::try_from(revoked.len()).ok();
        changes.extend(revoked);
        let version = account.credential_version;
        self.issuer.remember(tx, &issued.device, id, version, now).await?;
        Ok(SignInOfUser {
            sign_in,
            user,
            draft,
            changes,
        })
    }
}
