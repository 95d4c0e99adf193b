#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phone_identity::fuzzing::run("pasted", bytes));
