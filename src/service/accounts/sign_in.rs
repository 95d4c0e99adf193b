//! Signing in by phone number and password.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::{Instant, sleep_until};

use super::device::{KnownDevice, SignInDevice};
use super::{Accounts, Check, Claim, Policy, SignedIn};
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, EventActor, Field};
use crate::domain::password::Password;
use crate::domain::phone::{NumberQuery, PhoneNumber};
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, Session};
use crate::domain::throttle::Subject;
use crate::domain::token::TokenHash;
use crate::domain::user::{User, UserStatus};
use crate::service::error::Error;
use crate::service::hasher::{Flow, FlowSubject, Verdict};
use crate::service::retry::retry;
use crate::service::throttle::{GivenBack, Reservation};
use crate::store::group_commit::{GroupCommit, SubmitError};
use crate::store::users::{Account, UserChange};
use crate::store::{StoreError, Transaction, audit, changes, sessions, users};

/// What a person signs in with.
#[derive(Debug)]
pub struct Credentials {
    /// The phone number, whether or not an account has it.
    pub phone_number: NumberQuery,
    /// The password.
    pub password: Password,
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
    /// Whether to bring an account back that the person has deactivated.
    pub reactivate: bool,
    /// The token that the device was given, if it has one.
    pub device_token: Option<SecretString>,
    /// Whether to give the device a token.
    pub remember_device: bool,
}

/// A sign-in that is to be committed.
pub(super) struct SignIn {
    /// The person, as they were read before the hash.
    account: Account,
    /// What the hash has shown.
    verdict: Verdict,
    session: Session,
    token_hash: TokenHash,
    attempt: AuditDraft,
    /// What was reserved of the attempt, to be given back.
    reservation: Reservation,
    device: SignInDevice,
}

/// Those who are committed together. `None`: it is for each to commit theirs alone, which does nothing twice.
pub(super) type SignInsTogether = GroupCommit<Arc<SignIn>, Option<Result<User, Error>>>;

/// How many sign-ins are committed together at most.
pub(super) const MOST_TOGETHER: usize = 16;

impl Accounts {
    /// Signs a person in. An unknown number takes as long as a wrong password: it is checked against a dummy hash. And
    /// no failure is answered before a fixed time has passed, so that nobody sees whose hash is of another cost: one
    /// that was made with older parameters, or was imported. Both are noted in the audit log by the same statement; the
    /// number is not.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`]; [`Error::AccountDeactivated`], only after the right password and unless
    /// `reactivate` is set and it was not administration that did it; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub async fn authenticate(&self, credentials: Credentials) -> Result<SignedIn, Error> {
        let came = Instant::now();
        let outcome = self.try_credentials(credentials).await;
        if let Err(Error::InvalidCredentials) = outcome {
            sleep_until(came + self.policy.min_failed_sign_in_duration).await;
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
        // What is not possible today takes the same way as any other number that has an account or none.
        let phone_number = phone_number.into_key();
        let known = self.known_device(device_token, &phone_number).await?;
        let device = known.as_ref().map(KnownDevice::id);
        let subject = device.map_or_else(|| FlowSubject::from(&phone_number), FlowSubject::from);
        let flow = Flow::new(&caller, client.ip_address, subject);
        self.hasher.check_room(flow)?;
        let success = self.throttle.admit_success(client.ip_address, &caller, device)?;
        let reservation = self
            .reserve_sign_in(&phone_number, known.as_ref(), client.ip_address, &caller)
            .await?;
        let claim = Claim::new(self.throttle.guard(reservation), success);
        let mut attempt = AuditDraft::by_nobody(Action::SignIn, client.clone(), caller);
        let account = users::find_by_phone(self.store.reader(), &phone_number).await?;
        attempt.subject = account.as_ref().map(|account| account.user.id);
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let check = Check {
            flow,
            password,
            stored,
            upgrade: true,
            attempt: &attempt,
            wrong: || Error::InvalidCredentials,
        };
        let (verdict, reservation) = self.check_password(claim, check).await?;
        // Without an account, no password is right.
        let account = account.ok_or(Error::InvalidCredentials)?;
        // What administration deactivated is not the person's to bring back.
        let may_return = reactivate && !account.deactivated_by_admin;
        if !account.user.is_active() && !may_return {
            // The password is right, so nobody has guessed.
            self.throttle.guard(reservation).give_back().await;
            attempt.actor = EventActor::User(account.user.id);
            return self.audit.refused(&attempt, Err(Error::AccountDeactivated)).await;
        }
        self.finish(move |this| async move {
            let now = this.clock.now();
            let (session, token) = this.new_session(
                account.user.id,
                AuthMethods::from_iter([AuthMethod::Password]),
                client,
                now,
            )?;
            let device = this.device(known, remember_device, now)?;
            let device_token = device.token();
            let sign_in = Arc::new(SignIn {
                account,
                verdict,
                session: session.clone(),
                token_hash: token.hash(),
                attempt: attempt.clone(),
                reservation,
                device,
            });
            let outcome = this.commit_sign_in(sign_in).await;
            let user = this.audit.refused(&attempt, outcome).await?;
            Ok(SignedIn {
                user,
                session,
                token,
                device_token,
            })
        })
        .await
    }

