//! Changes of one person by administration.

use super::{Admin, Administrator, Etag, ManagedUser, UserSelector};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::rights::AdminAction;
use crate::domain::user::{User, UserId, UserStatus};
use crate::i18n::Language;
use crate::service::accounts::{Claim, NewHash, keep_a_superuser, new_user};
use crate::service::audit::{erase, fields_of};
use crate::service::error::Error;
use crate::service::outbox::phone_changed;
use crate::service::retry::retry;
use crate::service::throttle::SuccessPermit;
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{Transaction, audit, challenges, changes, outbox, sessions, users};

/// A person to be.
#[derive(Debug)]
pub struct NewUser {
    /// The phone number, fit to be taken.
    pub phone_number: PhoneNumber,
    /// The password, if the account gets one. The password policy was not applied to it yet.
    pub password: Option<Password>,
    /// Whether they are staff.
    pub is_staff: bool,
    /// Whether they are a superuser.
    pub is_superuser: bool,
}

/// What to change about a person; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UserUpdate {
    /// The new phone number, valid and of an allowed line type. It is not verified.
    pub phone_number: Option<PhoneNumber>,
    /// The language in which the old number is notified of a new one, if the user has not chosen one.
    pub language: Language,
    /// The new status.
    pub status: Option<UserStatus>,
    /// Whether they are staff.
    pub is_staff: Option<bool>,
    /// Whether they are a superuser.
    pub is_superuser: Option<bool>,
}

impl UserUpdate {
    /// What of it is not so already.
    fn of(&self, account: &Account, action: AdminAction) -> UserChange {
        let Account {
            user,
            deactivated_by_admin,
            ..
        } = account;
        // Who has deactivated themselves is deactivated once more by administration only if that is what was asked for,
        // and not by a form that says of everything how it is.
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

impl Admin {
    /// Creates a person.
    ///
    /// # Errors
    /// [`Error::PhoneNumberTaken`]; [`Error::InvalidInput`] when the password policy rejects the password;
    /// [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::ReauthenticationRequired`] when the user is to be staff
    /// or a superuser and the administrator's sign-in is not fresh; [`Error::SessionInvalid`] when the administrator's
    /// session ended meanwhile; [`Error::TooManyAttempts`] from the administrator's address; [`Error::Overloaded`].
    pub async fn create(&self, by: Administrator, new: NewUser) -> Result<ManagedUser, Error> {
        by.may(AdminAction::Create)?;
        let NewUser {
            phone_number,
            password,
            is_staff,
            is_superuser,
        } = new;
        let user = User {
            is_staff,
            is_superuser,
            ..new_user(phone_number, self.accounts.clock.now())
        };
        let checked = self.authority(&by).check(AdminAction::Create, &user);
        self.noted(&by, AdminAction::Create, None, checked).await?;
        let hash = match password {
            Some(password) => Some(self.hash(&by, "password", password, &user.phone_number).await?),
            None => None,
        };
        self.finish(|this| async move {
            let now = this.accounts.clock.now();
            let user = User {
                has_password: hash.is_some(),
                created_at: now,
                updated_at: now,
                ..user
            };
            let outcome = retry(|| async {
                let tx = this.accounts.store.begin().await?;
                let (authority, _) = this.lock(&tx, &by, AdminAction::Create, []).await?;
                authority.check(AdminAction::Create, &user)?;
                users::insert(&tx, &user, hash.as_deref()).await?;
                if let Some(attempt) = by.attempt(AdminAction::Create, Some(user.id)) {
                    audit::insert(&tx, &attempt.done(now)).await?;
                }
                let created = found(&tx, user.id).await?;
                tx.commit().await?;
                Ok(created)
            });
            this.noted(&by, AdminAction::Create, None, outcome.await).await
        })
        .await
    }

    /// Changes the number, the status or the flags of a user, if the user is still as the etag says. A new number ends
    /// all sessions, and a verified old one is notified by SMS.
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
        self.change(by, AdminAction::Update, id, Some(etag), update).await
    }

    /// Deactivates a person, who cannot bring the account back by themselves, and ends all their sessions.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::LastSuperuser`], [`Error::ReauthenticationRequired`]; [`Error::NotStaff`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn deactivate(&self, by: &Administrator, id: UserId) -> Result<ManagedUser, Error> {
        let update = UserUpdate {
            status: Some(UserStatus::Deactivated),
            ..UserUpdate::default()
        };
        self.change(by, AdminAction::Deactivate, id, None, update).await
    }

