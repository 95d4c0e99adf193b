//! The binary: see [`phone_identity::cli`].

use std::process::ExitCode;

/// Hashing and small messages allocate from many threads, at which it is faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    phone_identity::cli::main()
}
