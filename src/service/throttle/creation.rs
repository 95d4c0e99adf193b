//! Parts of a reservation. Created accounts, unlike guesses, stay counted when they succeed, and are given back when
//! they fail.

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
}

impl Reservation {
    /// Adds what was reserved for the same attempt by another statement.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The created account, which is given back if none was created.
    pub fn creation(&self) -> Self {
        self.filtered(|kind| kind == SubjectKind::Creation)
    }

    /// The attempt without the created account: what is given back when the account was created.
    pub fn without_creation(&self) -> Self {
        self.filtered(|kind| kind != SubjectKind::Creation)
    }

    /// The attempt without the client address: what is given back when a new password is rejected. Nothing was guessed,
    /// but each such call writes to the database, so the address goes on counting.
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
