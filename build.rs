//! Build script: compiles the contract in `proto/` with protox, so that the machine needs no protoc, keeps the
//! descriptor set for server reflection, and determines the commit of the source.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use protox::prost::Message as _;

/// Directory of the contract, relative to this file.
const PROTO_DIR: &str = "proto";

/// Proto package of the contract.
const PACKAGE: &str = "phone_identity.v1";

/// Variable with the commit, for builds without a git repository, such as of a container image.
const COMMIT: &str = "PHONE_IDENTITY_COMMIT";

fn main() -> Result<(), Box<dyn Error>> {
    name_the_commit();
    println!("cargo:rerun-if-changed={PROTO_DIR}");
    let descriptors = protox::compile(
        [
            "phone_identity/v1/audit.proto",
            "phone_identity/v1/error.proto",
            "phone_identity/v1/phone_identity.proto",
            "phone_identity/v1/phone_identity_admin.proto",
            "phone_identity/v1/phone_verification.proto",
        ],
        [PROTO_DIR],
    )?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Messages contain passwords, tokens and phone numbers, which a derived `Debug` would print. Their own `Debug`
    // prints the name only.
    let messages: Vec<String> = descriptors
        .file
        .iter()
        .filter(|file| file.package() == PACKAGE)
        .flat_map(|file| file.message_type.iter().map(|message| message.name().to_owned()))
        .collect();
    let debug: String = messages
        .iter()
        .map(|name| format!("redacted_debug!({name});\n"))
        .collect();
    fs::write(out_dir.join("debug.rs"), debug)?;
    tonic_prost_build::configure()
        .skip_debug(messages.iter().map(|name| format!(".{PACKAGE}.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}

/// Sets `PHONE_IDENTITY_COMMIT` for `env!`: from the environment, otherwise from git, otherwise `unknown`.
fn name_the_commit() {
    println!("cargo:rerun-if-env-changed={COMMIT}");
    let given = env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit_of_git).filter(|commit| {
        // The commit becomes part of --version and a label, so it has to be one word.
        commit.len() <= 40 && commit.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    println!(
        "cargo:rustc-env={COMMIT}={}",
        commit.as_deref().unwrap_or("unknown")
    );
}

/// Returns the commit that is checked out, if this directory is the root of a repository. Sources that were unpacked
/// inside of another repository do not belong to its commit.
fn commit_of_git() -> Option<String> {
    let root = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if root != fs::canonicalize(".").ok()? {
        return None;
    }
    // Files that change when a commit is checked out or created. A missing file would make cargo rerun this always.
    let reference = git(&["rev-parse", "--symbolic-full-name", "HEAD"])?;
    for name in ["HEAD", "logs/HEAD", &reference, "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).is_file() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Returns the line that git prints. `None`: git is missing or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| line.trim().to_owned())
}
