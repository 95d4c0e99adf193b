//! Secrets, which come by the environment or by a file, as Kubernetes and Docker mount them.

use std::fs;
use std::path::Path;

use secrecy::SecretString;

use super::ConfigError;

/// The secret that is given by the variable `name`, or in the file of the variable `name` with `_FILE` behind it. `None`: by
/// neither.
///
/// # Errors
/// When it is given by both, or the file cannot be read.
pub(super) fn secret(
    name: &'static str,
    given: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, ConfigError> {
    match (given, file) {
        (Some(_), Some(_)) => Err(ConfigError::SecretTwice(name)),
        (Some(secret), None) => Ok(Some(secret.clone())),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).map_err(|error| ConfigError::SecretFile(name, error))?;
            // Some editors begin a file with a byte order mark, which is part of no secret.
            Ok(Some(SecretString::from(text.trim_start_matches('\u{feff}'))))
        }
        (None, None) => Ok(None),
    }
}
