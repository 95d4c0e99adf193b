//! Every RPC has a target, and every target passes its corpus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::*;
use crate::proto::DESCRIPTORS;

/// Values for each text field of a request: valid and invalid ones.
const TEXTS: [&str; 6] = [
    "",
    "+998901234567",
    "a quiet lake at dawn 7",
    "0199b4d0-0000-7000-8000-000000000000",
    "\u{202e}1 OR 1=1",
    "5f1d5b5f-3bdf-4b39-9a3b-2f9f4f1f8c11",
];

/// Maximum nesting of messages in a generated request.
const MAX_DEPTH: usize = 4;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| file.unwrap().path()).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn contract() -> Vec<FileDescriptorProto> {
    let mut files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    files.retain(|file| file.package().starts_with("phone_identity."));
    files
}

/// Returns the name of each target of a request, and the type of the request.
fn requests(files: &[FileDescriptorProto]) -> Vec<(String, String)> {
    let services = files.iter().flat_map(|file| &file.service);
    services
        .flat_map(|service| &service.method)
        .map(|method| (snake_case(method.name()), method.input_type().to_owned()))
        .collect()
}

fn message<'a>(files: &'a [FileDescriptorProto], type_name: &str) -> Option<&'a DescriptorProto> {
    let name = type_name.rsplit('.').next()?;
    let mut messages = files.iter().flat_map(|file| &file.message_type);
    messages.find(|message| message.name() == name)
}

/// Encodes a request in which every field is set.
fn filled(files: &[FileDescriptorProto], type_name: &str, text: &str, number: u64, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(message) = message(files, type_name) else {
        return bytes;
    };
    for field in &message.field {
        let tag = u32::try_from(field.number()).unwrap();
        let content = match field.r#type() {
            Type::String | Type::Bytes => text.as_bytes().to_vec(),
            Type::Message if depth < MAX_DEPTH => filled(files, field.type_name(), text, number, depth + 1),
            Type::Message => Vec::new(),
            _ => {
                encode_key(tag, WireType::Varint, &mut bytes);
                encode_varint(number, &mut bytes);
                continue;
            }
        };
        encode_key(tag, WireType::LengthDelimited, &mut bytes);
        encode_varint(content.len() as u64, &mut bytes);
        bytes.extend(content);
    }
    bytes
}

#[test]
fn the_corpus_reveals_no_fault() {
    for (name, target) in targets() {
        let folder = corpus().join(name);
        // A new RPC begins without inputs: `every_request_of_the_contract_is_fuzzed` generates some.
        let is_request = VALUES.iter().all(|(value, _)| *value != name);
        if is_request && !folder.exists() {
            continue;
        }
        let files = files_in(&folder);
        assert!(!files.is_empty(), "{name} has no corpus");
        for path in files {
            // A failure shows the path.
            eprintln!("{}", path.display());
            target(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let known: BTreeSet<String> = targets().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(known.len(), targets().count(), "two targets have the same name");
    for folder in files_in(&corpus()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(known.contains(name), "{name} has no target");
    }
}

#[test]
fn every_request_of_the_contract_is_fuzzed() {
    let files = contract();
    let requests = requests(&files);
    assert!(requests.len() >= 10);
    for (name, type_name) in &requests {
        let (_, target) = fuzzed::REQUESTS
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} has no row in REQUESTS of src/grpc/fuzzed.rs"));
        target(&[]);
        for text in TEXTS {
            for number in [0, 1, 2, u64::from(u32::MAX)] {
                eprintln!("{name}: {text:?}, {number}");
                target(&filled(&files, type_name, text, number, 0));
            }
        }
    }
    let names: BTreeSet<&str> = requests.iter().map(|(name, _)| name.as_str()).collect();
    let rows: BTreeSet<&str> = fuzzed::REQUESTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(rows, names);
}
