//! The life of an account: registering, signing in, changing, and leaving; and superusers.
//!
//! A password is hashed before a transaction begins, since that takes long. What was read before the hashing is read
//! again in the transaction, under a lock of the person's row, so that a sign-in with the old password cannot outlive
//! a change of the password. What follows a hash finishes even if the caller goes away.

mod claim;
mod device;
mod hold;
mod metrics;
mod profile;
mod sign_in;
mod superusers;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub(super) use claim::{Check, Claim, NewHash};
pub use profile::ProfileUpdate;
pub use sign_in::Credentials;
pub use superusers::SuperuserMaker;
pub(super) use superusers::keep_a_superuser;

use super::audit::Audit;
use super::error::Error;
use super::hasher::{Flow, Hasher};
use super::password_policy::PasswordPolicy;
use super::retry::retry;
use super::revocation::ChangeLog;
use super::sessions::Actor;
use super::throttle::{Reservation, Throttle, creations};
use crate::clock::{Clock, Timestamp};
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, Lifetimes, Session, SessionId};
use crate::domain::sms_limits::Reach;
use crate::domain::throttle::Subject;
use crate::domain::token::PlainToken;
use crate::domain::user::{User, UserId, UserStatus};
use crate::store::group_commit::GroupCommit;
use crate::store::sessions::Selection;
use crate::store::users::UserChange;
use crate::store::{Store, Transaction, audit, changes, sessions, users};
use crate::telemetry::tracing::TraceContext;
use metrics::SignIns;
use sign_in::{MOST_TOGETHER, SignInsTogether};

/// The settings that decide how accounts are dealt with.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long sessions live.
    pub lifetimes: Lifetimes,
    /// The most live sessions of a person; the oldest gives way.
    pub max_sessions: u32,
    /// How long after signing in a person needs no password to change their account.
    pub reauthentication_window: Duration,
    /// A failed sign-in is answered no sooner than this after it came.
    pub min_failed_sign_in_duration: Duration,
    /// How long a device is known after it was last used.
    pub device_lifetime: Duration,
    /// The most known devices of a person; the one that was not used for the longest time gives way.
    pub max_devices: u32,
    /// The numbers that are told by SMS when they are those of an account no more. `None`: there are no messages.
    pub notices: Option<Reach>,
    /// Whether people may take a number that they have not shown to hold, by UpdateProfile.
    pub unverified_phone_change: bool,
    /// How long after a change of the number a code to it sets no password.
    pub phone_change_hold: Duration,
}

/// What accounts do with passwords.
#[derive(Clone)]
pub struct Passwords {
    /// The threads that hash.
    pub hasher: Hasher,
    /// The policy for new ones.
    pub policy: PasswordPolicy,
}

/// Deals with accounts. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    pub(super) store: Store,
    pub(super) hasher: Hasher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) policy: Arc<Policy>,
    pub(super) changes: ChangeLog,
    pub(super) audit: Audit,
    pub(super) throttle: Throttle,
    pub(super) passwords: PasswordPolicy,
    tasks: TaskTracker,
    sign_ins: Arc<SignIns>,
    together: Arc<SignInsTogether>,
}

/// A new account to be.
#[derive(Debug)]
pub struct Registration {
    /// The phone number, fit to be taken.
    pub phone_number: PhoneNumber,
    /// The password, to which the password policy was not applied yet.
    pub password: Password,
    /// The person's device.
    pub client: ClientInfo,
    /// The service that they go through.
    pub caller: Caller,
    /// Whether to give the device a token.
    pub remember_device: bool,
}

/// Somebody who has just signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// The new session.
    pub session: Session,
    /// Its token, which is known to nobody else.
    pub token: PlainToken,
    /// The token of the device, if it has one.
    pub device_token: Option<PlainToken>,
}

impl Accounts {
    /// Accounts in this store. `tasks` keeps track of writes that must finish before the program ends.
    #[must_use]
    pub fn new(
        store: Store,
        passwords: Passwords,
        clock: Arc<dyn Clock>,
        policy: Policy,
        changes: ChangeLog,
        throttle: Throttle,
        tasks: TaskTracker,
    ) -> Self {
        let audit = Audit::new(store.clone(), clock.clone(), tasks.clone());
        Self {
            store,
            hasher: passwords.hasher,
            clock,
            policy: Arc::new(policy),
            changes,
            audit,
            throttle,
            passwords: passwords.policy,
            tasks,
            sign_ins: Arc::default(),
            together: Arc::new(GroupCommit::new(MOST_TOGETHER)),
        }
    }

    /// How many sign-ins by password ended how, with the name of each outcome.
    #[must_use]
    pub fn sign_ins(&self) -> impl IntoIterator<Item = (&'static str, u64)> + use<> {
        self.sign_ins.counts()
    }

