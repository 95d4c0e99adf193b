//! phone-identity: who is this phone number, does this password belong to it, and is this session still good?
//!
//! The way of a request is one way: [`grpc`] parses the message into words of the [`domain`], calls one method of a
//! [`service`], which owns policy, hashing and the transaction, and which stands on the queries of [`store`].
//! [`service::error`] has every failure. [`app`] wires it all; [`cli`] is the command line; [`config`] the settings.

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
