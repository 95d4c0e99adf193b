//! Reauthentication: the proof that a call comes from the account holder, and not from the thief of a session.
//!
//! A user proves it by the current password, or by a sign-in within the reauthentication window. The proof is checked
//! before the transaction. The transaction checks a password again under the lock of the user's row, and for a fresh
//! sign-in that its session still exists.

mod hold;

use std::sync::Arc;

use super::error::Error;
use super::passwords::{Check, PasswordAttempt, Passwords};
use super::policy::Policy;
use super::sessions::Actor;
use super::unit_of_work::UnitOfWork;
use crate::domain::audit::AuditDraft;
use crate::domain::password::Password;
use crate::domain::session::Session;
use crate::domain::throttle::Subject;
use crate::store::users::Account;
use crate::store::{Transaction, sessions, users};

/// Checks proofs of identity. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reauthentication {
    work: UnitOfWork,
    passwords: Passwords,
    policy: Arc<Policy>,
}

/// The proof that a call comes from the account holder.
pub(super) enum Proof {
    /// A sign-in within the reauthentication window.
    FreshSignIn,
    /// The password of this version of the credentials.
    Password { credential_version: i64 },
}

impl Reauthentication {
    pub(super) fn new(work: UnitOfWork, passwords: Passwords, policy: Arc<Policy>) -> Self {
        Self {
            work,
            passwords,
            policy,
        }
    }

    /// Whether the sign-in of a session is within the reauthentication window.
    pub(super) fn is_fresh(&self, session: &Session) -> bool {
        session.is_fresh(self.policy.reauthentication_window, self.work.now())
    }

    /// Proves that the call comes from the account holder: by the password, or without one by a fresh sign-in.
    ///
    /// # Errors
    /// [`Error::ReauthenticationRequired`] and [`Error::CurrentPasswordWrong`], after they were audited;
    /// [`Error::SessionInvalid`] when the user was deleted meanwhile; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub(super) async fn prove(
        &self,
        actor: &Actor,
        current_password: Option<Password>,
        draft: &AuditDraft,
    ) -> Result<Proof, Error> {
        let Some(password) = current_password else {
            let proof = if self.is_fresh(&actor.session) {
                Ok(Proof::FreshSignIn)
            } else {
                Err(Error::ReauthenticationRequired)
            };
            return self.work.audit().refused(draft, proof).await;
        };
        let account = users::find(self.work.store().reader(), actor.user.id)
            .await?
            .ok_or(Error::SessionInvalid)?;
        let credential_version = account.credential_version;
        let subjects = [Subject::Person(actor.user.id)];
        let attempt = PasswordAttempt::of_actor(actor, &subjects);
        let flow = attempt.flow;
        let claim = self.passwords.claim(attempt).await?;
        let check = Check {
            flow,
            password,
            stored: account.password_hash,
            upgrade: false,
            draft,
            wrong: || Error::CurrentPasswordWrong,
        };
        let (_, reservation) = self.passwords.check(claim, check).await?;
        self.work.throttle().guard(reservation).give_back().await;
        Ok(Proof::Password { credential_version })
    }

    /// Locks the actor's row, and checks again that the user is active and that the session exists.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`].
    pub(super) async fn lock_actor(&self, tx: &Transaction, actor: &Actor) -> Result<Account, Error> {
        let account = users::lock(tx, actor.user.id)
            .await?
            .filter(|account| account.user.is_active());
        let account = account.ok_or(Error::SessionInvalid)?;
        if !sessions::exists(tx, actor.session.id).await? {
            return Err(Error::SessionInvalid);
        }
        Ok(account)
    }

    /// Locks the actor's row as [`Self::lock_actor`] does, and checks that the proven password is still the current
    /// one.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`]; [`Error::CurrentPasswordWrong`].
    pub(super) async fn lock_proven_actor(
        &self,
        tx: &Transaction,
        actor: &Actor,
        proof: &Proof,
    ) -> Result<Account, Error> {
        let account = self.lock_actor(tx, actor).await?;
        match proof {
            Proof::Password { credential_version } if *credential_version != account.credential_version => {
                Err(Error::CurrentPasswordWrong)
            }
            Proof::Password { .. } | Proof::FreshSignIn => Ok(account),
        }
    }
}
