//! "Verify phone": for many people at once, of whom some may be refused.

use std::collections::HashMap;

use super::{Admin, Administrator, Authority, Etag, ManagedUser};
use crate::domain::audit::{Event, Refusal};
use crate::domain::rights::{AdminAction, Role, may};
use crate::domain::user::UserId;
use crate::service::error::Error;
use crate::service::retry::retry;
use crate::store::users::Account;
use crate::store::{audit, changes, users};

/// A person whose number is to be verified.
#[derive(Clone, Debug)]
pub struct PhoneToVerify {
    /// The person.
    pub user: UserId,
    /// As they were when their number was looked at. `None`: whatever number they have.
    pub etag: Option<Etag>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The person.
    pub user: UserId,
    /// The person, whose number is verified now or was before; or why not.
    pub outcome: Result<ManagedUser, Unverified>,
}

/// Why a number was not verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unverified {
    /// There is no such user, or none that the administrator may see.
    UserNotFound,
    /// The person was changed since.
    EtagMismatch,
}

impl Admin {
    /// Notes for people that they hold their numbers, all in one transaction. What is said twice of a person is done
    /// once.
    ///
    /// # Errors
    /// [`Error::NotStaff`]; [`Error::SessionInvalid`] when the administrator's session ended meanwhile. What is refused
    /// for one person is no error, but their outcome.
    pub async fn verify_phones(
        &self,
        by: &Administrator,
        phones: &[PhoneToVerify],
    ) -> Result<Vec<Verification>, Error> {
        by.may(AdminAction::VerifyPhone)?;
        let now = self.accounts.clock.now();
        let outcome = retry(|| async {
            let tx = self.accounts.store.begin().await?;
            let ids = phones.iter().map(|phone| phone.user);
            let (Authority { role, .. }, accounts) =
                self.lock(&tx, by, AdminAction::VerifyPhone, ids).await?;
            let mut accounts: HashMap<UserId, Account> = accounts
                .into_iter()
                .map(|account| (account.user.id, account))
                .collect();
            let mut verifications: Vec<Verification> = Vec::with_capacity(phones.len());
            let mut verified_now = Vec::new();
            for phone in phones {
                if verifications.iter().any(|known| known.user == phone.user) {
                    continue;
                }
                let outcome = looked_at(role, phone, accounts.remove(&phone.user)).map(|mut account| {
                    if account.user.phone_verified_at.is_none() {
                        account.user.phone_verified_at = Some(now);
                        account.user.updated_at = now;
                        verified_now.push(phone.user);
                    }
                    account.into()
                });
                verifications.push(Verification {
                    user: phone.user,
                    outcome,
                });
            }
            let attempts = verified_now
                .iter()
                .filter_map(|user| by.attempt(AdminAction::VerifyPhone, Some(*user)));
            let mut events: Vec<Event> = attempts.map(|attempt| attempt.done(now)).collect();
            let is_missing =
                |verified: &Verification| matches!(verified.outcome, Err(Unverified::UserNotFound));
            // One for all of them: each would be a row, and none has a subject.
            if by.has_hidden_users()
                && verifications.iter().any(is_missing)
                && let Some(attempt) = by.attempt(AdminAction::VerifyPhone, None)
            {
                events.push(attempt.refused(Refusal::UserNotFound, now));
            }
            for event in &events {
                audit::insert(&tx, event).await?;
            }
            if verified_now.is_empty() {
                if !events.is_empty() {
                    tx.commit().await?;
                }
            } else {
                users::verify_phones(&tx, &verified_now, now).await?;
                let changes: Vec<_> = verified_now
                    .into_iter()
                    .map(|user| changes::RevocationChange::UserChanged { user })
                    .collect();
                self.accounts.changes.commit(tx, &changes).await?;
            }
            Ok(verifications)
        });
        self.noted(by, AdminAction::VerifyPhone, None, outcome.await)
            .await
    }
}

/// Whether the number of this person may be verified.
fn looked_at(role: Role, phone: &PhoneToVerify, account: Option<Account>) -> Result<Account, Unverified> {
    let account = account.ok_or(Unverified::UserNotFound)?;
    // That they may verify at all was looked at before.
    may(role, AdminAction::VerifyPhone, Some(&account.user)).map_err(|_| Unverified::UserNotFound)?;
    match &phone.etag {
        Some(etag) if *etag != Etag::of(&account) => Err(Unverified::EtagMismatch),
        _ => Ok(account),
    }
}
