//! The tables, as SeaORM entities.

pub(super) mod change_log;
pub(super) mod identity_change;
pub(super) mod lock;
pub(super) mod session;
pub(super) mod user;
