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
mod retry;
pub mod revocation;
pub mod service_keys;
pub mod sessions;
#[cfg(test)]
pub(crate) mod testing;
pub mod throttle;
