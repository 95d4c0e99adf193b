//! The contract, as generated from `proto/phone_identity/v1`.

use prost::Message as _;
use prost_types::FileDescriptorSet;

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

/// All RPCs of the contract.
///
/// # Errors
/// When the compiled-in descriptors cannot be read.
pub fn rpcs() -> Result<Vec<Rpc>, prost::DecodeError> {
    let mut rpcs = Vec::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS)?.file {
        for service in &file.service {
            rpcs.extend(service.method.iter().map(|method| Rpc {
                package: file.package().to_owned(),
                service: service.name().to_owned(),
                method: method.name().to_owned(),
            }));
        }
    }
    Ok(rpcs)
}

/// What an RPC is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rpc {
    /// The package, such as `phone_identity.v1`.
    pub package: String,
    /// The service, such as `PhoneIdentity`.
    pub service: String,
    /// The method, such as `Register`.
    pub method: String,
}

impl Rpc {
    /// `phone_identity.v1.PhoneIdentity/Register`: the path of a call without its leading slash.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}/{}", self.package, self.service, self.method)
    }
}

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
