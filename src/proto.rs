//! The contract, as generated from `proto/phone_identity/v1`.

/// Messages, client and server of package `phone_identity.v1`. Documentation is in the proto files.
pub mod v1 {
    #![allow(
        missing_docs,
        unused_qualifications,
        clippy::missing_errors_doc,
        clippy::must_use_candidate,
        clippy::needless_pass_by_value,
        reason = "generated code"
    )]
    tonic::include_proto!("phone_identity.v1");
}

/// The encoded file descriptor set of the contract, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Gives a message a `Debug` that shows its name only.
macro_rules! redacted_debug {
    ($message:ident) => {
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    };
}

// One line for every message of the contract.
include!(concat!(env!("OUT_DIR"), "/debug.rs"));
