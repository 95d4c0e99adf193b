//! Superusers: who makes them, and that the last one stays.

use super::{Accounts, Claim, NewHash, new_user};
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::store::{Transaction, audit, locks, users};

/// Who makes a superuser.
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

    /// That somebody is made a superuser who is not there yet.
    fn attempt(&self) -> AuditDraft {
        match self {
            Self::Person(actor) => superuser_attempt(actor),
            Self::Operator(caller) => AuditDraft {
                caller: caller.clone(),
                ..AuditDraft::by_operator(Action::CreateSuperuser)
            },
        }
    }
}

impl Accounts {
    /// Whether the actor may create superusers: before anything else that they say is looked at.
    ///
    /// # Errors
    /// [`Error::NotSuperuser`].
    pub async fn may_create_superuser(&self, actor: &Actor) -> Result<(), Error> {
        if actor.user.is_superuser {
            return Ok(());
        }
        let attempt = superuser_attempt(actor);
        self.audit.refused(&attempt, Err(Error::NotSuperuser)).await
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
                if !self.is_fresh(&actor.session) {
                    let stale = Err(Error::ReauthenticationRequired);
                    return self.audit.refused(&maker.attempt(), stale).await;
                }
                let flow = Flow::of_actor(actor);
                self.hasher.check_room(flow)?;
                let success = self.admit_success_of(actor)?;
                let reservation = self.reserve_taking(actor, &phone_number).await?;
                (flow, Claim::new(self.throttle.guard(reservation), success))
            }
            None => (Flow::operator(), Claim::unlimited(&self.throttle)),
        };
        let new = NewHash {
            flow,
            field: "password",
            password,
            phones: &[&phone_number],
        };
        let (hash, reservation) = self.hash_password(claim, new).await?;
        self.finish(move |this| async move {
            let now = this.clock.now();
            let user = User {
                is_staff: true,
                is_superuser: true,
                ..new_user(phone_number, now)
            };
            let attempt = maker.attempt();
            let mut done = attempt.clone();
            done.subject = Some(user.id);
            let event = done.done(now);
            let outcome = retry(|| async {
                let tx = this.store.begin().await?;
                if let Some(actor) = maker.actor() {
                    let account = this.lock_actor(&tx, actor).await?;
                    if !account.user.is_superuser {
                        return Err(Error::NotSuperuser);
                    }
                    if !this.is_fresh_for_lasting_power(&account, &actor.session, now) {
                        return Err(Error::ReauthenticationRequired);
                    }
                }
                users::insert(&tx, &user, Some(&hash)).await?;
                audit::insert(&tx, &event).await?;
                this.throttle.give_back_in(&tx, &reservation).await?;
                Ok(tx.commit().await?)
            });
            let mut outcome = outcome.await;
            if let Some(actor) = maker.actor() {
                outcome = this.bound_hold(actor.user.id, outcome).await;
            }
            this.audit.refused(&attempt, outcome).await?;
            Ok(user)
        })
        .await
    }
}

/// That an actor makes somebody a superuser who is not there yet.
fn superuser_attempt(actor: &Actor) -> AuditDraft {
    AuditDraft {
        subject: None,
        ..actor.attempt(Action::CreateSuperuser)
    }
}

/// Somebody who is about to be a superuser no more, or not active, must not be the last one. To be called under the
/// lock of their row; the superusers' lock is taken after it by everybody, and only for superusers.
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
