//! The tables, as SeaORM entities.

pub(super) mod attempt;
pub(super) mod audit_erasure;
pub(super) mod audit_event;
pub(super) mod challenge;
pub(super) mod change_log;
pub(super) mod device;
pub(super) mod heartbeat;
pub(super) mod identity_change;
pub(super) mod lock;
pub(super) mod outbox_message;
pub(super) mod service_key;
pub(super) mod session;
pub(super) mod sms_counter;
pub(super) mod user;

use sea_orm::{DbErr, QueryResult, TryGetable};

/// Reads the columns of a row one after another. A look-up of each column by its name takes several times as long.
pub(crate) struct Columns<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> Columns<'a> {
    /// Starts at the column with this index.
    pub(crate) fn from(row: &'a QueryResult, next: usize) -> Self {
        Self { row, next }
    }

    /// Returns the next column.
    pub(crate) fn take<T: TryGetable>(&mut self) -> Result<T, DbErr> {
        let column = self.next;
        self.next += 1;
        self.row.try_get_by_index(column)
    }
}
