//! The service as its callers see it: the generated client over a real connection, each test on its own server and
//! database, which is of the backend that `TEST_DATABASE` names (SQLite). One file an RPC; `access`, `fairness`,
//! `hashing`, `passwords`, `races`, `wire`, `logs`, `metrics`, `traces`, `healthcheck`, `languages`, `process`,
//! `shutdown`, `commands`, `replicas`, `network`, `old_plans`, `output` and `database_failover` are about all of them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod access;
mod admin;
mod anonymous;
mod audit;
mod authenticate;
mod clocks;
mod codes;
mod commands;
mod contention;
mod create_superuser;
mod database_failover;
mod database_start;
mod deactivate_profile;
mod delete_profile;
mod fairness;
mod hashing;
mod healthcheck;
mod languages;
mod list_sessions;
mod lists;
mod logs;
mod metrics;
mod migrations;
mod network;
mod old_plans;
mod output;
mod passwords;
mod process;
mod races;
mod register;
mod replicas;
mod restore;
mod revocation;
mod revoke_session;
mod revoke_sessions;
mod rpcs;
mod secret_files;
mod shutdown;
mod sqlite;
mod support;
mod terminal;
mod throttle;
mod traces;
mod update_profile;
mod upgrades;
mod validate_session;
mod wire;
