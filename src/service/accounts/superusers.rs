//! Superusers: creation, and the rule that the last one stays.

use super::Accounts;
use crate::clock::Timestamp;
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, Event};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::throttle::Subject;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::passwords::{Claim, NewHash, PasswordAttempt};
use crate::service::sessions::Actor;
use crate::service::throttle::Reservation;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, audit, locks, users};

/// The creator of a superuser.
#[derive(Clone, Debug)]
pub enum SuperuserMaker {
    /// A superuser.
    Person(Box<Actor>),
    /// The operator, by this call, or at the command line.
    Operator(Caller),
}

impl SuperuserMaker {
    fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Person(actor) => Some(actor),
            Self::Operator(_) => None,
        }
    }

    /// The event of the creation. Its subject does not exist yet.
    fn draft(&self) -> AuditDraft {
        match self {
            Self::Person(actor) => creation_by(actor),
            Self::Operator(caller) => AuditDraft {
                caller: caller.clone(),
                ..AuditDraft::by_operator(Action::CreateSuperuser)
            },
        }
    }
}

/// A superuser to create.
struct NewSuperuser {
    maker: SuperuserMaker,
    phone_number: PhoneNumber,
    hash: String,
    reservation: Reservation,
}

impl Accounts {
    /// Checks that the actor may create superusers, before the rest of the request is read.
    ///
    /// # Errors
    /// [`Error::NotSuperuser`].
    pub async fn may_create_superuser(&self, actor: &Actor) -> Result<(), Error> {
        if actor.user.is_superuser {
            return Ok(());
        }
        let refused = Err(Error::NotSuperuser);
        self.work.audit().refused(&creation_by(actor), refused).await
    }

    /// Creates a superuser.
    ///
    /// # Errors
    /// [`Error::NotSuperuser`] when the actor is not one; [`Error::ReauthenticationRequired`] when the actor's sign-in
    /// is not fresh; [`Error::SessionInvalid`] when the actor's session ended meanwhile; [`Error::PhoneNumberTaken`];
    /// [`Error::InvalidInput`] when the password policy rejects the password; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub async fn create_superuser(
        &self,
        maker: SuperuserMaker,
        phone_number: PhoneNumber,
        password: Password,
    ) -> Result<User, Error> {
        let (flow, claim) = match maker.actor() {
            Some(actor) => {
                if !self.reauthentication.is_fresh(&actor.session) {
                    let refused = Err(Error::ReauthenticationRequired);
                    return self.work.audit().refused(&maker.draft(), refused).await;
                }
                let subjects = [Subject::PhoneClaim(&phone_number), Subject::Person(actor.user.id)];
                let attempt = PasswordAttempt::of_actor(actor, &subjects);
                (attempt.flow, self.passwords.claim(attempt).await?)
            }
            None => (Flow::operator(), Claim::unlimited(self.work.throttle())),
        };
        let new = NewHash {
            flow,
            field: "password",
            password,
            phones: &[&phone_number],
        };
        let (hash, reservation) = self.passwords.hash(claim, new).await?;
        let new = NewSuperuser {
            maker,
            phone_number,
            hash,
            reservation,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_superuser(new).await })
            .await
    }

    async fn commit_superuser(&self, new: NewSuperuser) -> Result<User, Error> {
        let now = self.work.now();
        let user = User {
            is_staff: true,
            is_superuser: true,
            ..User::new(new.phone_number.clone(), now)
        };
        let draft = new.maker.draft();
        let event = AuditDraft {
            subject: Some(user.id),
            ..draft.clone()
        }
        .done(now);
        let mut outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_superuser(tx, &new, &user, &event)))
            .await;
        if let Some(actor) = new.maker.actor() {
            outcome = self.reauthentication.bound_hold(actor.user.id, outcome).await;
        }
        self.work.audit().refused(&draft, outcome).await?;
        Ok(user)
    }

    async fn write_superuser(
        &self,
        tx: &Transaction,
        new: &NewSuperuser,
        user: &User,
        event: &Event,
    ) -> Result<TransactionEnd<()>, Error> {
        if let Some(actor) = new.maker.actor() {
            self.lock_superuser(tx, actor, user.created_at).await?;
        }
        users::insert(tx, user, Some(&new.hash)).await?;
        audit::insert(tx, event).await?;
        let throttle = self.work.throttle();
        throttle.give_back_in(tx, &new.reservation).await?;
        Ok(TransactionEnd::commit(()))
    }

    /// Locks the actor's row, and checks again that the actor may create superusers.
    async fn lock_superuser(&self, tx: &Transaction, actor: &Actor, now: Timestamp) -> Result<(), Error> {
        let reauthentication = &self.reauthentication;
        let account = reauthentication.lock_actor(tx, actor).await?;
        if !account.user.is_superuser {
            return Err(Error::NotSuperuser);
        }
        if !reauthentication.is_fresh_for_lasting_power(&account, &actor.session, now) {
            return Err(Error::ReauthenticationRequired);
        }
        Ok(())
    }
}

/// The event of a creation by an actor. Its subject does not exist yet.
fn creation_by(actor: &Actor) -> AuditDraft {
    AuditDraft {
        subject: None,
        ..actor.draft(Action::CreateSuperuser)
    }
}

/// Fails if a user that is about to leave, or to lose the role, is the last active superuser. Call it under the lock of
/// the user's row. All transactions take the superusers' lock after that lock, and only for superusers.
///
/// # Errors
/// [`Error::LastSuperuser`].
pub(in crate::service) async fn keep_a_superuser(tx: &Transaction, leaving: &User) -> Result<(), Error> {
    if !leaving.is_superuser || !leaving.is_active() {
        return Ok(());
    }
    locks::lock_superusers(tx).await?;
    if users::other_superuser_exists(tx, leaving.id).await? {
        Ok(())
    } else {
        Err(Error::LastSuperuser)
    }
}
