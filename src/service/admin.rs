//! Administration: operations of staff, superusers and the operator on other users.
//!
//! [`may`] is the only rule of the rights of a role, and [`needs_fresh_sign_in`] the only rule of what a stolen session
//! must not do. Both are checked when a call arrives, and again in the transaction, under the locks of the rows of the
//! administrator and the user: earlier states of the two do not count. Rows are locked in the order of their ids, so
//! that two users that change each other follow one another; of two superusers that remove each other, the second has
//! no rights any more.

mod audited;
mod create;
mod etag;
mod revoke;
mod set_password;
mod update;
mod verify;

pub use create::NewUser;
pub use etag::Etag;
pub use update::UserUpdate;
pub use verify::{PhoneToVerify, Unverified, Verification};

use std::sync::Arc;

use super::audit;
use super::error::Error;
use super::hasher::Flow;
use super::passwords::Passwords;
use super::policy::Policy;
use super::reauthentication::Reauthentication;
use super::sessions::Actor;
use super::shared::Shared;
use super::unit_of_work::UnitOfWork;
use crate::domain::audit::{EventFilter, EventId};
use crate::domain::phone::NumberQuery;
use crate::domain::rights::{AdminAction, Denied, Role, may, needs_fresh_sign_in};
use crate::domain::user::{User, UserId};
use crate::store::users::{Account, List, UserListPosition};
use crate::store::{Transaction, sessions, users};

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotStaff => Self::NotStaff,
            Denied::NotSuperuser => Self::NotSuperuser,
            Denied::Hidden => Self::UserNotFound,
        }
    }
}

/// An administrator.
#[derive(Clone, Debug)]
pub enum Administrator {
    /// A user with a valid session. The rights of the user are checked for each operation.
    Person(Box<Actor>),
    /// The operator at the command line, with the rights of a superuser.
    Operator,
}

impl Administrator {
    /// Checks that the role allows the action on some users, by the session of the call.
    ///
    /// # Errors
    /// [`Error::NotStaff`], [`Error::NotSuperuser`].
    pub fn may(&self, action: AdminAction) -> Result<(), Error> {
        Ok(may(self.role(), action, None)?)
    }

    fn role(&self) -> Role {
        match self {
            Self::Person(actor) => Role::of(&actor.user),
            Self::Operator => Role::Superuser,
        }
    }

    /// The flow of the passwords that the administrator sets.
    fn flow(&self) -> Flow {
        self.actor().map_or_else(Flow::operator, Flow::of_actor)
    }

    fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Person(actor) => Some(actor),
            Self::Operator => None,
        }
    }
}

/// The authority of an administrator: the role, and whether the sign-in is fresh enough for what outlasts the session.
#[derive(Clone, Copy, Debug)]
struct Authority {
    role: Role,
    is_fresh: bool,
}

impl Authority {
    /// Checks that the role allows the action on this user, and that the sign-in is fresh enough for it.
    fn check(self, action: AdminAction, user: &User) -> Result<(), Error> {
        may(self.role, action, Some(user))?;
        if needs_fresh_sign_in(action, user) {
            self.check_fresh()?;
        }
        Ok(())
    }

    fn check_fresh(self) -> Result<(), Error> {
        if self.is_fresh {
            Ok(())
        } else {
            Err(Error::ReauthenticationRequired)
        }
    }
}

/// A user, as administration sees the user.
#[derive(Clone, Debug)]
pub struct ManagedUser {
    /// The user.
    pub user: User,
    /// The etag of all fields that administration changes.
    pub etag: Etag,
    /// Whether administration deactivated the account.
    pub deactivated_by_admin: bool,
}

impl From<Account> for ManagedUser {
    fn from(account: Account) -> Self {
        Self {
            etag: Etag::of(&account),
            // An older version without this flag may have reactivated the user.
            deactivated_by_admin: account.deactivated_by_admin && !account.user.is_active(),
            user: account.user,
        }
    }
}

/// The key by which a user is found.
#[derive(Clone, Debug)]
pub enum UserSelector {
    /// The id.
    Id(UserId),
    /// The phone number.
    PhoneNumber(NumberQuery),
}

/// A page of users.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The users, in order.
    pub users: Vec<ManagedUser>,
    /// The end of the page. `None`: the list has no further page.
    pub end: Option<UserListPosition>,
}

/// Administration. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    work: UnitOfWork,
    passwords: Passwords,
    reauthentication: Reauthentication,
    policy: Arc<Policy>,
}

