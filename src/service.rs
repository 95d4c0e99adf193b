//! Policy and transactions: what the service promises, on top of `store` and below `grpc` and `cli`.

pub mod accounts;
pub mod hasher;
pub mod sessions;
