//! Identity of an open SQLite file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The file of the database, by its device and inode. SQLite would continue to accept writes to a file that was deleted
/// or replaced under the service, and those writes would be lost.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Fails if the name leads to another file or to none. Costs one system call, for a local file.
    pub(super) fn check(&self) -> io::Result<()> {
        let is_same =
            fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode));
        if is_same {
            return Ok(());
        }
        let why = format!("the file {} was deleted or replaced", self.path.display());
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }
}
