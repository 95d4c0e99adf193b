//! The tables, as SeaORM entities.

pub(super) mod lock;
pub(super) mod session;
pub(super) mod user;
