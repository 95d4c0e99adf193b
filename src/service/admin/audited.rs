//! What the audit log has of administration. What only reads is not in it.

use super::{Admin, Administrator};
use crate::domain::audit::{self, AuditDraft};
use crate::domain::rights::{AdminAction, Role};
use crate::domain::user::{User, UserId};
use crate::service::error::Error;

impl Administrator {
    /// What they are about to do to a person, in the audit log. `None`: nothing that belongs there.
    pub(super) fn attempt(&self, action: AdminAction, subject: Option<UserId>) -> Option<AuditDraft> {
        let action = match action {
            AdminAction::Read | AdminAction::ReadAudit => return None,
            AdminAction::Create => audit::Action::CreateUser,
            AdminAction::Update => audit::Action::UpdateUser,
            AdminAction::SetPassword => audit::Action::SetPassword,
            AdminAction::VerifyPhone => audit::Action::VerifyPhone,
            AdminAction::RevokeSessions => audit::Action::RevokeUserSessions,
            AdminAction::Deactivate => audit::Action::DeactivateUser,
            AdminAction::Reactivate => audit::Action::ReactivateUser,
            AdminAction::Delete => audit::Action::DeleteUser,
        };
        let attempt = match self {
            Self::Person(actor) => actor.attempt(action),
            Self::Operator => AuditDraft::by_operator(action),
        };
        Some(AuditDraft { subject, ..attempt })
    }

    /// Whether there are users that this administrator may not see. What such an administrator tries on a user that is
    /// not found is audited, hidden or missing: the two do not differ, not even in time.
    pub(super) fn has_hidden_users(&self) -> bool {
        self.role() != Role::Superuser
    }

    /// The event of a deletion. A substitute id stands in the place of the user, and the id of the call is left out,
    /// since the log of the calling service may name the user. Staff and superusers keep their id: their events stay
    /// attributable.
    pub(super) fn deletion(&self, user: &User, substitute: UserId) -> Option<AuditDraft> {
        if user.is_privileged() {
            return self.attempt(AdminAction::Delete, Some(user.id));
        }
        let mut attempt = self.attempt(AdminAction::Delete, Some(substitute))?;
        if attempt.actor.user() == Some(user.id) {
            return Some(attempt.of_somebody(substitute));
        }
        attempt.caller.request_id = None;
        Some(attempt)
    }
}

impl Admin {
    /// Whether there are people to whom they may do this, as far as is known without asking again. If not, that is
    /// noted.
    ///
    /// # Errors
    /// [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::DatabaseUnavailable`] when it cannot be noted.
    pub async fn may(&self, by: &Administrator, action: AdminAction) -> Result<(), Error> {
        self.noted(by, action, None, by.may(action)).await
    }

    /// Notes what was refused, and returns the outcome. The hold of the administrator's own number may have refused it.
    pub(super) async fn noted<T>(
        &self,
        by: &Administrator,
        action: AdminAction,
        person: Option<UserId>,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let subject = match &outcome {
            // Before the user was looked for: the id may be of no user, or of a deleted one that no event may name any
            // more.
            Err(Error::NotStaff | Error::NotSuperuser) => None,
            // The subject would reveal whether the user exists.
            Err(Error::UserNotFound) => None,
            _ => person,
        };
        // Where no user is hidden, a missing one is a mistyped id.
        if matches!(outcome, Err(Error::UserNotFound)) && !by.has_hidden_users() {
            return outcome;
        }
        let outcome = match by.actor() {
            Some(actor) => self.accounts.bound_hold(actor.user.id, outcome).await,
            None => outcome,
        };
        match by.attempt(action, subject) {
            Some(attempt) if outcome.is_err() => self.accounts.audit.refused(&attempt, outcome).await,
            _ => outcome,
        }
    }
}
