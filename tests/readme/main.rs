//! README.md says what is true: its commands are run and its tables compared.
//!
//! The tour (every `console` block of the README, in one shell) runs against the real binary with grpcurl and the
//! clients of Python and Node, which `make test-tools` installs. After a change that is meant,
//! `README_BLESS=1 cargo test --test readme` writes into the README what the commands and the help print now.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

mod metrics;
mod server;
mod shell;
mod tables;
mod tour;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project.
fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the README is to be changed and not to be compared.
fn is_blessing() -> bool {
    std::env::var_os("README_BLESS").is_some_and(|value| !value.is_empty())
}

/// Changes the README. Tests run side by side, so one change follows the other.
fn bless(change: impl FnOnce(&str) -> String) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap();
    let readme = change(&read("README.md"));
    fs::write(root().join("README.md"), readme).unwrap();
}

/// Where grpcurl and Python are.
fn tools() -> PathBuf {
    let tools = std::env::var_os("PHONE_IDENTITY_TEST_TOOLS").filter(|path| !path.is_empty());
    let tools = tools.map_or_else(|| root().join(".tools/venv"), PathBuf::from);
    let bin = tools.join("bin");
    assert!(
        bin.join("grpcurl").exists(),
        "there is no grpcurl in {}: run `make test-tools`",
        bin.display()
    );
    bin
}

/// The clients that the README shows are the files that the tour runs.
#[test]
fn the_clients_are_shown_as_they_are() {
    let readme = read("README.md");
    for (language, path) in [
        ("python", "tests/foreign/snippet.py"),
        ("js", "tests/foreign/snippet.mjs"),
    ] {
        let block = format!("```{language}\n{}```\n", read(path));
        assert!(readme.contains(&block), "README.md does not show {path} as it is");
    }
}
