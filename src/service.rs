//! Policy and transactions: what the service promises, on top of `store` and below `grpc` and `cli`.

pub mod accounts;
pub mod admin;
pub mod audit;
pub mod codes;
pub mod error;
pub mod hasher;
mod housekeeping;
pub(crate) mod label_counts;
pub mod outbox;
pub mod password_policy;
mod passwords;
mod policy;
mod reauthentication;
mod retry;
pub mod revocation;
pub mod service_keys;
mod session_issuer;
pub mod sessions;
pub mod shared;
#[cfg(test)]
pub(crate) mod testing;
pub mod throttle;
pub mod unit_of_work;
