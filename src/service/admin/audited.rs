//! Audit events of administration. Reads have no event.

use super::{Admin, Administrator};
use crate::domain::audit::{self, AuditDraft};
use crate::domain::rights::{AdminAction, Role};
use crate::domain::user::{User, UserId};
use crate::service::error::Error;

impl Administrator {
    /// The event of an action on a user. `None`: the action has no event.
    pub(super) fn draft(&self, action: AdminAction, subject: Option<UserId>) -> Option<AuditDraft> {
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
        let draft = match self {
            Self::Person(actor) => actor.draft(action),
            Self::Operator => AuditDraft::by_operator(action),
        };
        Some(AuditDraft { subject, ..draft })
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
            return self.draft(AdminAction::Delete, Some(user.id));
        }
        let mut draft = self.draft(AdminAction::Delete, Some(substitute))?;
        if draft.actor.user() == Some(user.id) {
            return Some(draft.of_somebody(substitute));
        }
        draft.caller.request_id = None;
        Some(draft)
    }
}

impl Admin {
    /// Checks that the role allows the action on some users, by the session of the call. A refusal is audited.
    ///
    /// # Errors
    /// [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::DatabaseUnavailable`] when the event cannot be written.
    pub async fn may(&self, by: &Administrator, action: AdminAction) -> Result<(), Error> {
        self.audited(by, action, None, by.may(action)).await
    }

    /// Audits a refusal, and returns the outcome. The hold of the administrator's own number may have refused the call.
    ///
    /// # Errors
    /// The error of the outcome; [`Error::DatabaseUnavailable`] when the event cannot be written.
    pub(super) async fn audited<T>(
        &self,
        by: &Administrator,
        action: AdminAction,
        user: Option<UserId>,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let subject = match &outcome {
            // Refused before the look-up: the id may be of no user, or of a deleted one, which no event may name.
            Err(Error::NotStaff | Error::NotSuperuser) => None,
            // The subject would reveal whether the user exists.
            Err(Error::UserNotFound) => None,
            _ => user,
        };
        // Where no user is hidden, a missing one is a mistyped id.
        if matches!(outcome, Err(Error::UserNotFound)) && !by.has_hidden_users() {
            return outcome;
        }
        let outcome = match by.actor() {
            Some(actor) => self.reauthentication.bound_hold(actor.user.id, outcome).await,
            None => outcome,
        };
        match by.draft(action, subject) {
            Some(draft) if outcome.is_err() => self.work.audit().refused(&draft, outcome).await,
            _ => outcome,
        }
    }
}
