//! Raw hashing: what the cores give when nothing else is done.

use std::thread;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::machine;

/// The implementation of the hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// `argon2-rust`, which the service takes where it can.
    Fast,
    /// `argon2`, the reference.
    Portable,
}

const PASSWORD: &[u8] = b"mountains and rivers";
const SALT: &[u8] = b"sixteen bytes ok";

/// Hashes on one thread per core, with the default parameters of the service and reused memory. Returns hashes per
/// second.
pub(crate) fn per_second(engine: Engine, cores: &[usize], lasting: Duration) -> f64 {
    thread::scope(|scope| {
        let threads: Vec<_> = cores
            .iter()
            .map(|core| {
                scope.spawn(move || {
                    machine::pin(&[*core]);
                    count(engine, lasting)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn count(engine: Engine, lasting: Duration) -> f64 {
    let mut hash = hasher(engine);
    // The first takes its memory from the kernel.
    hash();
    let begun = Instant::now();
    let mut hashes = 0u32;
    while begun.elapsed() < lasting {
        hash();
        hashes += 1;
    }
    f64::from(hashes) / begun.elapsed().as_secs_f64()
}

fn hasher(engine: Engine) -> Box<dyn FnMut()> {
    let params = Params::default();
    assert_eq!(
        (params.m_cost(), params.t_cost(), params.p_cost()),
        (19_456, 2, 1)
    );
    let mut output = [0; 32];
    match engine {
        Engine::Portable => {
            let mut blocks = vec![Block::default(); params.block_count()];
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            Box::new(move || {
                argon2
                    .hash_password_into_with_memory(PASSWORD, SALT, &mut output, &mut blocks)
                    .unwrap();
                std::hint::black_box(output);
            })
        }
        Engine::Fast => {
            let params = argon2_rust::Params::builder()
                .memory(argon2_rust::params::Memory::kib(params.m_cost().into()))
                .passes(params.t_cost())
                .lanes(params.p_cost())
                .threads(1)
                .build()
                .unwrap();
            let argon2 = argon2_rust::Argon2::new(
                argon2_rust::Algorithm::Argon2id,
                argon2_rust::Version::V0x13,
                params,
            );
            let mut hasher = argon2.hasher();
            Box::new(move || {
                hasher.hash_into(PASSWORD, SALT, &mut output).unwrap();
                std::hint::black_box(output);
            })
        }
    }
}
