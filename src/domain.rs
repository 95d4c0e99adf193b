//! Domain model: value types and pure rules, without database, network or clock.

pub mod access;
pub mod audit;
pub mod code;
pub mod message;
pub mod network;
pub mod password;
pub mod phone;
pub mod registration;
pub mod request_id;
pub mod rights;
pub mod rules;
pub mod secret_keys;
pub mod session;
pub mod sms_limits;
pub mod text;
pub mod throttle;
pub mod token;
pub mod user;

/// The operating system returned no random bytes.
pub type RandomError = getrandom::Error;
