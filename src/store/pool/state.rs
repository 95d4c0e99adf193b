//! State of a pool: its idle connections and its generation, and the verdict on each error.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use sea_orm::DbErr;
use tokio::time::Instant;

use super::lease::{Idle, Pooled, within};
use super::{MAX_AGE, MAX_IDLE_TIME, PoolState, TRUSTED_IDLE_TIME, VERIFICATION_TIMEOUT};
use crate::store::connection::is_broken;
use crate::store::error::DbErrorKind;

impl PoolState {
    /// Whether there is a network between this process and the database.
    pub(super) fn is_remote(&self) -> bool {
        self.statement_timeout.is_some()
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pop_idle(&self) -> Option<Idle> {
        self.idle().pop()
    }

    pub(super) fn take_idle(&self) -> Vec<Idle> {
        mem::take(&mut self.idle())
    }

    /// The generation of connections that are opened now.
    pub(super) fn generation(&self) -> u64 {
        self.family.generation.load(Ordering::SeqCst) + self.own_generation.load(Ordering::SeqCst)
    }

    pub(super) fn end_generation(&self) {
        self.family.generation.fetch_add(1, Ordering::SeqCst);
        self.close_idle();
    }

    /// Drops the connections that are not in use, without closing them properly. If one of them was silent or lost, the
    /// others usually are too, and to try them one after another would take longer than to connect.
    pub(super) fn drop_idle(&self) {
        drop(self.take_idle());
    }

    pub(super) fn close_idle(&self) {
        for idle in self.take_idle() {
            idle.pooled.close();
        }
    }

    pub(super) async fn connect(&self) -> Result<Pooled, DbErr> {
        // Read before the connection is opened: an end of the generation in the meantime also applies to this
        // connection.
        let mut generation = self.generation();
        let (connection, identity) = self.server.connect().await?;
        let server = identity.incarnation.number();
        let before = self.family.server.swap(server, Ordering::SeqCst);
        if before != 0 && before != server {
            // The previous connections lead to another server. Their data may be from before a failover.
            self.end_generation();
            generation += 1;
        }
        Ok(Pooled {
            connection,
            identity,
            opened: Instant::now(),
            generation,
            is_synced: true,
        })
    }

    /// Returns the connection if it is usable.
    pub(super) async fn verified(&self, idle: Idle) -> Option<Pooled> {
        let (mut pooled, since) = (idle.pooled, idle.since.elapsed());
        if !self.is_remote() {
            return Some(pooled);
        }
        if pooled.generation != self.generation() || since >= MAX_IDLE_TIME {
            pooled.close();
            return None;
        }
        if since < TRUSTED_IDLE_TIME {
            return Some(pooled);
        }
        match within(Some(VERIFICATION_TIMEOUT), pooled.verify()).await {
            Ok(()) => Some(pooled),
            Err(error) => {
                self.metrics.failed(&error);
                self.judge(&error, pooled.generation);
                None
            }
        }
    }

    /// Closes the connections that an error shows to be unusable. `generation` is that of the connection on which it
    /// occurred. Returns whether that connection has to be closed.
    pub(super) fn judge(&self, error: &DbErr, generation: u64) -> bool {
        match DbErrorKind::of(error) {
            // A late error of an older generation brings no news.
            DbErrorKind::WrongServer if generation == self.generation() => self.end_generation(),
            DbErrorKind::WrongServer => {}
            // The other connections of this pool have prepared the same statements.
            DbErrorKind::Stale => self.close_idle(),
            _ if is_broken(error) => self.drop_idle(),
            _ => return false,
        }
        true
    }

    pub(super) fn put_back(&self, pooled: Pooled) {
        let is_outdated = pooled.generation != self.generation() || pooled.opened.elapsed() > MAX_AGE;
        if self.is_remote() && is_outdated {
            return pooled.close();
        }
        let since = Instant::now();
        self.idle().push(Idle { pooled, since });
    }
}
