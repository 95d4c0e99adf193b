//! phone-identity: an identity service for users with phone numbers. It registers users, signs them in by password or
//! one-time code, and validates their sessions.
//!
//! A request passes through three layers. [`grpc`] parses the message into [`domain`] types and calls one method of a
//! [`service`]. The service owns policy, password hashing and the transaction. It uses the queries of [`store`].
//! [`service::error`] defines all failures. [`app`] builds the process, [`cli`] is the command line, and [`config`] has
//! the settings.

pub mod app;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod grpc;
pub mod i18n;
pub mod metrics;
pub mod proto;
pub mod secret_file;
pub mod service;
pub mod sms;
pub mod store;
pub mod telemetry;
