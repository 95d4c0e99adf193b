//! Slowing down those who guess. An attempt is written into the database before anything is hashed, and is given back
//! only when it succeeded, or when nothing was hashed: so neither many at once, nor a call that is dropped while its
//! password is hashed, nor a process that is killed has guesses for free, and all replicas count together.
//!
//! Successes have a limit of their own, in memory: `successes`.
//!
//! Nothing here looks at whether a number is somebody's: the same statements are run.

mod creation;
mod guard;
mod refusals;
mod successes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::error::{Error, chain};
use super::retry::retry;
use crate::clock::{Clock, Timestamp};
use crate::domain::access::Caller;
use crate::domain::network::Network;
use crate::domain::session::DeviceId;
use crate::domain::throttle::{Delays, Limit, Memory, Subject, SubjectId, SubjectKind};
use crate::store::attempts::{self, AttemptRow};
use crate::store::{Affected, Store, StoreError, Transaction};
pub(super) use creation::creations;
pub use guard::ReservationGuard;
use guard::Returns;
use refusals::Refusals;
pub use successes::SuccessPermit;
use successes::Successes;

/// The settings of throttling. A subject without a limit is not counted.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleLimits {
    /// Of passwords for a phone number, of a person's sessions, and of a device of theirs.
    pub number: Option<Limit>,
    /// Of wishes to have a phone number.
    pub phone_claim: Option<Limit>,
    /// Of codes that are sent to a phone number, or asked for on a device.
    pub code: Option<Limit>,
    /// Of wrong codes for a phone number, over all its challenges.
    pub code_guess: Option<Limit>,
    /// Of a client address, and so many times of the networks that it is in: see [`Network::prefixes`].
    pub address: Option<Limit>,
    /// Of accounts that strangers create from a client address, and so many times of the networks that it is in.
    pub creation: Option<Limit>,
    /// Of a calling service.
    pub service: Option<Limit>,
    /// Of right passwords from a client network by a calling service: successes at once, and the interval between
    /// further ones.
    pub success: Option<Limit>,
    /// How long attempts have to wait.
    pub delays: Delays,
}

/// Counts attempts. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: ThrottleLimits,
    refusals: Refusals,
    successes: Successes,
    returns: Returns,
}

/// A subject that is counted.
#[derive(Clone, Copy)]
struct Limited {
    subject: SubjectId,
    kind: SubjectKind,
    limit: Limit,
    delays: Delays,
}

/// An attempt that is under way: it counts as a failure until it is given back.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Reservation(Vec<Reserved>);

/// What was written of an attempt for one subject.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    kind: SubjectKind,
    /// As it was written.
    row: AttemptRow,
    /// Whether the row was new.
    is_new: bool,
    /// How much memory the attempt added.
    added: Duration,
}

/// An attempt that was given back, but perhaps not all of it.
#[derive(Debug)]
#[must_use]
pub struct GivenBack<'a> {
    reservation: &'a Reservation,
    /// How many of the rows were deleted by the commit. `None`: all is settled.
    deleted: Option<Affected>,
}

