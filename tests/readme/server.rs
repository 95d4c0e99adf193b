//! The real binary, serving in a folder of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_phone-identity");

/// Hashes that take no time, since none of them is shown.
const CHEAP_HASHES: [&str; 2] = ["--argon2-memory-kib=64", "--argon2-iterations=1"];

/// A serving process. It is killed when it is dropped.
pub(crate) struct Server {
    pub(crate) address: String,
    folder: Arc<TempDir>,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the binary on a free port, with these flags, and waits for it to print which.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), "server.log", flags)
    }

    /// Starts another one in the same folder, on the same database, where callers need a service key.
    pub(crate) fn start_with_keys(&self) -> Self {
        Self::start_in(self.folder.clone(), "keys.log", &["--require-service-key"])
    }

    fn start_in(folder: Arc<TempDir>, log: &str, flags: &[&str]) -> Self {
        let log = folder.path().join(log);
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen=127.0.0.1:0"])
            .args(CHEAP_HASHES)
            .args(flags)
            .env_clear()
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self {
            address: String::new(),
            folder,
            child,
            stdout,
        };
        server.address = server.printed("listening on ");
        server
    }

    /// The rest of the next line that the process prints.
    pub(crate) fn printed(&mut self, before: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let log = || fs::read_to_string(self.folder.path().join("server.log")).unwrap();
        line.trim_end()
            .strip_prefix(before)
            .unwrap_or_else(|| panic!("no {before:?} in {line:?}; {}", log()))
            .to_owned()
    }

    /// The working directory of the process, with its database.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
