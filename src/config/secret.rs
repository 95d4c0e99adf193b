//! Secrets, which come by the environment or by a file, as Kubernetes and Docker mount them.

use std::path::Path;

use secrecy::SecretString;

use super::ConfigError;
use crate::secret_file;

/// The secret that is given by the variable `name`, or in the file of the variable `name` with `_FILE` behind it. `None`: by
/// neither.
///
/// # Errors
/// When it is given by both, or the file cannot be read or is open to other users.
pub(super) fn secret(
    name: &'static str,
    given: Option<&SecretString>,
    file: Option<&Path>,
    allow_readable: bool,
) -> Result<Option<SecretString>, ConfigError> {
    match (given, file) {
        (Some(_), Some(_)) => Err(ConfigError::SecretTwice(name)),
        (Some(secret), None) => Ok(Some(secret.clone())),
        (None, Some(file)) => {
            let text = secret_file::read_text(file, allow_readable);
            text.map(Some)
                .map_err(|error| ConfigError::SecretFile(name, error))
        }
        (None, None) => Ok(None),
    }
}
