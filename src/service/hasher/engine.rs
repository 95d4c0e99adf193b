//! The two implementations of Argon2, and the memory that each keeps from one hash to the next.
//!
//! `argon2` is the reference here: it is widely used and runs everywhere. `argon2-rust` computes the same hashes about
//! twice as fast, with the widest vector instructions of the processor. It is young and unaudited, so the service uses
//! it only after it has passed the self-test against the reference ([`super::self_test`]).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use argon2_rust::params::{Memory as Kib, TagLen};
use clap::ValueEnum;

use super::HashError;

/// Requested implementation of Argon2.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum EngineChoice {
    /// The faster one, if it agrees with the reference on this machine.
    #[default]
    Auto,
    /// The reference.
    Portable,
}

/// Implementation that computes the hashes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// `argon2-rust`.
    Fast,
    /// `argon2`.
    Portable,
}

impl Engine {
    /// Name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "argon2-rust",
            Self::Portable => "argon2",
        }
    }
}

/// All inputs of a hash. The associated data is part of the parameters, as in PHC strings.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: &'a Params,
    pub(super) secret: &'a [u8],
    pub(super) salt: &'a [u8],
    pub(super) password: &'a [u8],
}

/// Memory of one thread. The first hash allocates it.
pub(super) enum HashMemory {
    Fast(Box<argon2_rust::Hasher>),
    Portable(Vec<Block>),
}

impl HashMemory {
    pub(super) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Fast => {
                let argon2 = argon2_rust::Argon2::new(
                    argon2_rust::Algorithm::Argon2id,
                    argon2_rust::Version::V0x13,
                    argon2_rust::Params::default(),
                );
                Self::Fast(Box::new(argon2.hasher()))
            }
            Engine::Portable => Self::Portable(Vec::new()),
        }
    }

    /// Computes a hash and fills all of `output`.
    ///
    /// # Errors
    /// Argon2 rejects the input, or there is no memory for it.
    pub(super) fn compute(&mut self, input: &Input<'_>, output: &mut [u8]) -> Result<(), HashError> {
        match self {
            Self::Portable(blocks) => portable(blocks, input, output),
            Self::Fast(hasher) => {
                let Some(argon2) = for_fast(input, output.len()) else {
                    return portable(&mut Vec::new(), input, output);
                };
                hasher.set_argon2(argon2);
                let data = input.params.data();
                match hasher.hash_into_with_ad(input.password, input.salt, input.secret, data, output) {
                    Ok(()) => Ok(()),
                    Err(argon2_rust::Error::MemoryAllocationError) => Err(HashError::NoMemory),
                    // The reference may accept an input that the faster engine rejects. Otherwise it returns the
                    // precise error.
                    Err(_) => portable(&mut Vec::new(), input, output),
                }
            }
        }
    }

    /// Frees the memory if it is more than `kib` KiB, after a hash with a higher cost.
    pub(super) fn keep_at_most(&mut self, kib: u32) {
        let kib = usize::try_from(kib).unwrap_or(usize::MAX);
        match self {
            Self::Fast(hasher) if hasher.reserved_blocks() > kib => hasher.clear(),
            Self::Portable(blocks) if blocks.len() > kib => *blocks = Vec::new(),
            Self::Fast(_) | Self::Portable(_) => {}
        }
    }
}

fn portable(blocks: &mut Vec<Block>, input: &Input<'_>, output: &mut [u8]) -> Result<(), HashError> {
    let argon2 = Argon2::new_with_secret(input.secret, input.algorithm, input.version, input.params.clone())?;
    let count = input.params.block_count();
    blocks
        .try_reserve_exact(count.saturating_sub(blocks.len()))
        .map_err(|_| HashError::NoMemory)?;
    blocks.resize_with(count.max(blocks.len()), Block::default);
    Ok(argon2.hash_password_into_with_memory(input.password, input.salt, output, &mut blocks[..count])?)
}

