//! Secret file reader: rejects files that all users of the machine can read or write, as ssh does with private keys.
//!
//! Group permissions are not checked: Kubernetes assigns the group of the Pod (`fsGroup`) to secrets and volumes, and
//! mounts them with mode 0440 or 0660. Symbolic links are followed, because each file of a Kubernetes Secret is one.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{SecretSlice, SecretString};
use thiserror::Error;

/// Maximum size of a secret file, in bytes. The largest ones contain a certificate chain and a key.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Permission bits of other users: read and write.
const OTHERS: u32 = 0o006;

/// Why a secret file is rejected. The text completes a sentence that begins with the file, and shows none of its
/// content.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Users other than its owner and its group can read or write it.
    #[error(
        "is open to all users of this machine (mode {0:04o}): run chmod o-rw on it (Kubernetes: defaultMode 0440), \
         or set --allow-readable-secrets"
    )]
    OpenToOthers(u32),
    /// The file is too large to be a secret.
    #[error("has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The file is not a text.
    #[error("is not UTF-8")]
    NotText,
}

/// Reads a secret file.
///
/// # Errors
/// When the file cannot be read, has more than [`MAX_BYTES`], or is open to other users without `allow_readable`.
pub fn read(path: &Path, allow_readable: bool) -> Result<SecretSlice<u8>, SecretFileError> {
    Ok(read_bytes(path, allow_readable)?.into())
}

/// Reads a secret text file. Removes a byte order mark, which some editors add.
///
/// # Errors
/// As [`read`], and when the file is not UTF-8.
pub fn read_text(path: &Path, allow_readable: bool) -> Result<SecretString, SecretFileError> {
    let bytes = Zeroizing::new(read_bytes(path, allow_readable)?);
    let text = str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText)?;
    Ok(SecretString::from(text.trim_start_matches('\u{feff}')))
}

fn read_bytes(path: &Path, allow_readable: bool) -> Result<Vec<u8>, SecretFileError> {
    let file = File::open(path)?;
    // Checks the open file, not its path, so that the file that is read is the one that was checked.
    if !allow_readable {
        check(&file.metadata()?)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(SecretFileError::TooLarge);
    }
    Ok(bytes)
}

/// Checks that other users can neither read nor write a file.
///
/// # Errors
/// [`SecretFileError::OpenToOthers`].
pub(crate) fn check(metadata: &Metadata) -> Result<(), SecretFileError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        Err(SecretFileError::OpenToOthers(mode))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret as _;

    use super::*;

    /// Tries every combination of permissions: only the read and write bits of other users matter.
    #[test]
    fn files_that_others_can_read_or_write_are_refused_unless_they_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("secret"), folder.path().join("link"));
        fs::write(&path, "hunter2").unwrap();
        symlink(&path, &link).unwrap();
        for mode in 0o400..=0o777 {
            // The owner must be able to read the file.
            if mode & 0o400 == 0 {
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let is_open = mode % 8 > 1;
            for path in [&path, &link] {
                match read_text(path, false) {
                    Ok(text) => assert!(!is_open && text.expose_secret() == "hunter2", "{mode:04o}"),
                    Err(error) => {
                        assert!(is_open, "{mode:04o}");
                        let text = error.to_string();
                        assert!(text.contains(&format!("(mode {mode:04o})")), "{text}");
                        assert!(text.contains("--allow-readable-secrets"), "{text}");
                    }
                }
                assert_eq!(read_text(path, true).unwrap().expose_secret(), "hunter2");
                assert_eq!(read(path, true).unwrap().expose_secret(), b"hunter2");
            }
        }
    }

    #[test]
    fn missing_large_and_binary_files_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let error = |allow_readable| read_text(&path, allow_readable).unwrap_err().to_string();
        assert!(
            error(false).starts_with("cannot be read: No such file"),
            "{}",
            error(false)
        );
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(error(true), "is not UTF-8");
        let largest = vec![b'x'; 1024 * 1024];
        fs::write(&path, &largest).unwrap();
        assert!(read_text(&path, true).is_ok());
        fs::write(&path, [&largest[..], b"x"].concat()).unwrap();
        assert_eq!(error(true), "has more than 1048576 bytes");
        assert!(matches!(
            read(Path::new("/dev/zero"), true),
            Err(SecretFileError::TooLarge)
        ));
        let folder = read(folder.path(), true).unwrap_err().to_string();
        assert!(folder.starts_with("cannot be read: "), "{folder}");
    }
}
