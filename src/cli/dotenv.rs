//! Ownership check of `.env`: its settings can disable protection and name other hosts, so it is loaded only if no
//! other user can have written it. Other users can create a file in a shared working directory, such as `/tmp`.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::Failure;

/// Permission bits to write, of the group and of other users.
const WRITABLE: u32 = 0o022;

/// Opens `.env` in a directory. `None`: the file does not exist.
///
/// # Errors
/// When the file cannot be opened; when the file, or the link to it, belongs to a user other than root and the user of
/// this process; or when its group or other users can write it.
pub(super) fn open(folder: &Path) -> Result<Option<File>, Failure> {
    let unreadable = |error: io::Error| Failure::Unusable(format!(".env cannot be read: {error}"));
    let path = folder.join(".env");
    let link = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(unreadable)?,
    };
    // Opening a pipe of another user would wait for its writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(&path) {
        // A dangling link.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    // Metadata of the open file, so that no other file is read after the check.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::Unusable(".env is not read: it is not a file".to_owned()));
    }
    let user = rustix::process::geteuid().as_raw();
    problem(&link, &metadata, user).map_or(Ok(Some(file)), |why| {
        Err(Failure::Unusable(format!(".env is not read: {why}")))
    })
}

/// Returns the reason why a file is not trusted. `link` is its directory entry, which may be a link; `user` is the user
/// of the process.
fn problem(link: &Metadata, file: &Metadata, user: u32) -> Option<String> {
    let is_trusted = |owner| owner == 0 || owner == user;
    if let Some(owner) = [link.uid(), file.uid()]
        .into_iter()
        .find(|owner| !is_trusted(*owner))
    {
        return Some(format!(
            "it belongs to user {owner}, not to root or the user of this process ({user}): run chown on it"
        ));
    }
    let mode = file.permissions().mode() & 0o7777;
    (mode & WRITABLE != 0)
        .then(|| format!("users other than its owner can write it (mode {mode:04o}): run chmod go-w on it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn refusal(folder: &Path) -> Option<String> {
        match open(folder) {
            Ok(Some(_)) => None,
            Ok(None) => Some("none".to_owned()),
            Err(Failure::Unusable(why) | Failure::Failed(why)) => Some(why),
        }
    }

    #[test]
    fn a_dotenv_that_other_users_can_write_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(refusal(folder.path()).as_deref(), Some("none"));
        let path = folder.path().join(".env");
        fs::write(&path, "").unwrap();
        for mode in 0o400..=0o777 {
            if mode & 0o400 == 0 {
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = refusal(folder.path());
            let is_refused = mode & 0o020 != 0 || mode & 0o002 != 0;
            assert_eq!(why.is_some(), is_refused, "{mode:04o} {why:?}");
            if let Some(why) = why {
                assert!(
                    why.starts_with(".env is not read: ") && why.contains(&format!("(mode {mode:04o})")),
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn a_dotenv_of_another_user_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join(".env"), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "").unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(refusal(folder.path()), None);
        let (link, file) = (fs::symlink_metadata(&path).unwrap(), fs::metadata(&path).unwrap());
        let owner = file.uid();
        // A process of another user rejects it, unless the owner is root.
        assert_eq!(problem(&link, &file, owner + 1).is_some(), owner != 0);
        if rustix::process::geteuid().as_raw() != 0 {
            eprintln!("NOT RUN IN FULL: the owner of a file can be changed by root only");
            return;
        }
        for (of_link, of_file, user, is_refused) in [
            (0, 0, 1000, false),
            (1000, 1000, 1000, false),
            (0, 1000, 1000, false),
            (0, 1001, 1000, true),
            (1001, 0, 1000, true),
            (1001, 1000, 0, true),
            (1000, 1000, 0, true),
        ] {
            chown(&elsewhere, Some(of_file), None).unwrap();
            std::os::unix::fs::lchown(&path, Some(of_link), None).unwrap();
            let (link, file) = (fs::symlink_metadata(&path).unwrap(), fs::metadata(&path).unwrap());
            let why = problem(&link, &file, user);
            assert_eq!(why.is_some(), is_refused, "{of_link} {of_file} {user}: {why:?}");
            assert_eq!(refusal(folder.path()).is_some(), of_link != 0 || of_file != 0);
        }
        fs::remove_file(&elsewhere).unwrap();
        assert_eq!(refusal(folder.path()).as_deref(), Some("none"));
    }
}
