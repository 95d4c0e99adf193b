//! Parts of a reservation. A created account, unlike a guess, stays counted after a success, and is given back after a
//! failure.

use std::net::IpAddr;

use super::{Reservation, Throttle};
use crate::domain::network::Network;
use crate::domain::throttle::{Subject, SubjectKind};
use crate::service::error::Error;

impl Throttle {
    /// Reserves the creation of an account from an address, and nothing else.
    ///
    /// # Errors
    /// Those of [`Self::reserve`].
    pub async fn reserve_creation(&self, address: Option<IpAddr>) -> Result<Reservation, Error> {
        self.reserve_all(creations(address).filter_map(|subject| self.limited(&subject)))
            .await
    }

    /// Gives the reserved account back if none was created, and returns the outcome. An unreachable database may have
    /// created it, so the account counts then.
    ///
    /// # Errors
    /// The error of the outcome.
    pub(in crate::service) async fn keep_creation_if_created<T>(
        &self,
        outcome: Result<T, Error>,
        reserved: &Reservation,
    ) -> Result<T, Error> {
        if !matches!(outcome, Ok(_) | Err(Error::DatabaseUnavailable(_))) {
            self.give_back(&reserved.creation()).await;
        }
        outcome
    }
}

impl Reservation {
    /// Adds another reservation of the same attempt.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The part for the created account, to be given back if none was created.
    pub fn creation(&self) -> Self {
        self.filtered(|kind| kind == SubjectKind::Creation)
    }

    /// The part without the created account, to be given back after the account was created.
    pub fn without_creation(&self) -> Self {
        self.filtered(|kind| kind != SubjectKind::Creation)
    }

    /// The part without the client address, to be given back after a new password was rejected. The call was no guess,
    /// but each such call writes to the database, so it counts for the address.
    pub fn without_address(&self) -> Self {
        self.filtered(|kind| kind != SubjectKind::Address)
    }

    fn filtered(&self, is_kept: impl Fn(SubjectKind) -> bool) -> Self {
        Self(self.0.iter().filter(|one| is_kept(one.kind)).copied().collect())
    }
}

/// The subjects of an account that is created from an address. None without an address.
pub(in crate::service) fn creations<'a>(address: Option<IpAddr>) -> impl Iterator<Item = Subject<'a>> {
    let prefixes = address
        .into_iter()
        .flat_map(|address| Network::of(address).prefixes());
    prefixes.map(Subject::Creation)
}
