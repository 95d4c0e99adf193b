//! The RPCs of the contract, by the compiled descriptors: a table of tests that lacks a new one fails.

use std::collections::BTreeSet;

use phone_identity::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// All RPCs, as `Service/Rpc`.
pub(crate) fn rpcs() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect()
}
