//! The real binary, serving in a folder of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_phone-identity");

/// A serving process. Dropping it kills the process.
pub(crate) struct Server {
    folder: TempDir,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the binary on a free port with these flags, and waits until it listens.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen=127.0.0.1:0"])
            .args(flags)
            .env_clear()
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self {
            folder,
            child,
            stdout,
        };
        server.printed("listening on ");
        server
    }

    /// Returns the rest of the next line that the process prints.
    pub(crate) fn printed(&mut self, before: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let log = || fs::read_to_string(self.folder.path().join("server.log")).unwrap();
        line.trim_end()
            .strip_prefix(before)
            .unwrap_or_else(|| panic!("no {before:?} in {line:?}; {}", log()))
            .to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process can have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
