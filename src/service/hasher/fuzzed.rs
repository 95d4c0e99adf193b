//! Stored password hashes, as an attacker with write access to the database could make them.

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;

use super::HashError;
use super::engine::Engine;
use super::phc::{MAX_ITERATIONS, MAX_MEMORY_KIB, PhcHasher, Scheme};
use crate::domain::secret_keys::SecretKeys;

/// Maximum cost of a hash that a fuzzer computes, in blocks: it makes thousands of executions a second.
const AFFORDABLE: u64 = 256;

/// Reads a stored hash, and checks a password against it: both engines say the same, and neither computes what costs
/// too much.
///
/// # Panics
/// When it finds a fault.
pub(crate) fn phc(stored: &str) {
    let Ok(hash) = PasswordHash::new(stored) else {
        return;
    };
    let Ok(params) = Params::try_from(&hash) else {
        return;
    };
    let (Ok(today), Ok(peppers)) = (
        Params::new(8, 1, 1, None),
        SecretKeys::parse("k1:MDEyMzQ1Njc4OWFiY2RlZg"),
    ) else {
        return;
    };
    let scheme = Scheme {
        params: today,
        peppers,
    };
    let is_too_costly = params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_ITERATIONS;
    if !is_too_costly && u64::from(params.m_cost()) * u64::from(params.t_cost()) > AFFORDABLE {
        return;
    }
    let [fast, portable] = [Engine::Fast, Engine::Portable].map(|engine| {
        let outcome = PhcHasher::new(engine).matches(b"a quiet lake at dawn 7", &hash, &params, &scheme);
        match outcome {
            Ok(_) => assert!(!is_too_costly, "{params:?} was computed"),
            Err(HashError::TooCostly) => assert!(is_too_costly, "{params:?} was not computed"),
            Err(_) => {}
        }
        outcome.ok()
    });
    assert_eq!(fast, portable, "the engines differ");
}
