//! Verification of phone numbers by an administrator: many users in one transaction, each with an outcome.

use std::collections::HashMap;

use super::{Admin, Administrator, Authority, Etag, ManagedUser};
use crate::clock::Timestamp;
use crate::domain::audit::{Event, Refusal};
use crate::domain::rights::{AdminAction, Role, may};
use crate::domain::user::UserId;
use crate::service::error::Error;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::changes::RevocationChange;
use crate::store::users::Account;
use crate::store::{Transaction, audit, users};

/// A user whose number is to be verified.
#[derive(Clone, Debug)]
pub struct PhoneToVerify {
    /// The user.
    pub user: UserId,
    /// The state of the user when the number was checked. `None`: any state.
    pub etag: Option<Etag>,
}

/// The outcome of the verification of one user.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The user.
    pub user: UserId,
    /// The user, with a number that is verified now or was before; or the reason of the refusal.
    pub outcome: Result<ManagedUser, Unverified>,
}

/// The reason why a number was not verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unverified {
    /// There is no such user, or none that the administrator may see.
    UserNotFound,
    /// The user was changed since the number was checked.
    EtagMismatch,
}

impl Admin {
    /// Marks the numbers of users as verified, all in one transaction. A user that occurs twice is verified once.
    ///
    /// # Errors
    /// [`Error::NotStaff`]; [`Error::SessionInvalid`] when the administrator's session ended meanwhile. A refusal of
    /// one user is no error, but the outcome of that user.
    pub async fn verify_phones(
        &self,
        by: &Administrator,
        phones: &[PhoneToVerify],
    ) -> Result<Vec<Verification>, Error> {
        by.may(AdminAction::VerifyPhone)?;
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_verifications(tx, by, phones, now)))
            .await;
        self.audited(by, AdminAction::VerifyPhone, None, outcome).await
    }

    async fn write_verifications(
        &self,
        tx: &Transaction,
        by: &Administrator,
        phones: &[PhoneToVerify],
        now: Timestamp,
    ) -> Result<TransactionEnd<Vec<Verification>>, Error> {
        let ids = phones.iter().map(|phone| phone.user);
        let (Authority { role, .. }, accounts) = self.lock(tx, by, AdminAction::VerifyPhone, ids).await?;
        let (verifications, verified_now) = verify_all(role, phones, accounts, now);
        let drafts = verified_now
            .iter()
            .filter_map(|user| by.draft(AdminAction::VerifyPhone, Some(*user)));
        let mut events: Vec<Event> = drafts.map(|draft| draft.done(now)).collect();
        let is_missing = |verified: &Verification| matches!(verified.outcome, Err(Unverified::UserNotFound));
        // One event for all missing users: each event would be a row, and none has a subject.
        if by.has_hidden_users()
            && verifications.iter().any(is_missing)
            && let Some(draft) = by.draft(AdminAction::VerifyPhone, None)
        {
            events.push(draft.refused(Refusal::UserNotFound, now));
        }
        for event in &events {
            audit::insert(tx, event).await?;
        }
        if verified_now.is_empty() {
            return Ok(if events.is_empty() {
                TransactionEnd::Rollback(verifications)
            } else {
                TransactionEnd::commit(verifications)
            });
        }
        users::verify_phones(tx, &verified_now, now).await?;
        let changed = |user| RevocationChange::UserChanged { user };
        let changes = verified_now.into_iter().map(changed).collect();
        Ok(TransactionEnd::commit_with(changes, verifications))
    }
}

/// The outcome of each user, and the users whose number is verified now.
fn verify_all(
    role: Role,
    phones: &[PhoneToVerify],
    accounts: Vec<Account>,
    now: Timestamp,
) -> (Vec<Verification>, Vec<UserId>) {
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
        let outcome = check(role, phone, accounts.remove(&phone.user)).map(|mut account| {
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
    (verifications, verified_now)
}

/// Checks that the number of a user may be verified.
fn check(role: Role, phone: &PhoneToVerify, account: Option<Account>) -> Result<Account, Unverified> {
    let account = account.ok_or(Unverified::UserNotFound)?;
    // The right to verify numbers at all was checked before.
    may(role, AdminAction::VerifyPhone, Some(&account.user)).map_err(|_| Unverified::UserNotFound)?;
    match &phone.etag {
        Some(etag) if *etag != Etag::of(&account) => Err(Unverified::EtagMismatch),
        _ => Ok(account),
    }
}