/// Converts an input for `argon2-rust`. `None`: `argon2-rust` does not support it.
fn for_fast(input: &Input<'_>, output_length: usize) -> Option<argon2_rust::Argon2> {
    let algorithm = match input.algorithm {
        Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
        Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
        Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
    };
    let version = match input.version {
        Version::V0x10 => argon2_rust::Version::V0x10,
        Version::V0x13 => argon2_rust::Version::V0x13,
    };
    let params = argon2_rust::Params::builder()
        .memory(Kib::kib(input.params.m_cost().into()))
        .passes(input.params.t_cost())
        .lanes(input.params.p_cost())
        .threads(1)
        .tag_len(TagLen::bytes(u64::try_from(output_length).ok()?))
        .build()
        .ok()?;
    Some(argon2_rust::Argon2::new(algorithm, version, params))
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), length)
    }

    /// The engines agree on all parameters, in memory that is kept from one hash to the next.
    #[test]
    fn both_engines_compute_the_same() {
        let costs = (1..=4_u32)
            .prop_flat_map(|lanes| (8 * lanes..=256, 1..=4_u32, Just(lanes), any::<(u8, bool, bool)>()));
        // Argon2 computes outputs of more than 64 bytes in another way.
        let texts = (
            bytes(0..=200),
            bytes(8..=64),
            bytes(0..=64),
            bytes(0..=32),
            4..=150_usize,
        );
        let mut config = Config::with_cases(4000);
        config.failure_persistence = None;
        let mut memories = [Engine::Fast, Engine::Portable].map(HashMemory::new);
        let memories = std::cell::RefCell::new(&mut memories);
        let outcome = TestRunner::new(config).run(&(costs, texts), |(costs, texts)| {
            let (memory, iterations, lanes, (algorithm, is_old, gives_back)) = costs;
            let (password, salt, secret, data, length) = texts;
            let params = ParamsBuilder::new()
                .m_cost(memory)
                .t_cost(iterations)
                .p_cost(lanes)
                .data(AssociatedData::new(&data).unwrap())
                .build()
                .unwrap();
            let algorithms = [Algorithm::Argon2d, Algorithm::Argon2i, Algorithm::Argon2id];
            let input = Input {
                algorithm: algorithms[usize::from(algorithm % 3)],
                version: if is_old { Version::V0x10 } else { Version::V0x13 },
                params: &params,
                secret: &secret,
                salt: &salt,
                password: &password,
            };
            prop_assert!(for_fast(&input, length).is_some(), "the fast engine accepts it");
            let outputs = memories.borrow_mut().each_mut().map(|memory| {
                let mut output = vec![0; length];
                memory.compute(&input, &mut output).unwrap();
                if gives_back {
                    memory.keep_at_most(100);
                }
                output
            });
            prop_assert_eq!(&outputs[0], &outputs[1]);
            Ok(())
        });
        outcome.unwrap();
    }

    #[test]
    fn both_engines_reject_an_invalid_input() {
        let params = Params::default();
        for engine in [Engine::Fast, Engine::Portable] {
            let input = Input {
                algorithm: Algorithm::Argon2id,
                version: Version::V0x13,
                params: &params,
                secret: &[],
                salt: b"short",
                password: b"",
            };
            let outcome = HashMemory::new(engine).compute(&input, &mut [0; 32]);
            assert!(
                matches!(outcome, Err(HashError::Parameters(argon2::Error::SaltTooShort))),
                "{engine:?}: {outcome:?}"
            );
        }
    }

    #[test]
    fn memory_above_the_limit_is_freed() {
        let mut memory = HashMemory::new(Engine::Fast);
        for (kib, kept) in [(64, 64), (128, 0), (32, 32), (64, 64)] {
            let params = Params::new(kib, 1, 1, None).unwrap();
            let input = Input {
                algorithm: Algorithm::Argon2id,
                version: Version::V0x13,
                params: &params,
                secret: &[],
                salt: b"somesalt",
                password: b"",
            };
            memory.compute(&input, &mut [0; 32]).unwrap();
            memory.keep_at_most(64);
            let HashMemory::Fast(hasher) = &memory else { return };
            assert_eq!(hasher.reserved_blocks(), kept);
        }
    }
}