    /// Reserves an attempt on the number, from the address and by the service. What strangers do to these is not the
    /// fault of a device that is known: it has attempts of its own.
    async fn reserve_sign_in(
        &self,
        phone_number: &PhoneNumber,
        known: Option<&KnownDevice>,
        address: Option<IpAddr>,
        caller: &Caller,
    ) -> Result<Reservation, Error> {
        match known {
            Some(known) => self.throttle.reserve_only(Subject::Device(known.id())).await,
            None => {
                let subjects = [Subject::SignIn(phone_number)];
                self.throttle.reserve(&subjects, address, caller).await
            }
        }
    }

    /// Signs in a person whose password was right when `account` was read: on SQLite together with others, since a
    /// commit that is on the disk takes as long for many as for one.
    async fn commit_sign_in(&self, sign_in: Arc<SignIn>) -> Result<User, Error> {
        if !self.store.has_one_writer() {
            return self.commit_alone(&sign_in).await;
        }
        let work = |sign_ins| self.commit_sign_ins(sign_ins);
        // As long as for a connection that writes.
        let patience = self.store.acquire_timeout();
        match self.together.submit(sign_in.clone(), patience, work).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => self.commit_alone(&sign_in).await,
            Err(SubmitError::TooLong) => {
                Err(StoreError::unavailable("others were committed for too long").into())
            }
            Err(SubmitError::Unknown) => Err(Error::internal(NotDone)),
        }
    }

    async fn commit_alone(&self, sign_in: &SignIn) -> Result<User, Error> {
        let outcome = self.commit_all(&[sign_in]).await?.pop();
        outcome.unwrap_or_else(|| Err(Error::internal(NotDone)))
    }

    /// The outcome of each, or `None` if it is for whoever asked to commit it alone: of each person but the first, and
    /// of all if that of one keeps all from being committed.
    async fn commit_sign_ins(&self, sign_ins: Vec<Arc<SignIn>>) -> Vec<Option<Result<User, Error>>> {
        if let [only] = sign_ins.as_slice() {
            return vec![Some(self.commit_alone(only).await)];
        }
        let mut people = HashSet::new();
        let are_first: Vec<bool> = sign_ins
            .iter()
            .map(|sign_in| people.insert(sign_in.account.user.id))
            .collect();
        let different: Vec<&SignIn> = sign_ins
            .iter()
            .zip(&are_first)
            .filter_map(|(sign_in, is_first)| is_first.then_some(sign_in.as_ref()))
            .collect();
        let mut outcomes = match self.commit_all(&different).await {
            Ok(outcomes) => outcomes,
            // Each would wait as long.
            Err(Error::DatabaseUnavailable(error)) => {
                return sign_ins.iter().map(|_| Some(Err(error.clone().into()))).collect();
            }
            // Even if it was committed, nothing is by that done twice: a session is there once.
            Err(_) => Vec::new(),
        }
        .into_iter();
        are_first
            .into_iter()
            .map(|is_first| if is_first { outcomes.next() } else { None })
            .collect()
    }

    /// Commits sign-ins of different people, all or none. The outcome of each.
    async fn commit_all(&self, sign_ins: &[&SignIn]) -> Result<Vec<Result<User, Error>>, Error> {
        retry(|| async {
            let (tx, written) = self.write(sign_ins).await?;
            self.changes.commit(tx, &written.changes).await?;
            Ok(self.settle(written).await)
        })
        .await
    }

    /// Writes what sign-ins of different people change, all but the commit.
    async fn write<'a>(&self, sign_ins: &[&'a SignIn]) -> Result<(Transaction, Written<'a>), Error> {
        let times = sign_ins.iter().map(|sign_in| sign_in.session.created_at);
        let now = times.max().unwrap_or_else(|| self.clock.now());
        let tx = self.store.begin().await?;
        let accounts: Vec<&Account> = sign_ins.iter().map(|sign_in| &sign_in.account).collect();
        let counts = users::sign_in_all(&tx, &accounts, now).await?;
        let mut written = Written::default();
        for sign_in in sign_ins {
            let outcome = match counts.get(&sign_in.account.user.id) {
                Some(count) => Ok(self.write_one(&tx, sign_in, *count, &mut written, now).await?),
                None => Err(Error::InvalidCredentials),
            };
            written.outcomes.push(outcome);
        }
        Ok((tx, written))
    }

    /// Writes what one sign-in changes, of somebody who had `count` sessions before.
    async fn write_one<'a>(
        &self,
        tx: &Transaction,
        sign_in: &'a SignIn,
        count: u64,
        written: &mut Written<'a>,
        now: Timestamp,
    ) -> Result<User, Error> {
        let SignIn {
            account,
            verdict,
            session,
            token_hash,
            attempt,
            reservation,
            device,
        } = sign_in;
        let id = account.user.id;
        let mut attempt = attempt.clone().as_user(id, session.id);
        if let (Verdict::RightButWeak { stronger }, Some(verified)) = (verdict, &account.password_hash) {
            users::rehash(tx, id, verified, stronger).await?;
        }
        // As they were when the call came; what was looked at again is what the sign-in depends on.
        let mut user = account.user.clone();
        if !user.is_active() {
            user.status = UserStatus::Active;
            user.updated_at = now;
            let change = UserChange {
                status: Some(user.status),
                ..UserChange::default()
            };
            users::update(tx, id, &change, now).await?;
            attempt.fields = vec![Field::Status];
            written
                .changes
                .push(changes::RevocationChange::UserChanged { user: id });
        }
        user.last_login_at = Some(now);
        let Policy {
            max_sessions,
            lifetimes,
            ..
        } = self.policy.as_ref();
        let pushed_out = sessions::make_room(tx, id, count, *max_sessions, lifetimes, now).await?;
        attempt.ended_sessions = u64::try_from(pushed_out.len()).ok();
        let revoked = |session| changes::RevocationChange::SessionRevoked { user: id, session };
        written.changes.extend(pushed_out.into_iter().map(revoked));
        sessions::insert_with_commit(tx, session, token_hash).await?;
        audit::insert_with_commit(tx, &attempt.done(now)).await?;
        self.remember(tx, device, id, account.credential_version, now)
            .await?;
        let given_back = self.throttle.give_back_with_commit(tx, reservation).await?;
        written.given_back.push(given_back);
        Ok(user)
    }

    /// Does what is left after the commit.
    async fn settle(&self, written: Written<'_>) -> Vec<Result<User, Error>> {
        for given_back in written.given_back {
            self.throttle.settle(given_back).await;
        }
        written.outcomes
    }
}

/// What a transaction of sign-ins has written.
#[derive(Default)]
struct Written<'a> {
    outcomes: Vec<Result<User, Error>>,
    changes: Vec<changes::RevocationChange>,
    given_back: Vec<GivenBack<'a>>,
}

/// Whoever was to commit a sign-in did not come to an end.
#[derive(Debug, thiserror::Error)]
#[error("a sign-in was not committed, or nobody knows")]
struct NotDone;
