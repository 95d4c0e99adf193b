//! The binary: see [`phone_identity::cli`].

use std::process::ExitCode;

/// mimalloc is faster than the system allocator when many threads allocate, as for hashing and small messages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    phone_identity::cli::main()
}
