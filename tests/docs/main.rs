//! Executable documentation: the commands of the documents run, and their tables are compared with the code.
//!
//! `document` parses the Markdown, `session` runs the commands of one document, and `documents` lists the documents.
//! The commands need grpcurl and the gRPC clients of Python and Node, which `make test-tools` installs. After an
//! intended change, `DOCS_BLESS=1 cargo test --test docs` writes the present outputs and tables into the documents.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

mod commands;
mod document;
mod documents;
mod help;
mod links;
mod metrics;
mod names;
mod server;
mod session;
mod tables;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of a file of the repository.
fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns whether the tests write the documents instead of comparing them.
fn is_blessing() -> bool {
    std::env::var_os("DOCS_BLESS").is_some_and(|value| !value.is_empty())
}

/// Changes a document. A lock on the file puts the changes in order: several tests, in threads or processes, can write
/// the same document.
fn bless(path: &str, change: impl FnOnce(&str) -> String) {
    let lock = File::open(root().join(path)).unwrap();
    lock.lock().unwrap();
    let text = read(path);
    let changed = change(&text);
    if changed != text {
        fs::write(root().join(path), changed).unwrap();
    }
}

/// Returns the folder with grpcurl and Python.
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