    /// Brings a person back.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::ReauthenticationRequired`]; [`Error::NotStaff`], [`Error::NotSuperuser`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn reactivate(&self, by: &Administrator, id: UserId) -> Result<ManagedUser, Error> {
        let update = UserUpdate {
            status: Some(UserStatus::Active),
            ..UserUpdate::default()
        };
        self.change(by, AdminAction::Reactivate, id, None, update).await
    }

    async fn change(
        &self,
        by: &Administrator,
        action: AdminAction,
        id: UserId,
        etag: Option<&Etag>,
        update: UserUpdate,
    ) -> Result<ManagedUser, Error> {
        by.may(action)?;
        let now = self.accounts.clock.now();
        let outcome = retry(|| async {
            let tx = self.accounts.store.begin().await?;
            let (authority, account) = self.lock_one(&tx, by, action, id).await?;
            if etag.is_some_and(|etag| *etag != Etag::of(&account)) {
                return Err(Error::EtagMismatch);
            }
            let change = update.of(&account, action);
            if change.is_empty() {
                return Ok(account.into());
            }
            let has_flags = change.is_staff.is_some() || change.is_superuser.is_some();
            if has_flags || change.phone_number.is_some() {
                authority.check_fresh()?;
            }
            let stays = change.status != Some(UserStatus::Deactivated) && change.is_superuser != Some(false);
            if !stays {
                keep_a_superuser(&tx, &account.user).await?;
            }
            if change.phone_number.is_some() && self.accounts.is_told(&account.user) {
                let service = by.actor().and_then(|actor| actor.caller.service.as_deref());
                let notice = phone_changed(&account.user, update.language, service, now);
                outbox::insert_with_commit(&tx, &notice).await?;
            }
            users::update(&tx, id, &change, now).await?;
            if change.phone_number.is_some() {
                challenges::end_unowned(&tx, &account.user.phone_number).await?;
            }
            let mut ended_sessions = None;
            // The holder of the old number may have signed in by a code to it.
            if change.status == Some(UserStatus::Deactivated) || change.phone_number.is_some() {
                ended_sessions = Some(sessions::delete(&tx, id, &Selection::All).await?);
            }
            if let Some(mut attempt) = by.attempt(action, Some(id)) {
                attempt.fields = fields_of(&change);
                attempt.ended_sessions = ended_sessions;
                audit::insert(&tx, &attempt.done(now)).await?;
            }
            let changed = found(&tx, id).await?;
            self.accounts.commit_change_of(tx, id).await?;
            Ok(changed)
        });
        self.noted(by, action, Some(id), outcome.await).await
    }

    /// Gives a person a password, and ends all their sessions.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::ReauthenticationRequired`], [`Error::Overloaded`]; [`Error::InvalidInput`]
    /// when the password policy rejects the password; [`Error::NotStaff`], [`Error::NotSuperuser`];
    /// [`Error::TooManyAttempts`] from the administrator's address; [`Error::SessionInvalid`] when the administrator's
    /// session ended meanwhile.
    pub async fn set_password(
        &self,
        by: Administrator,
        id: UserId,
        password: Password,
    ) -> Result<ManagedUser, Error> {
        // The policy depends on the number.
        let managed = self
            .get(&by, AdminAction::SetPassword, &UserSelector::Id(id))
            .await?;
        let number = &managed.user.phone_number;
        let hash = self.hash(&by, "new_password", password, number).await?;
        self.finish(move |this| async move {
            let now = this.accounts.clock.now();
            let change = UserChange {
                password_hash: Some(hash),
                ..UserChange::default()
            };
            let outcome = retry(|| async {
                let tx = this.accounts.store.begin().await?;
                this.lock_one(&tx, &by, AdminAction::SetPassword, id).await?;
                users::update(&tx, id, &change, now).await?;
                let ended = sessions::delete(&tx, id, &Selection::All).await?;
                if let Some(mut attempt) = by.attempt(AdminAction::SetPassword, Some(id)) {
                    attempt.fields = fields_of(&change);
                    attempt.ended_sessions = Some(ended);
                    audit::insert(&tx, &attempt.done(now)).await?;
                }
                let changed = found(&tx, id).await?;
                this.accounts.commit_change_of(tx, id).await?;
                Ok(changed)
            });
            this.noted(&by, AdminAction::SetPassword, Some(id), outcome.await)
                .await
        })
        .await
    }

    /// Applies the password policy and hashes, if the administrator's address may try now. An administrator guesses
    /// nothing, so the attempt never counts afterwards.
    async fn hash(
        &self,
        by: &Administrator,
        field: &'static str,
        password: Password,
        number: &PhoneNumber,
    ) -> Result<String, Error> {
        let accounts = &self.accounts;
        let flow = by.flow();
        let claim = match by.actor() {
            Some(actor) => {
                accounts.hasher.check_room(flow)?;
                let address = actor.session.client.ip_address;
                let reservation = accounts.throttle.reserve(&[], address, &actor.caller).await?;
                Claim::new(accounts.throttle.guard(reservation), SuccessPermit::default())
            }
            None => Claim::unlimited(&accounts.throttle),
        };
        let new = NewHash {
            flow,
            field,
            password,
            phones: &[number],
        };
        let (hash, reservation) = accounts.hash_password(claim, new).await?;
        accounts.throttle.give_back(&reservation).await;
        Ok(hash)
    }

    /// Revokes all sessions of a user, and returns their number. Device tokens and one-time codes that were issued
    /// before end, too.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::ReauthenticationRequired`]; [`Error::NotStaff`];
    /// [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn revoke_sessions(&self, by: &Administrator, id: UserId) -> Result<u64, Error> {
        by.may(AdminAction::RevokeSessions)?;
        let now = self.accounts.clock.now();
        let outcome = retry(|| async {
            let tx = self.accounts.store.begin().await?;
            self.lock_one(&tx, by, AdminAction::RevokeSessions, id).await?;
            users::end_credentials(&tx, id).await?;
            let revoked = sessions::delete(&tx, id, &Selection::All).await?;
            // Also without sessions: codes and device tokens ended.
            if let Some(mut attempt) = by.attempt(AdminAction::RevokeSessions, Some(id)) {
                attempt.ended_sessions = Some(revoked);
                audit::insert(&tx, &attempt.done(now)).await?;
            }
            // Also when there were none: they may have been revoked elsewhere, and this process not know of it yet.
            let change = changes::RevocationChange::SessionsRevoked { user: id };
            self.accounts.changes.commit(tx, &[change]).await?;
            Ok(revoked)
        });
        self.noted(by, AdminAction::RevokeSessions, Some(id), outcome.await)
            .await
    }

    /// Deletes a user and all that is stored about the user. In the audit log a substitute id stands in the user's
    /// place, unless the user is staff or a superuser.
    ///
    /// # Errors
    /// [`Error::UserNotFound`], [`Error::LastSuperuser`], [`Error::ReauthenticationRequired`]; [`Error::NotStaff`],
    /// [`Error::NotSuperuser`]; [`Error::SessionInvalid`] when the administrator's session ended meanwhile.
    pub async fn delete(&self, by: &Administrator, id: UserId) -> Result<(), Error> {
        by.may(AdminAction::Delete)?;
        let now = self.accounts.clock.now();
        let substitute = UserId::generate(now);
        let outcome = retry(|| async {
            let tx = self.accounts.store.begin().await?;
            let (_, account) = self.lock_one(&tx, by, AdminAction::Delete, id).await?;
            keep_a_superuser(&tx, &account.user).await?;
            users::delete(&tx, &account.user).await?;
            erase(&tx, &account.user, substitute, now).await?;
            if let Some(attempt) = by.deletion(&account.user, substitute) {
                audit::insert(&tx, &attempt.done(now)).await?;
            }
            let change = changes::RevocationChange::UserDeleted { user: id };
            Ok(self.accounts.changes.commit(tx, &[change]).await?)
        });
        self.noted(by, AdminAction::Delete, Some(id), outcome.await).await
    }
}

/// A person as the transaction has left them.
async fn found(tx: &Transaction, id: UserId) -> Result<ManagedUser, Error> {
    let account = users::find(tx, id).await?.ok_or(Error::UserNotFound)?;
    Ok(account.into())
}