impl Throttle {
    /// Counts in this store. `tasks` tracks writes that must finish before the program ends.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, limits: ThrottleLimits, tasks: TaskTracker) -> Self {
        Self {
            store,
            refusals: Refusals::new(clock.clone()),
            successes: Successes::new(clock.clone(), limits.success),
            returns: Returns::new(tasks),
            clock,
            limits,
        }
    }

    /// Reserves an attempt on these subjects, and on the network and the service that it comes from.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`], and then nothing is reserved.
    pub async fn reserve(
        &self,
        subjects: &[Subject<'_>],
        address: Option<IpAddr>,
        caller: &Caller,
    ) -> Result<Reservation, Error> {
        let prefixes = address
            .into_iter()
            .flat_map(|address| Network::of(address).prefixes());
        let network = prefixes.map(Subject::Address);
        let service = Subject::Service(caller.service.as_deref());
        let all = subjects.iter().copied().chain(network).chain([service]);
        self.reserve_all(all.filter_map(|subject| self.limited(&subject)))
            .await
    }

    /// As [`Self::reserve`], on one subject and nothing else.
    ///
    /// # Errors
    /// Those of [`Self::reserve`].
    pub async fn reserve_only(&self, subject: Subject<'_>) -> Result<Reservation, Error> {
        self.reserve_all(self.limited(&subject)).await
    }

    /// Takes a permit for a right password from this address by this service, or on this known device, before anything
    /// is reserved.
    ///
    /// # Errors
    /// [`Error::TooManyAttempts`].
    pub fn admit_success(
        &self,
        address: Option<IpAddr>,
        caller: &Caller,
        device: Option<DeviceId>,
    ) -> Result<SuccessPermit, Error> {
        self.successes.admit(address, caller, device)
    }

    /// Gives a reservation back when the guard is dropped, unless it was settled.
    pub fn guard(&self, reservation: Reservation) -> ReservationGuard {
        ReservationGuard::new(reservation, self.clone())
    }

    fn limited(&self, subject: &Subject<'_>) -> Option<Limited> {
        let limit = match subject {
            Subject::SignIn(_) | Subject::Person(_) | Subject::Device(_) => self.limits.number,
            Subject::PhoneClaim(_) => self.limits.phone_claim,
            Subject::Code(_) | Subject::CodeFrom(..) | Subject::KnownCode(_) => self.limits.code,
            Subject::CodeGuess(_) | Subject::KnownCodeGuess(_) => self.limits.code_guess,
            Subject::Address(_) => self.limits.address,
            Subject::Creation(_) => self.limits.creation,
            Subject::Service(_) => self.limits.service,
        };
        let limit = limit?.times(subject.factor());
        Some(Limited {
            subject: subject.id(),
            kind: subject.kind(),
            limit,
            delays: subject.delays(&limit, self.limits.delays),
        })
    }

    /// Reserves an attempt. If its caller leaves meanwhile, the attempt is given back as soon as it is written.
    async fn reserve_all(&self, subjects: impl IntoIterator<Item = Limited>) -> Result<Reservation, Error> {
        // In the order in which all lock them.
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

    /// Writes an attempt on subjects that are sorted.
    async fn write_all(&self, subjects: &[Limited]) -> Result<Reservation, Error> {
        let now = self.clock.now();
        // Nearly always nothing is remembered of whoever comes. Then this one statement is all.
        let id = Uuid::new_v4();
        let rows: Vec<AttemptRow> = subjects
            .iter()
            .map(|limited| AttemptRow {
                subject: limited.subject,
                inserted_by: id,
                memory: Memory::of_first(&limited.limit, now),
            })
            .collect();
        // Who cuts the power has not won many guesses by it.
        let writer = self.store.unsynced_writer();
        let inserted = retry(|| async { Ok(attempts::insert_new(&writer, &rows).await?) });
        let inserted = match inserted.await {
            Ok(inserted) => inserted,
            // The rows may be there. Those that are have the id of this attempt, so they are not counted twice.
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

    /// Reserves an attempt on subjects of which some are remembered. Those of which nothing is may have been reserved
    /// already, by the same attempt.
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
                // Given back, or removed, since the first statement.
                None if refused.is_none() => {
                    if attempts::insert_new(&tx, &[of_first]).await? == 0 {
                        return Err(met());
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
            // What the first statement has reserved is given back, and nothing else has been written but what this
            // transaction has added, which is rolled back or given back, too.
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

    /// Gives an attempt back, in the transaction of what it was for. The rows are locked last, but for the head of the
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
        let all_new = reserved.iter().all(|one| one.is_new);
        let rows: Vec<AttemptRow> = reserved.iter().map(|one| one.row).collect();
        if all_new && attempts::delete_untouched(tx, &rows).await? == count_of(&rows) {
            return Ok(());
        }
        self.take_back(tx, reserved).await
    }

    /// Takes back what was written for an attempt, where it can not just be deleted.
    async fn take_back(&self, tx: &Transaction, reserved: &[Reserved]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ids: Vec<SubjectId> = reserved.iter().map(|one| one.row.subject).collect();
        let found = attempts::lock(tx, &ids).await?;
        for one in reserved {
            let Some(row) = found.iter().find(|row| row.subject == one.row.subject) else {
                continue;
            };
            // What this attempt had added is gone, and the row is another one.
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

    /// As [`Self::give_back_in`], along with the commit where that is a trip less. What comes of it is to be settled
    /// after the commit.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_back_with_commit<'a>(
        &self,
        tx: &Transaction,
        reservation: &'a Reservation,
    ) -> Result<GivenBack<'a>, StoreError> {
        let Reservation(reserved) = reservation;
        let given_back = |deleted| GivenBack { reservation, deleted };
        if reserved.is_empty() || !reserved.iter().all(|one| one.is_new) {
            self.give_back_in(tx, reservation).await?;
            return Ok(given_back(None));
        }
        self.forget_refusals(reservation);
        let rows: Vec<AttemptRow> = reserved.iter().map(|one| one.row).collect();
        let deleted = attempts::delete_untouched_with_commit(tx, &rows).await?;
        match deleted.rows() {
            None => Ok(given_back(Some(deleted))),
            Some(count) if count == count_of(&rows) => Ok(given_back(None)),
            Some(_) => {
                self.take_back(tx, reserved).await?;
                Ok(given_back(None))
            }
        }
    }

    /// Gives back what could not just be deleted along with the commit, since other attempts have come to it meanwhile.
    pub async fn settle(&self, given_back: GivenBack<'_>) {
        let GivenBack { reservation, deleted } = given_back;
        let deleted = deleted.and_then(|deleted| deleted.rows());
        if deleted.is_some_and(|count| count < count_of(&reservation.0)) {
            self.give_back(reservation).await;
        }
    }

    /// Gives an attempt back that succeeded, or for which nothing was hashed, in a transaction of its own. If that
    /// fails the attempt counts, and is forgotten with time.
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

    /// Refuses at once what was refused a moment ago.
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

    fn forget_refusals(&self, reservation: &Reservation) {
        for one in &reservation.0 {
            self.refusals.forget(one.row.subject);
        }
    }
}

/// How much memory an attempt added.
fn added(before: &Memory, after: &Memory, now: Timestamp) -> Duration {
    (after.forgotten_at - before.forgotten_at.max(now))
        .to_std()
        .unwrap_or_default()
}

fn count_of<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}

/// Another attempt has made the row in between. Done again, this one sees it.
fn met() -> Error {
    StoreError::not_committed("attempts on one subject have met").into()
}
