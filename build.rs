//! Compiles the contract in `proto/` with protox, so that no protoc is needed on the machine, and keeps the descriptor
//! set for server reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message as _;

/// The contract, relative to this file.
const PROTO_DIR: &str = "proto";

/// The package of the contract.
const PACKAGE: &str = "phone_identity.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_DIR}");
    let descriptors = protox::compile(
        [
            "phone_identity/v1/audit.proto",
            "phone_identity/v1/error.proto",
            "phone_identity/v1/phone_identity.proto",
            "phone_identity/v1/phone_identity_admin.proto",
        ],
        [PROTO_DIR],
    )?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Messages carry passwords, tokens and phone numbers, which a derived `Debug` would print. Theirs says the name only.
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