    /// The audit log of these accounts.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Creates a person and signs them in. The account counts for the network of the client, and stays counted.
    ///
    /// # Errors
    /// [`Error::PhoneNumberTaken`]; [`Error::InvalidInput`] when the password policy rejects the password;
    /// [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn register(&self, registration: Registration) -> Result<SignedIn, Error> {
        let Registration {
            phone_number,
            password,
            client,
            caller,
            remember_device,
        } = registration;
        let flow = Flow::new(&caller, client.ip_address, &phone_number);
        self.hasher.check_room(flow)?;
        let success = self.throttle.admit_success(client.ip_address, &caller, None)?;
        let mut subjects = vec![Subject::PhoneClaim(&phone_number)];
        subjects.extend(creations(client.ip_address));
        let reservation = self
            .throttle
            .reserve(&subjects, client.ip_address, &caller)
            .await?;
        let claim = Claim::new(self.throttle.guard(reservation), success);
        let new = NewHash {
            flow,
            field: "password",
            password,
            phones: &[&phone_number],
        };
        let (hash, reservation) = self.hash_password(claim, new).await?;
        self.finish(move |this| async move {
            let now = this.clock.now();
            let mut user = new_user(phone_number, now);
            user.last_login_at = Some(now);
            let attempt = AuditDraft::by_nobody(Action::Register, client.clone(), caller);
            let (session, token) = this.new_session(
                user.id,
                AuthMethods::from_iter([AuthMethod::Password]),
                client,
                now,
            )?;
            let device = this.device(None, remember_device, now)?;
            let event = attempt.clone().as_user(user.id, session.id).done(now);
            let attempted = reservation.without_creation();
            let outcome = retry(|| async {
                let tx = this.store.begin().await?;
                users::insert(&tx, &user, Some(&hash)).await?;
                sessions::insert_with_commit(&tx, &session, &token.hash()).await?;
                audit::insert_with_commit(&tx, &event).await?;
                this.remember(&tx, &device, user.id, 0, now).await?;
                let given_back = this.throttle.give_back_with_commit(&tx, &attempted).await?;
                tx.commit().await?;
                this.throttle.settle(given_back).await;
                Ok(())
            });
            let outcome = this.unless_created(outcome.await, &reservation).await;
            this.audit.refused(&attempt, outcome).await?;
            Ok(SignedIn {
                user,
                session,
                token,
                device_token: device.token(),
            })
        })
        .await
    }

    /// Sets a user's password and ends their sessions, for the operator at the command line. Returns whether there is
    /// such a user.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the password policy rejects the password; [`Error::Overloaded`]; or when the
    /// database fails.
    pub async fn change_password(&self, id: UserId, password: Password) -> Result<bool, Error> {
        let Some(account) = users::find(self.store.reader(), id).await? else {
            return Ok(false);
        };
        let new = NewHash {
            flow: Flow::operator(),
            field: "password",
            password,
            phones: &[&account.user.phone_number],
        };
        let (hash, _) = self.hash_password(Claim::unlimited(&self.throttle), new).await?;
        self.finish(move |this| async move {
            let now = this.clock.now();
            let change = UserChange {
                password_hash: Some(hash),
                ..UserChange::default()
            };
            retry(|| async {
                let tx = this.store.begin().await?;
                if users::lock(&tx, id).await?.is_none() {
                    return Ok(false);
                }
                users::update(&tx, id, &change, now).await?;
                let mut attempt = AuditDraft::by_operator(Action::ChangePassword);
                attempt.subject = Some(id);
                attempt.fields = vec![Field::Password];
                attempt.ended_sessions = Some(sessions::delete(&tx, id, &Selection::All).await?);
                audit::insert(&tx, &attempt.done(now)).await?;
                this.commit_change_of(tx, id).await?;
                Ok(true)
            })
            .await
        })
        .await
    }

    /// Reserves an attempt of the actor to take a number, which tells whether somebody has it.
    pub(super) async fn reserve_taking(
        &self,
        actor: &Actor,
        phone_number: &PhoneNumber,
    ) -> Result<Reservation, Error> {
        let subjects = [Subject::PhoneClaim(phone_number), Subject::Person(actor.user.id)];
        let address = actor.session.client.ip_address;
        self.throttle.reserve(&subjects, address, &actor.caller).await
    }

    /// Gives the reserved account back if none was created. If the database was out of reach, it may have been.
    pub(super) async fn unless_created<T>(
        &self,
        outcome: Result<T, Error>,
        reserved: &Reservation,
    ) -> Result<T, Error> {
        if !matches!(outcome, Ok(_) | Err(Error::DatabaseUnavailable(_))) {
            self.throttle.give_back(&reserved.creation()).await;
        }
        outcome
    }

    pub(super) async fn commit_change_of(&self, tx: Transaction, user: UserId) -> Result<(), Error> {
        let changed = changes::RevocationChange::UserChanged { user };
        Ok(self.changes.commit(tx, &[changed]).await?)
    }

    /// Runs what must not stop half way, even if the caller goes away.
    pub(super) async fn finish<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (trace, work) = (TraceContext::current(), work(self.clone()));
        let work = async move { trace.scope(work).await };
        let task = self.tasks.spawn(work.in_current_span());
        task.await.map_err(Error::internal)?
    }

    /// Whether a person has signed in so lately that they need not show again who they are.
    pub(super) fn is_fresh(&self, session: &Session) -> bool {
        session.is_fresh(self.policy.reauthentication_window, self.clock.now())
    }

    pub(super) fn new_session(
        &self,
        user_id: UserId,
        auth_methods: AuthMethods,
        client: ClientInfo,
        now: Timestamp,
    ) -> Result<(Session, PlainToken), Error> {
        let session = Session {
            id: SessionId::generate(now),
            user_id,
            created_at: now,
            last_seen_at: now,
            expires_at: now + self.policy.lifetimes.absolute,
            auth_methods,
            client,
        };
        Ok((session, PlainToken::generate()?))
    }
}

pub(super) fn new_user(phone_number: PhoneNumber, now: Timestamp) -> User {
    User {
        id: UserId::generate(now),
        phone_number,
        status: UserStatus::Active,
        is_staff: false,
        is_superuser: false,
        has_password: true,
        phone_verified_at: None,
        locale: None,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    }
}
