//! Reservation of an attempt: one insert for subjects without a row, else a transaction under the locks of their rows.

use std::time::Duration;

use uuid::Uuid;

use super::{Limited, Reservation, Reserved, Throttle, count_of};
use crate::clock::Timestamp;
use crate::domain::throttle::{Memory, SubjectId, SubjectKind};
use crate::service::error::Error;
use crate::service::retry::retry;
use crate::store::StoreError;
use crate::store::attempts::{self, AttemptRow};

impl Throttle {
    /// Reserves an attempt. If its caller disconnects meanwhile, the attempt is given back as soon as it is written.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`], and then nothing is reserved.
    pub(super) async fn reserve_all(
        &self,
        subjects: impl IntoIterator<Item = Limited>,
    ) -> Result<Reservation, Error> {
        // All transactions lock the rows in this order.
        let mut subjects: Vec<Limited> = subjects.into_iter().collect();
        subjects.sort_unstable_by_key(|limited| limited.subject);
        self.refuse_if_known(&subjects)?;
        if subjects.is_empty() {
            return Ok(Reservation::default());
        }
        let this = self.clone();
        let write = async move {
            let reservation = this.write_all(&subjects).await?;
            Ok::<_, Error>(this.guard(reservation))
        };
        let guard = self.returns.finish(write).await.map_err(Error::internal)??;
        guard.settle();
        Ok(Reservation::clone(&guard))
    }

    /// Writes an attempt on sorted subjects.
    async fn write_all(&self, subjects: &[Limited]) -> Result<Reservation, Error> {
        let now = self.clock.now();
        // Most subjects have no row. Then this is the only statement.
        let id = Uuid::new_v4();
        let rows: Vec<AttemptRow> = subjects
            .iter()
            .map(|limited| AttemptRow {
                subject: limited.subject,
                inserted_by: id,
                memory: Memory::of_first(&limited.limit, now),
            })
            .collect();
        let writer = self.store.counter_writer();
        let inserted = retry(|| async { Ok(attempts::insert_new(&writer, &rows).await?) });
        let inserted = match inserted.await {
            Ok(inserted) => inserted,
            // The rows may have been written. They have the id of this attempt, so they are not counted twice.
            Err(Error::DatabaseUnavailable(error)) if error.is_lost_connection() => 0,
            Err(error) => return Err(error),
        };
        if inserted == count_of(&rows) {
            let reserved = rows.into_iter().zip(subjects).map(|(row, limited)| Reserved {
                kind: limited.kind,
                row,
                is_new: true,
                added: limited.limit.recovery,
            });
            return Ok(Reservation(reserved.collect()));
        }
        retry(|| self.reserve_remembered(id, subjects, now)).await
    }

    /// Reserves an attempt on subjects of which some have rows. The others may have been reserved already, by the same
    /// attempt.
    async fn reserve_remembered(
        &self,
        id: Uuid,
        subjects: &[Limited],
        now: Timestamp,
    ) -> Result<Reservation, Error> {
        let tx = self.store.begin().await?;
        let ids: Vec<SubjectId> = subjects.iter().map(|limited| limited.subject).collect();
        let rows = attempts::lock(&tx, &ids).await?;
        let mut reserved = Vec::with_capacity(subjects.len());
        let mut refused: Option<(Duration, SubjectKind)> = None;
        let mut ahead = Vec::new();
        for Limited {
            subject,
            kind,
            limit,
            delays,
        } in subjects
        {
            let row = rows.iter().find(|row| row.subject == *subject).copied();
            let of_first = AttemptRow {
                subject: *subject,
                inserted_by: id,
                memory: Memory::of_first(limit, now),
            };
            match row {
                Some(row) if row.inserted_by == id => reserved.push(Reserved {
                    kind: *kind,
                    row: of_first,
                    is_new: true,
                    added: limit.recovery,
                }),
                Some(row) => match row.memory.attempt(limit, delays, now) {
                    Ok(memory) => {
                        let before = row.memory.corrected(now);
                        if row.memory.is_ahead(now) {
                            ahead.push((*subject, memory.delay(limit, delays, now)));
                        }
                        reserved.push(Reserved {
                            kind: *kind,
                            row: AttemptRow { memory, ..row },
                            is_new: false,
                            added: added(&before, &memory, now),
                        });
                    }
                    Err(wait) => {
                        self.refusals.remember(*subject, wait);
                        if refused.is_none_or(|(longest, _)| wait > longest) {
                            refused = Some((wait, *kind));
                        }
                    }
                },
                // The row was deleted since the first statement.
                None if refused.is_none() => {
                    if attempts::insert_new(&tx, &[of_first]).await? == 0 {
                        return Err(conflict());
                    }
                    reserved.push(Reserved {
                        kind: *kind,
                        row: of_first,
                        is_new: true,
                        added: limit.recovery,
                    });
                }
                None => {}
            }
        }
        if let Some((retry_after, by)) = refused {
            // The rows that this attempt has added are given back. The transaction has changed no other row.
            let written: Vec<Reserved> = reserved.into_iter().filter(|one| one.is_new).collect();
            if !written.is_empty() {
                self.give_back_in(&tx, &Reservation(written)).await?;
                tx.commit().await?;
            }
            return Err(Error::TooManyAttempts { retry_after, by });
        }
        for one in reserved.iter().filter(|one| !one.is_new) {
            attempts::update(&tx, one.row.subject, &one.row.memory).await?;
        }
        tx.commit().await?;
        // The stored times did not delay this attempt, so this replica delays the next one by its monotonic clock.
        // Otherwise attempts on alternating replicas with different clocks would have no delay.
        for (subject, delay) in ahead {
            if let Some(delay) = delay {
                self.refusals.hold(subject, delay);
            }
        }
        Ok(Reservation(reserved))
    }

    /// Refuses, without the database, subjects that were refused a moment ago.
    fn refuse_if_known(&self, subjects: &[Limited]) -> Result<(), Error> {
        let waits = subjects.iter().filter_map(|limited| {
            let wait = self.refusals.wait(limited.subject)?;
            Some((wait, limited.kind))
        });
        match waits.max_by_key(|(wait, _)| *wait) {
            Some((retry_after, by)) => Err(Error::TooManyAttempts { retry_after, by }),
            None => Ok(()),
        }
    }
}

/// The time by which an attempt extended a memory.
fn added(before: &Memory, after: &Memory, now: Timestamp) -> Duration {
    (after.forgotten_at - before.forgotten_at.max(now))
        .to_std()
        .unwrap_or_default()
}

/// Another attempt has added the row meanwhile. The retry reads it.
fn conflict() -> Error {
    StoreError::not_committed("attempts on one subject have met").into()
}
