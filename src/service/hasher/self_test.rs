//! Self-test of the Argon2 implementations at the start: each has to compute the test vector of RFC 9106 and agree with
//! the reference on a random input at the parameters in use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use argon2::{Algorithm, AssociatedData, Params, ParamsBuilder, Version};

use super::HashError;
use super::engine::{Engine, EngineChoice, HashMemory, Input};
use super::phc::{PhcHasher, Scheme};

/// The tag of RFC 9106, section 5.3: Argon2id with a secret and associated data.
const RFC_9106_TAG: [u8; 32] = [
    0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53, 0xc9, 0xd0,
    0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01, 0xe6, 0x59,
];

/// Password of the dummy hash. A check against the dummy hash fails even for this password.
const DUMMY_PASSWORD: &[u8] = b"the password of the dummy hash";

/// Result of the self-test.
pub(super) struct Tested {
    pub(super) engine: Engine,
    /// Duration of a hash with today's parameters, in memory that is already allocated.
    pub(super) hash_time: Duration,
    /// Hash against which the passwords of unknown numbers are checked.
    pub(super) dummy: String,
}

/// Chooses an engine and creates the dummy hash with it. Allocates the memory of one hash at a time, and frees it.
///
/// # Errors
/// The reference fails, or the machine has no memory or no random bytes.
pub(super) fn start(choice: EngineChoice, scheme: &Scheme) -> Result<Tested, HashError> {
    let engine = choose(choice, &scheme.params, |memory, input, output| {
        memory.compute(input, output)
    })?;
    let mut phc_hasher = PhcHasher::new(engine);
    let mut hash = || {
        let begin = Instant::now();
        let dummy = phc_hasher.hash(DUMMY_PASSWORD, scheme)?;
        Ok::<_, HashError>((begin.elapsed(), dummy))
    };
    // The first hash allocates the memory.
    let (first, _) = hash()?;
    let (second, dummy) = hash()?;
    Ok(Tested {
        engine,
        hash_time: first.min(second),
        dummy,
    })
}

/// Chooses an engine. `fast` computes a hash with the memory of the fast engine.
pub(super) fn choose(
    choice: EngineChoice,
    params: &Params,
    mut fast: impl FnMut(&mut HashMemory, &Input<'_>, &mut [u8]) -> Result<(), HashError>,
) -> Result<Engine, HashError> {
    let random = Random::generate()?;
    let rfc_params = rfc_9106_params()?;
    let questions = [rfc_9106(&rfc_params), random.input(params)];
    let mut expected = [RFC_9106_TAG; 2];
    {
        let mut reference = HashMemory::new(Engine::Portable);
        let mut tag = [0; 32];
        reference.compute(&questions[0], &mut tag)?;
        if tag != RFC_9106_TAG {
            return Err(HashError::SelfTest);
        }
        if choice == EngineChoice::Portable {
            return Ok(Engine::Portable);
        }
        reference.compute(&questions[1], &mut expected[1])?;
    }
    // A panic counts as a difference, like another tag.
    let agrees = catch_unwind(AssertUnwindSafe(|| {
        let mut memory = HashMemory::new(Engine::Fast);
        questions.iter().zip(&expected).all(|(question, expected)| {
            let mut tag = [0; 32];
            fast(&mut memory, question, &mut tag).is_ok() && tag == *expected
        })
    }));
    if agrees.unwrap_or(false) {
        return Ok(Engine::Fast);
    }
    tracing::error!(
        engine = Engine::Fast.name(),
        instead = Engine::Portable.name(),
        "the hash engine does not agree with the reference on this machine; please report this"
    );
    Ok(Engine::Portable)
}

/// Returns the shortest duration of a hash in `runs` runs, in memory that is already allocated.
///
/// # Errors
/// Argon2 rejects the parameters, or there is no memory for them.
pub fn time_of_a_hash(
    engine: Engine,
    memory_kib: u32,
    iterations: u32,
    runs: u32,
) -> Result<Duration, HashError> {
    let params = Params::new(memory_kib, iterations, 1, Some(Params::DEFAULT_OUTPUT_LEN))?;
    let random = Random::generate()?;
    let mut memory = HashMemory::new(engine);
    // The first hash allocates the memory.
    let mut best = Duration::MAX;
    for _ in 0..=runs {
        let begin = Instant::now();
        memory.compute(&random.input(&params), &mut [0; Params::DEFAULT_OUTPUT_LEN])?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}

/// Returns the engine that `choice` selects on this machine.
///
/// # Errors
/// The reference fails.
pub fn checked_engine(choice: EngineChoice) -> Result<Engine, HashError> {
    choose(choice, &Params::default(), |memory, input, output| {
        memory.compute(input, output)
    })
}

fn rfc_9106_params() -> Result<Params, HashError> {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12])?)
        .output_len(32)
        .build()?;
    Ok(params)
}

fn rfc_9106(params: &Params) -> Input<'_> {
    Input {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        params,
        secret: &[3; 8],
        salt: &[2; 16],
        password: &[1; 32],
    }
}

/// Random bytes of an input.
struct Random([u8; 80]);

impl Random {
    fn generate() -> Result<Self, HashError> {
        let mut bytes = [0; 80];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    fn input<'a>(&'a self, params: &'a Params) -> Input<'a> {
        Input {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params,
            secret: &self.0[..32],
            salt: &self.0[32..48],
            password: &self.0[48..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Params {
        Params::new(64, 2, 1, Some(32)).unwrap()
    }

    #[test]
    fn both_engines_compute_the_vector_of_the_rfc() {
        let params = rfc_9106_params().unwrap();
        for engine in [Engine::Fast, Engine::Portable] {
            let mut tag = [0; 32];
            HashMemory::new(engine)
                .compute(&rfc_9106(&params), &mut tag)
                .unwrap();
            assert_eq!(tag, RFC_9106_TAG, "{engine:?}");
        }
    }

    #[test]
    fn an_engine_that_agrees_is_chosen_unless_the_reference_is_requested() {
        assert_eq!(checked_engine(EngineChoice::Auto).unwrap(), Engine::Fast);
        assert_eq!(checked_engine(EngineChoice::Portable).unwrap(), Engine::Portable);
    }

    #[test]
    fn an_engine_that_is_wrong_only_at_the_parameters_in_use_is_not_chosen() {
        let engine = choose(EngineChoice::Auto, &params(), |memory, input, output| {
            memory.compute(input, output)?;
            if input.params.m_cost() == 64 {
                output[31] ^= 1;
            }
            Ok(())
        });
        assert_eq!(engine.unwrap(), Engine::Portable);
    }

    #[test]
    fn an_engine_that_fails_or_panics_is_not_chosen() {
        let engine = choose(EngineChoice::Auto, &params(), |_, _, _| Err(HashError::NoMemory));
        assert_eq!(engine.unwrap(), Engine::Portable);
        let engine = choose(EngineChoice::Auto, &params(), |_, _, _| {
            panic!("a bad instruction")
        });
        assert_eq!(engine.unwrap(), Engine::Portable);
    }
}
