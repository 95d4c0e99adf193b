//! The RPCs of the contract and their classes. The tests of classes share one table, [`classes`]: `access/matrix.rs`
//! (callers), `admin/fresh.rs` (fresh sign-ins), `admin/hidden.rs` (hidden users) and `codes/ending.rs` (codes that
//! end).
//!
//! The table is compared with the compiled descriptors: an RPC without a row fails
//! `every_rpc_of_the_contract_has_a_class`.

mod table;

use std::collections::BTreeSet;

use phone_identity::proto::DESCRIPTORS;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::admin::fresh::Target;
use crate::codes::ending::Event;

const PACKAGE: &str = "phone_identity.v1";

/// The class of an RPC: the results that the tests expect.
pub(crate) struct RpcClass {
    /// `Service/Method`.
    pub(crate) rpc: &'static str,
    /// The right that the calling service needs.
    pub(crate) right: &'static str,
    /// The reason of the response to each caller, in the order of the columns of `access/matrix.rs`.
    pub(crate) answers: [&'static str; 9],
    /// Administration only: which fields of the request matter, the targets of the call, and the targets for which the
    /// administrator needs a fresh sign-in.
    pub(crate) fresh: &'static [(&'static str, &'static [Target], &'static [Target])],
    /// Events by which this RPC ends the outstanding codes of an account.
    pub(crate) ends_codes: &'static [Event],
    /// Events by which this RPC leaves the outstanding codes of an account valid.
    pub(crate) keeps_codes: &'static [Event],
    /// Encodes a request that succeeds if the caller may make it.
    pub(crate) request: fn(&RequestScene) -> Vec<u8>,
}

impl RpcClass {
    /// `package.Service/Method`: the path of a call without its leading slash.
    pub(crate) fn path(&self) -> String {
        format!("{PACKAGE}.{}", self.rpc)
    }
}

/// The values that a request is made of.
pub(crate) struct RequestScene {
    /// The session token of the caller. Empty: the call has none.
    pub(crate) token: String,
    /// The phone number of the caller.
    pub(crate) phone_number: String,
    /// The user that the request concerns.
    pub(crate) user_id: String,
    /// The etag of that user.
    pub(crate) etag: String,
}

/// Returns the classes of all RPCs.
pub(crate) fn classes() -> &'static [RpcClass] {
    table::CLASSES
}

/// A field of a request. The path has the names of the enclosing fields, with dots between them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RequestField {
    /// `Service/Method`.
    pub(crate) rpc: String,
    pub(crate) path: String,
    /// The number of the field in its message.
    pub(crate) number: u32,
}

impl RequestField {
    /// The name of the method.
    pub(crate) fn method(&self) -> &str {
        self.rpc.rsplit('/').next().unwrap()
    }

    /// The name of the field in its message.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap()
    }

    /// Sets this field in an encoded request. Only for a text field of the request itself: the last occurrence of a
    /// field is valid, and a repeated field has one more element.
    pub(crate) fn set(&self, request: &mut Vec<u8>, text: &str) {
        assert_eq!(self.name(), self.path, "a field of an enclosed message");
        encode_key(self.number, WireType::LengthDelimited, request);
        encode_varint(text.len() as u64, request);
        request.extend(text.as_bytes());
    }
}

/// Returns all fields of all requests.
pub(crate) fn request_fields() -> BTreeSet<RequestField> {
    let files = contract();
    let message = |type_name: &str| -> &DescriptorProto {
        let name = type_name.rsplit('.').next().unwrap();
        let mut messages = files.iter().flat_map(|file| &file.message_type);
        messages.find(|message| message.name() == name).unwrap()
    };
    let mut fields = BTreeSet::new();
    for (rpc, input) in methods(&files) {
        let mut open = vec![(String::new(), input)];
        while let Some((prefix, type_name)) = open.pop() {
            for field in &message(&type_name).field {
                let path = format!("{prefix}{}", field.name());
                if field.type_name().starts_with(".phone_identity.") && is_message(&files, field.type_name())
                {
                    open.push((format!("{path}."), field.type_name().to_owned()));
                }
                fields.insert(RequestField {
                    rpc: rpc.clone(),
                    path,
                    number: u32::try_from(field.number()).unwrap(),
                });
            }
        }
    }
    fields
}

fn is_message(files: &[FileDescriptorProto], type_name: &str) -> bool {
    let name = type_name.rsplit('.').next().unwrap();
    let mut messages = files.iter().flat_map(|file| &file.message_type);
    messages.any(|message| message.name() == name)
}

fn contract() -> Vec<FileDescriptorProto> {
    let mut files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    files.retain(|file| file.package() == PACKAGE);
    files
}

/// Returns each RPC as `Service/Method`, with the type of its request.
fn methods(files: &[FileDescriptorProto]) -> Vec<(String, String)> {
    let services = files.iter().flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| {
                let rpc = format!("{}/{}", service.name(), method.name());
                (rpc, method.input_type().to_owned())
            })
        })
        .collect()
}

#[test]
fn every_rpc_of_the_contract_has_a_class() {
    let rows: BTreeSet<&str> = classes().iter().map(|class| class.rpc).collect();
    assert_eq!(rows.len(), classes().len(), "two rows of one RPC");
    let methods = methods(&contract());
    let expected: BTreeSet<&str> = methods.iter().map(|(rpc, _)| rpc.as_str()).collect();
    assert_eq!(rows, expected, "an RPC needs a row in tests/api/rpcs/table.rs");
}