impl Admin {
    /// Administration over the shared parts.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        let Shared {
            work,
            passwords,
            reauthentication,
            issuer: _,
            policy,
        } = shared.clone();
        Self {
            work,
            passwords,
            reauthentication,
            policy,
        }
    }

    /// Lists users. Staff see only the users that their role may read.
    ///
    /// # Errors
    /// [`Error::NotStaff`], or when the database fails.
    pub async fn list(&self, by: &Administrator, mut list: List) -> Result<UserPage, Error> {
        by.may(AdminAction::Read)?;
        if by.role() != Role::Superuser {
            // The rule of `may`, as a filter.
            let hidden = [&mut list.filter.is_staff, &mut list.filter.is_superuser];
            for is_so in hidden {
                if is_so.replace(false) == Some(true) {
                    return Ok(UserPage {
                        users: Vec::new(),
                        end: None,
                    });
                }
            }
        }
        let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
        // One more than the limit shows whether there is another page.
        list.limit = list.limit.saturating_add(1);
        let mut accounts = users::list(self.work.store().lists(), &list).await?;
        let has_more = accounts.len() > limit;
        accounts.truncate(limit);
        let end = accounts.last().filter(|_| has_more);
        Ok(UserPage {
            end: end.map(|account| list.position_of(account)),
            users: accounts.into_iter().map(ManagedUser::from).collect(),
        })
    }

    /// Lists events of the audit log, as [`audit::Audit::list`] does.
    ///
    /// # Errors
    /// [`Error::NotStaff`], [`Error::NotSuperuser`], or when the database fails.
    pub async fn list_events(
        &self,
        by: &Administrator,
        filter: &EventFilter,
        before: Option<EventId>,
        size: u32,
    ) -> Result<audit::EventPage, Error> {
        by.may(AdminAction::ReadAudit)?;
        self.work.audit().list(filter, before, size).await
    }

    /// Finds a user for an action.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::ReauthenticationRequired`] when
    /// the action needs a fresh sign-in.
    pub async fn get(
        &self,
        by: &Administrator,
        action: AdminAction,
        selector: &UserSelector,
    ) -> Result<ManagedUser, Error> {
        by.may(action)?;
        let reader = self.work.store().reader();
        let account = match selector {
            UserSelector::Id(id) => users::find(reader, *id).await?,
            UserSelector::PhoneNumber(number) => users::find_by_phone(reader, number.key()).await?,
        };
        let found = account.as_ref().map(|account| account.user.id);
        let checked = match account {
            Some(account) => {
                let checked = self.authority(by).check(action, &account.user);
                checked.map(|()| account.into())
            }
            None => Err(Error::UserNotFound),
        };
        self.audited(by, action, found, checked).await
    }

    /// The authority of an administrator by the session of the call, before a transaction checks it again.
    fn authority(&self, by: &Administrator) -> Authority {
        Authority {
            role: by.role(),
            is_fresh: by
                .actor()
                .is_none_or(|actor| self.reauthentication.is_fresh(&actor.session)),
        }
    }

    /// Locks the rows of the administrator and of users, in the order of their ids, and reads the authority of the
    /// administrator again.
    async fn lock(
        &self,
        tx: &Transaction,
        by: &Administrator,
        action: AdminAction,
        users: impl IntoIterator<Item = UserId>,
    ) -> Result<(Authority, Vec<Account>), Error> {
        let own = by.actor().map(|actor| actor.user.id);
        let ids: Vec<UserId> = users.into_iter().chain(own).collect();
        let accounts = users::lock_many(tx, &ids).await?;
        let authority = match by {
            Administrator::Operator => self.authority(by),
            Administrator::Person(actor) => {
                let account = accounts.iter().find(|account| account.user.id == actor.user.id);
                let account = account.filter(|account| account.user.is_active());
                let account = account.ok_or(Error::SessionInvalid)?;
                if !sessions::exists(tx, actor.session.id).await? {
                    return Err(Error::SessionInvalid);
                }
                let now = self.work.now();
                Authority {
                    role: Role::of(&account.user),
                    is_fresh: self
                        .reauthentication
                        .is_fresh_for_lasting_power(account, &actor.session, now),
                }
            }
        };
        may(authority.role, action, None)?;
        Ok((authority, accounts))
    }

    /// Locks the rows of the administrator and of a user, and checks again that the action on the user is allowed.
    async fn lock_one(
        &self,
        tx: &Transaction,
        by: &Administrator,
        action: AdminAction,
        id: UserId,
    ) -> Result<(Authority, Account), Error> {
        let (authority, accounts) = self.lock(tx, by, action, [id]).await?;
        let account = accounts.into_iter().find(|account| account.user.id == id);
        let account = account.ok_or(Error::UserNotFound)?;
        authority.check(action, &account.user)?;
        Ok((authority, account))
    }
}

/// A user, as the transaction has left the user.
///
/// # Errors
/// [`Error::UserNotFound`].
async fn found(tx: &Transaction, id: UserId) -> Result<ManagedUser, Error> {
    let account = users::find(tx, id).await?.ok_or(Error::UserNotFound)?;
    Ok(account.into())
}
