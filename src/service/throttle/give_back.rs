//! Return of a reserved attempt: it succeeded, or nothing was hashed for it.

use super::{Reservation, Reserved, Throttle, count_of};
use crate::domain::throttle::SubjectId;
use crate::service::error::{Error, chain};
use crate::service::retry::retry;
use crate::store::attempts::{self, AttemptRow};
use crate::store::{Affected, StoreError, Transaction};

/// An attempt that was given back, perhaps except for rows that other attempts have changed.
#[derive(Debug)]
#[must_use]
pub struct GivenBack<'a> {
    reservation: &'a Reservation,
    /// The number of rows that the deferred write deletes. `None`: all rows are given back.
    deleted: Option<Affected>,
}

impl Throttle {
    /// Gives an attempt back, in the transaction of its success. The rows are locked last, except for the head of the
    /// change log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_in(&self, tx: &Transaction, reservation: &Reservation) -> Result<(), StoreError> {
        let Reservation(reserved) = reservation;
        if reserved.is_empty() {
            return Ok(());
        }
        self.forget_refusals(reservation);
        let rows: Vec<AttemptRow> = reserved.iter().map(|one| one.row).collect();
        if reservation.is_all_new() && attempts::delete_untouched(tx, &rows).await? == count_of(&rows) {
            return Ok(());
        }
        self.take_back(tx, reserved).await
    }

    /// Subtracts an attempt from its rows, where they cannot be deleted.
    async fn take_back(&self, tx: &Transaction, reserved: &[Reserved]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ids: Vec<SubjectId> = reserved.iter().map(|one| one.row.subject).collect();
        let found = attempts::lock(tx, &ids).await?;
        for one in reserved {
            let Some(row) = found.iter().find(|row| row.subject == one.row.subject) else {
                continue;
            };
            // The row was deleted and added again since this attempt.
            if row.inserted_by != one.row.inserted_by {
                continue;
            }
            match row.memory.without(one.added, now) {
                Some(memory) => attempts::update(tx, row.subject, &memory).await?,
                None => attempts::delete(tx, row.subject).await?,
            }
        }
        Ok(())
    }

    /// Gives an attempt back as [`Self::give_back_in`] does, by a write that may wait for the commit. [`Self::settle`]
    /// completes it after the commit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_deferred<'a>(
        &self,
        tx: &Transaction,
        reservation: &'a Reservation,
    ) -> Result<GivenBack<'a>, StoreError> {
        self.give_back_shared(tx, reservation).await?;
        self.give_back_new(tx, reservation).await
    }

    /// The first half of [`Self::give_back_deferred`]: gives an attempt back that shares rows with other attempts. It
    /// reads these rows, so it executes what is deferred. In a transaction of several attempts it goes first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_shared(
        &self,
        tx: &Transaction,
        reservation: &Reservation,
    ) -> Result<(), StoreError> {
        match reservation.is_all_new() {
            true => Ok(()),
            false => self.give_back_in(tx, reservation).await,
        }
    }

    /// The second half of [`Self::give_back_deferred`]: deletes the rows of an attempt that has them alone, by a write
    /// that may wait for the commit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_new<'a>(
        &self,
        tx: &Transaction,
        reservation: &'a Reservation,
    ) -> Result<GivenBack<'a>, StoreError> {
        let Reservation(reserved) = reservation;
        let given_back = |deleted| GivenBack { reservation, deleted };
        if reserved.is_empty() || !reservation.is_all_new() {
            return Ok(given_back(None));
        }
        self.forget_refusals(reservation);
        let rows: Vec<AttemptRow> = reserved.iter().map(|one| one.row).collect();
        let deleted = attempts::delete_untouched_deferred(tx, &rows).await?;
        match deleted.rows() {
            None => Ok(given_back(Some(deleted))),
            Some(count) if count == count_of(&rows) => Ok(given_back(None)),
            Some(_) => {
                self.take_back(tx, reserved).await?;
                Ok(given_back(None))
            }
        }
    }

    /// Completes [`Self::give_back_deferred`] after the commit: gives back the rows that were not deleted, since other
    /// attempts have changed them meanwhile.
    pub async fn settle(&self, given_back: GivenBack<'_>) {
        let GivenBack { reservation, deleted } = given_back;
        let deleted = deleted.and_then(|deleted| deleted.rows());
        if deleted.is_some_and(|count| count < count_of(&reservation.0)) {
            self.give_back(reservation).await;
        }
    }

    /// Settles what a transaction gave back, if the transaction was committed.
    ///
    /// # Errors
    /// The error of the transaction.
    pub(in crate::service) async fn settle_committed(
        &self,
        outcome: Result<GivenBack<'_>, Error>,
    ) -> Result<(), Error> {
        let given_back = outcome?;
        self.settle(given_back).await;
        Ok(())
    }

    /// Gives an attempt back in a transaction of its own. If that fails the attempt counts, and is forgotten with time.
    pub async fn give_back(&self, reservation: &Reservation) {
        if reservation.0.is_empty() {
            return;
        }
        let given_back = retry(|| async {
            let tx = self.store.begin().await?;
            self.give_back_in(&tx, reservation).await?;
            Ok(tx.commit().await?)
        });
        if let Err(error) = given_back.await {
            tracing::warn!(error = chain(&error), "an attempt was not given back");
        }
    }

    fn forget_refusals(&self, reservation: &Reservation) {
        for one in &reservation.0 {
            self.refusals.forget(one.row.subject);
        }
    }
}
