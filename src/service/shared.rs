//! The parts that accounts, codes and administration share: each of the three owns a clone of the parts that it uses.

use std::sync::Arc;

use super::audit::Audit;
use super::hasher::Hasher;
use super::password_policy::PasswordPolicy;
use super::passwords::Passwords;
use super::policy::Policy;
use super::reauthentication::Reauthentication;
use super::session_issuer::SessionIssuer;
use super::unit_of_work::UnitOfWork;

/// Shared parts. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub(super) work: UnitOfWork,
    pub(super) passwords: Passwords,
    pub(super) reauthentication: Reauthentication,
    pub(super) issuer: SessionIssuer,
    pub(super) policy: Arc<Policy>,
}

impl Shared {
    /// Builds the parts over one unit of work.
    #[must_use]
    pub fn new(work: UnitOfWork, hasher: Hasher, password_policy: PasswordPolicy, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let passwords = Passwords::new(work.clone(), hasher, password_policy);
        Self {
            reauthentication: Reauthentication::new(work.clone(), passwords.clone(), policy.clone()),
            issuer: SessionIssuer::new(work.clone(), policy.clone()),
            work,
            passwords,
            policy,
        }
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        self.work.audit()
    }
}
