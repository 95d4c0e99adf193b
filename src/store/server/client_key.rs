//! Permission check of the client key that a database URL names.

use std::{env, fs};

use secrecy::{ExposeSecret as _, SecretString};

use crate::secret_file;
use crate::store::StoreError;

/// Rejects a client key that other users can read: the file of `sslkey` or `ssl-key`, or for PostgreSQL of the variable
/// `PGSSLKEY`, which sqlx reads for each connection. A file that cannot be read makes the first connection fail.
pub(super) fn check_client_key(url: &SecretString, allow_readable: bool) -> Result<(), StoreError> {
    let url = url.expose_secret();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let by_variable = url
        .starts_with("postgres")
        .then(|| env::var("PGSSLKEY").ok())
        .flatten();
    let by_variable = by_variable.map(|file| ("PGSSLKEY".into(), file.into()));
    for (name, file) in form_urlencoded::parse(query.as_bytes()).chain(by_variable) {
        if !allow_readable
            && matches!(name.as_ref(), "sslkey" | "ssl-key" | "PGSSLKEY")
            && let Ok(metadata) = fs::metadata(file.as_ref())
            && let Err(error) = secret_file::check(&metadata)
        {
            return Err(StoreError::Unsuitable(format!("the file of {name} {error}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_client_key_that_is_open_to_other_users_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a key");
        fs::write(&key, "").unwrap();
        let key = key.to_str().unwrap().replace(' ', "%20");
        for (mode, url, is_rejected) in [
            (
                0o644,
                format!("postgres://h/d?sslmode=require&sslkey={key}#x"),
                true,
            ),
            (0o602, format!("mysql://h/d?ssl-key={key}"), true),
            (0o640, format!("mysql://h/d?ssl-key={key}"), false),
            (0o644, format!("postgres://h/d?sslcert={key}"), false),
            (0o644, format!("postgres://h/d?sslkey={key}.missing"), false),
            (0o644, "postgres://h/d".to_owned(), false),
        ] {
            let file = folder.path().join("a key");
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            let url = SecretString::from(url);
            let checked = check_client_key(&url, false);
            assert_eq!(checked.is_err(), is_rejected, "{mode:o} {checked:?}");
            assert!(check_client_key(&url, true).is_ok());
        }
    }
}
