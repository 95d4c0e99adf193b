//! Administration: what staff, superusers and the operator do to other people.
//!
//! [`may`] is the one rule of what a role may do, and [`needs_fresh_sign_in`] that of what a stolen session must not
//! do. Both are checked when a call comes, and again in the transaction, under the locks of the rows of the
//! administrator and the user: what either of them was before does not count. Rows are locked in the order of their
//! ids, so that two users that change each other follow one another; and of two superusers that remove each other, the
//! second has no rights any more.

mod audited;
mod change;
mod etag;
mod verify;

pub use change::{NewUser, UserUpdate};
pub use etag::Etag;
pub use verify::{PhoneToVerify, Unverified, Verification};

use super::accounts::Accounts;
use super::audit;
use super::error::Error;
use super::hasher::Flow;
use super::sessions::Actor;
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

/// Who administers.
#[derive(Clone, Debug)]
pub enum Administrator {
    /// Somebody who has shown a good session token. Not everybody may.
    Person(Box<Actor>),
    /// The operator at the command line, who may do what a superuser may.
    Operator,
}

impl Administrator {
    /// Whether there are people to whom they may do this, as far as is known without asking again.
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

    /// The flow of the passwords that they set.
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

/// The authority of an administrator: what the role allows, and whether it may be used for what outlasts the session.
#[derive(Clone, Copy, Debug)]
struct Authority {
    role: Role,
    is_fresh: bool,
}

impl Authority {
    /// Checks whether this may be done to this user, and whether the sign-in is fresh enough for it.
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

/// A person as administration sees them.
#[derive(Clone, Debug)]
pub struct ManagedUser {
    /// The person.
    pub user: User,
    /// Stands for all that can be changed about them.
    pub etag: Etag,
    /// Whether it was administration that deactivated the account.
    pub deactivated_by_admin: bool,
}

impl From<Account> for ManagedUser {
    fn from(account: Account) -> Self {
        Self {
            etag: Etag::of(&account),
            // A version that knows nothing of it may have brought the person back.
            deactivated_by_admin: account.deactivated_by_admin && !account.user.is_active(),
            user: account.user,
        }
    }
}

/// By what a person is found.
#[derive(Clone, Debug)]
pub enum UserSelector {
    /// The id.
    Id(UserId),
    /// The phone number.
    PhoneNumber(NumberQuery),
}

/// A page of people.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The people, in order.
    pub users: Vec<ManagedUser>,
    /// Where the page ends. `None`: so does the list.
    pub end: Option<UserListPosition>,
}

/// Administers. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    accounts: Accounts,
}

impl Admin {
    /// Administration of these accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self { accounts }
    }

    /// Lists people, to staff only those whom they may see.
    ///
    /// # Errors
    /// [`Error::NotStaff`], or when the database fails.
    pub async fn list(&self, by: &Administrator, mut list: List) -> Result<UserPage, Error> {
        by.may(AdminAction::Read)?;
        if by.role() != Role::Superuser {
            // What `may` says of each of them, as a filter.
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
        // One more tells whether there is another page.
        list.limit = list.limit.saturating_add(1);
        let mut accounts = users::list(self.accounts.store.lists(), &list).await?;
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
        self.accounts.audit.list(filter, before, size).await
    }

    /// Finds a person, to whom this is to be done.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::NotStaff`], [`Error::NotSuperuser`]; [`Error::ReauthenticationRequired`] as
    /// the action asks for.
    pub async fn get(
        &self,
        by: &Administrator,
        action: AdminAction,
        whom: &UserSelector,
    ) -> Result<ManagedUser, Error> {
        by.may(action)?;
        let reader = self.accounts.store.reader();
        let account = match whom {
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
        self.noted(by, action, found, checked).await
    }

    /// The authority of an administrator by the session of the call, before a transaction checks it again.
    fn authority(&self, by: &Administrator) -> Authority {
        Authority {
            role: by.role(),
            is_fresh: by
                .actor()
                .is_none_or(|actor| self.accounts.is_fresh(&actor.session)),
        }
    }

    /// Locks the rows of the administrator and of users, in the order of their ids, and reads the authority of the
    /// administrator again.
    async fn lock(
        &self,
        tx: &Transaction,
        by: &Administrator,
        action: AdminAction,
        people: impl IntoIterator<Item = UserId>,
    ) -> Result<(Authority, Vec<Account>), Error> {
        let own = by.actor().map(|actor| actor.user.id);
        let ids: Vec<UserId> = people.into_iter().chain(own).collect();
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
                let now = self.accounts.clock.now();
                Authority {
                    role: Role::of(&account.user),
                    is_fresh: self
                        .accounts
                        .is_fresh_for_lasting_power(account, &actor.session, now),
                }
            }
        };
        may(authority.role, action, None)?;
        Ok((authority, accounts))
    }

    /// Locks the rows of the administrator and of a user, and checks again whether this may be done to the user.
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

    /// Runs what must not stop half way, even if the caller goes away.
    async fn finish<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.accounts.finish(|accounts| work(Self { accounts })).await
    }
}
