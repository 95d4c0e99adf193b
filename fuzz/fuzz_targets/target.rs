//! The binary of all fuzz targets. `FUZZ_TARGET` names the target; without it, the binary prints the names of all.

#![no_main]

use std::env;
use std::process;
use std::sync::OnceLock;

use phone_identity::fuzzing::{Target, targets};

static TARGET: OnceLock<Target> = OnceLock::new();

fn select() {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    match targets().find(|(known, _)| *known == name) {
        Some((_, target)) => {
            let _ = TARGET.set(target);
        }
        None => {
            for (name, _) in targets() {
                println!("{name}");
            }
            process::exit(i32::from(!name.is_empty()));
        }
    }
}

libfuzzer_sys::fuzz_target!(
    init: select(),
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(bytes);
        }
    }
);
