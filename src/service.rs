//! Policy and transactions: what the service promises, on top of `store` and below `grpc` and `cli`.

pub mod accounts;
pub mod admin;
pub mod audit;
pub mod change_log;
pub mod codes;
mod gather;
pub mod hasher;
pub mod outbox;
pub mod password_policy;
mod retry;
pub mod service_keys;
pub mod sessions;
#[cfg(test)]
mod testing;
pub mod throttle;
