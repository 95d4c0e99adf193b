//! Creation of a user by an administrator.

use super::{Admin, Administrator, ManagedUser, found};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::rights::AdminAction;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, audit, users};

/// A user to create.
#[derive(Debug)]
pub struct NewUser {
    /// The phone number, valid and of an allowed line type.
    pub phone_number: PhoneNumber,
    /// The password, if the account gets one. The password policy was not applied to it yet.
    pub password: Option<Password>,
    /// Whether the user is staff.
    pub is_staff: bool,
    /// Whether the user is a superuser.
    pub is_superuser: bool,
}

impl Admin {
    /// Creates a user.
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
            ..User::new(phone_number, self.work.now())
        };
        let checked = self.authority(&by).check(AdminAction::Create, &user);
        self.audited(&by, AdminAction::Create, None, checked).await?;
        let hash = match password {
            Some(password) => Some(self.hash(&by, "password", password, &user.phone_number).await?),
            None => None,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_user(by, user, hash).await })
            .await
    }

    async fn commit_user(
        &self,
        by: Administrator,
        user: User,
        hash: Option<String>,
    ) -> Result<ManagedUser, Error> {
        let now = self.work.now();
        let user = User {
            has_password: hash.is_some(),
            created_at: now,
            updated_at: now,
            ..user
        };
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_user(tx, &by, &user, hash.as_deref())))
            .await;
        self.audited(&by, AdminAction::Create, None, outcome).await
    }

    async fn write_user(
        &self,
        tx: &Transaction,
        by: &Administrator,
        user: &User,
        hash: Option<&str>,
    ) -> Result<TransactionEnd<ManagedUser>, Error> {
        let (authority, _) = self.lock(tx, by, AdminAction::Create, []).await?;
        authority.check(AdminAction::Create, user)?;
        users::insert(tx, user, hash).await?;
        if let Some(draft) = by.draft(AdminAction::Create, Some(user.id)) {
            audit::insert(tx, &draft.done(user.created_at)).await?;
        }
        Ok(TransactionEnd::commit(found(tx, user.id).await?))
    }
}
