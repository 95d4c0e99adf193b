//! Compiles the contract in `proto/` with protox, so that no protoc is needed on the machine, and keeps the descriptor
//! set for server reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message as _;

/// The contract, relative to this file.
const PROTO_DIR: &str = "proto";

/// Messages that carry a password, a token or a phone number. They get no derived `Debug`, which would print it;
/// `src/proto.rs` gives them one that does not.
const SECRET_MESSAGES: [&str; 11] = [
    ".phone_identity.v1.AuthenticateRequest",
    ".phone_identity.v1.AuthenticateResponse",
    ".phone_identity.v1.CreateSuperuserRequest",
    ".phone_identity.v1.DeactivateProfileRequest",
    ".phone_identity.v1.DeleteProfileRequest",
    ".phone_identity.v1.RegisterRequest",
    ".phone_identity.v1.RegisterResponse",
    ".phone_identity.v1.RevokeSessionRequest",
    ".phone_identity.v1.UpdateProfileRequest",
    ".phone_identity.v1.User",
    ".phone_identity.v1.ValidateSessionRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_DIR}");
    let descriptors = protox::compile(
        [
            "phone_identity/v1/error.proto",
            "phone_identity/v1/phone_identity.proto",
        ],
        [PROTO_DIR],
    )?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .skip_debug(SECRET_MESSAGES)
        .compile_fds(descriptors)?;
    Ok(())
}
