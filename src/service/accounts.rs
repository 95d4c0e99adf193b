//! Accounts: registration, sign-in by password, changes by the user, and superusers.
//!
//! A password is hashed before a transaction begins, since a hash takes long. The transaction reads again, under a lock
//! of the user's row, what was read before the hash, so that a sign-in with the old password does not outlive a change
//! of the password. The steps after a hash finish even if the caller disconnects.

mod change_password;
mod leave;
mod metrics;
mod register;
mod sign_in;
mod superusers;
mod update_profile;

use std::sync::Arc;

pub use super::policy::Policy;
pub use super::session_issuer::SignedIn;
pub use register::Registration;
pub use sign_in::Credentials;
pub use superusers::SuperuserMaker;
pub(super) use superusers::keep_a_superuser;
pub use update_profile::ProfileUpdate;

use super::audit::Audit;
use super::passwords::Passwords;
use super::reauthentication::Reauthentication;
use super::session_issuer::SessionIssuer;
use super::shared::Shared;
use super::unit_of_work::UnitOfWork;
use crate::domain::user::User;
use metrics::SignIns;
use sign_in::{MAX_GROUP, SignInGroups};

impl Policy {
    /// Whether the number of a user gets an SMS when the account gets another number, without a code to the new one.
    /// Only a verified number does: otherwise a user could have any number called, by registering and changing it.
    pub(super) fn notifies_of_phone_change(&self, user: &User) -> bool {
        let reach = self.notices.as_ref();
        user.phone_verified_at.is_some() && reach.is_some_and(|reach| reach.has(&user.phone_number))
    }
}

/// Accounts of users. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    work: UnitOfWork,
    passwords: Passwords,
    reauthentication: Reauthentication,
    issuer: SessionIssuer,
    policy: Arc<Policy>,
    sign_ins: Arc<SignIns>,
    groups: Arc<SignInGroups>,
}

impl Accounts {
    /// Accounts over the shared parts.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        let Shared {
            work,
            passwords,
            reauthentication,
            issuer,
            policy,
        } = shared.clone();
        let groups = work.store().group_commit(MAX_GROUP);
        Self {
            work,
            passwords,
            reauthentication,
            issuer,
            policy,
            sign_ins: Arc::default(),
            groups: Arc::new(groups),
        }
    }

    /// Number of sign-ins by password for each outcome, with the name of the outcome.
    #[must_use]
    pub fn sign_ins(&self) -> impl IntoIterator<Item = (&'static str, u64)> + use<> {
        self.sign_ins.counts()
    }

    /// The audit log of these accounts.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        self.work.audit()
    }
}
