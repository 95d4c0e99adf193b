//! Changes of a user by an administrator: number, status and flags.

use super::{Admin, Administrator, Etag, ManagedUser, found};
use crate::clock::Timestamp;
use crate::domain::phone::PhoneNumber;
use crate::domain::rights::AdminAction;
use crate::domain::user::{UserId, UserStatus};
use crate::i18n::Language;
use crate::service::accounts::keep_a_superuser;
use crate::service::audit::fields_of;
use crate::service::error::Error;
use crate::service::outbox::phone_changed;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{Transaction, audit, challenges, outbox, sessions, users};

/// A change of a user. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UserUpdate {
    /// The new phone number, valid and of an allowed line type. It is not verified.
    pub phone_number: Option<PhoneNumber>,
    /// The language in which the old number is notified of a new one, if the user has not chosen one.
    pub language: Language,
    /// The new status.
    pub status: Option<UserStatus>,
    /// Whether the user is staff.
    pub is_staff: Option<bool>,
    /// Whether the user is a superuser.
    pub is_superuser: Option<bool>,
}

impl UserUpdate {
    /// The fields that differ from the account.
    fn of(&self, account: &Account, action: AdminAction) -> UserChange {
        let Account {
            user,
            deactivated_by_admin,
            ..
        } = account;
        // An account that its user has deactivated is deactivated by administration only through the action of that
        // name. An update that repeats the status does not count.
        let is_taken_over = action == AdminAction::Deactivate && !user.is_active() && !deactivated_by_admin;
        let phone_number = self.phone_number.as_ref();
        UserChange {
            phone_number: phone_number
                .filter(|number| **number != user.phone_number)
                .cloned(),
            status: self
                .status
                .filter(|status| *status != user.status || is_taken_over),
            by_admin: true,
            is_staff: self.is_staff.filter(|is_staff| *is_staff != user.is_staff),
            is_superuser: self
                .is_superuser
                .filter(|is_superuser| *is_superuser != user.is_superuser),
            ..UserChange::default()
        }
    }
}

/// A change that an administrator requests.
struct RequestedChange<'a> {
    by: &'a Administrator,
    action: AdminAction,
    id: UserId,
    /// The expected state of the user. `None`: any state.
    etag: Option<&'a Etag>,
    update: UserUpdate,
}

impl Admin {
    /// Changes the number, the status or the flags of a user, if the etag is current. A new number ends all sessions,
    /// and a verified old one gets a notice by SMS.
    ///
    /// # Errors
    /// [`Error::EtagMismatch`], [`Error::UserNotFound`], [`Error::LastSuperuser`], [`Error::PhoneNumberTaken`],
    /// [`Error::ReauthenticationRequired`]; [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::SessionInvalid`]
    /// when the administrator's session ended meanwhile.
    pub async fn update(
        &self,
        by: &Administrator,
        id: UserId,
        etag: &Etag,
        update: UserUpdate,
    ) -> Result<ManagedUser, Error> {
        let (action, etag) = (AdminAction::Update, Some(etag));
        self.change(RequestedChange {
            by,
            action,
            id,
            etag,
            update,
        })
        .await
    }

    /// Deactivates a user, who cannot reactivate the account, and ends all sessions of the user.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::LastSuperuser`], [`Error::ReauthenticationRequired`]; [`Error::NotStaff`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn deactivate(&self, by: &Administrator, id: UserId) -> Result<ManagedUser, Error> {
        self.set_status(by, AdminAction::Deactivate, id, UserStatus::Deactivated)
            .await
    }

    /// Reactivates a user.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::ReauthenticationRequired`]; [`Error::NotStaff`], [`Error::NotSuperuser`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn reactivate(&self, by: &Administrator, id: UserId) -> Result<ManagedUser, Error> {
        self.set_status(by, AdminAction::Reactivate, id, UserStatus::Active)
            .await
    }

    async fn set_status(
        &self,
        by: &Administrator,
        action: AdminAction,
        id: UserId,
        status: UserStatus,
    ) -> Result<ManagedUser, Error> {
        let update = UserUpdate {
            status: Some(status),
            ..UserUpdate::default()
        };
        self.change(RequestedChange {
            by,
            action,
            id,
            etag: None,
            update,
        })
        .await
    }

    async fn change(&self, requested: RequestedChange<'_>) -> Result<ManagedUser, Error> {
        let RequestedChange { by, action, id, .. } = requested;
        by.may(action)?;
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_change(tx, &requested, now)))
            .await;
        self.audited(by, action, Some(id), outcome).await
    }

    async fn write_change(
        &self,
        tx: &Transaction,
        requested: &RequestedChange<'_>,
        now: Timestamp,
    ) -> Result<TransactionEnd<ManagedUser>, Error> {
        let RequestedChange {
            by,
            action,
            id,
            etag,
            update,
        } = requested;
        let (action, id) = (*action, *id);
        let (authority, account) = self.lock_one(tx, by, action, id).await?;
        if etag.is_some_and(|etag| *etag != Etag::of(&account)) {
            return Err(Error::EtagMismatch);
        }
        let change = update.of(&account, action);
        if change.is_empty() {
            return Ok(TransactionEnd::Rollback(account.into()));
        }
        let has_flags = change.is_staff.is_some() || change.is_superuser.is_some();
        if has_flags || change.phone_number.is_some() {
            authority.check_fresh()?;
        }
        let stays = change.status != Some(UserStatus::Deactivated) && change.is_superuser != Some(false);
        if !stays {
            keep_a_superuser(tx, &account.user).await?;
        }
        users::update(tx, id, &change, now).await?;
        if change.phone_number.is_some() && self.policy.notifies_of_phone_change(&account.user) {
            let service = by.actor().and_then(|actor| actor.caller.service.as_deref());
            let notice = phone_changed(&account.user, update.language, service, now);
            outbox::insert(tx, &notice).await?;
        }
        if change.phone_number.is_some() {
            challenges::end_unowned(tx, &account.user.phone_number).await?;
        }
        let mut ended_sessions = None;
        // The holder of the old number may have signed in by a code to it.
        if change.status == Some(UserStatus::Deactivated) || change.phone_number.is_some() {
            ended_sessions = Some(sessions::delete(tx, id, &Selection::All).await?);
        }
        if let Some(mut draft) = by.draft(action, Some(id)) {
            draft.fields = fields_of(&change);
            draft.ended_sessions = ended_sessions;
            audit::insert(tx, &draft.done(now)).await?;
        }
        Ok(TransactionEnd::commit_change_of(id, found(tx, id).await?))
    }
}
