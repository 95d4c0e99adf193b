//! A walk through the parameters of the hash engine, compared with another implementation, for memory checkers.
//!
//! `argon2-rust` is young, unaudited, and full of `unsafe`. A wrong result is found by comparison with `argon2`; an
//! access outside of its memory, or to memory that was never written, only by a checker. So every input has an
//! allocation of exactly its length, and every case is computed in fresh memory as well as in memory that is kept from
//! case to case, as a hashing thread does.

#[path = "../../../src/service/hasher/engine.rs"]
#[allow(dead_code, reason = "the service uses the rest of it")]
mod engine;

use std::process::ExitCode;

use argon2::{Algorithm, AssociatedData, ParamsBuilder, Version};
use argon2_rust::__internal::{Blake2bBackend, blake2b_long_with_backend, hash_with_backend};
use argon2_rust::Backend;
use argon2_rust::params::{Memory as Kib, TagLen};
use engine::{Engine, Input, Memory};

/// The errors of the engine, a part of the errors of the service.
#[derive(Debug)]
pub enum HashError {
    /// Argon2 does not take such an input.
    Parameters(argon2::Error),
    /// There is no memory.
    NoMemory,
}

impl From<argon2::Error> for HashError {
    fn from(error: argon2::Error) -> Self {
        Self::Parameters(error)
    }
}

/// SplitMix64: the same cases in each run with one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::RangeInclusive<u32>) -> u32 {
        let (start, end) = range.into_inner();
        start + (self.next() % u64::from(end - start + 1)) as u32
    }

    /// Bytes in an allocation of exactly this length.
    fn bytes(&mut self, length: u32) -> Box<[u8]> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Costs and lengths of one hash. Memory in KiB, lengths in bytes.
#[derive(Clone, Copy, Debug)]
struct Case {
    memory: u32,
    passes: u32,
    lanes: u32,
    password: u32,
    salt: u32,
    secret: u32,
    data: u32,
    output: u32,
}

/// The cheapest hash.
const LEAST: Case = Case {
    memory: 8,
    passes: 1,
    lanes: 1,
    password: 9,
    salt: 16,
    secret: 0,
    data: 0,
    output: 32,
};

/// The most memory of a hash of a slow walk, in KiB.
const MAX_SLOW_KIB: u32 = 1025;

const KINDS: [(Algorithm, Version); 6] = [
    (Algorithm::Argon2id, Version::V0x13),
    (Algorithm::Argon2i, Version::V0x13),
    (Algorithm::Argon2d, Version::V0x13),
    (Algorithm::Argon2id, Version::V0x10),
    (Algorithm::Argon2i, Version::V0x10),
    (Algorithm::Argon2d, Version::V0x10),
];

/// Each parameter by itself, over all of its values that the service can meet, or their edges.
fn one_at_a_time() -> Vec<Case> {
    let mut cases = Vec::new();
    let edges =
        |from: u32, to: u32, more: &[u32]| (from..=to).chain(more.iter().copied()).collect::<Vec<_>>();
    for memory in edges(
        8,
        72,
        &[
            100, 127, 128, 129, 255, 256, 257, 511, 513, 1000, 1023, 1024, 1025,
        ],
    ) {
        cases.push(Case { memory, ..LEAST });
        cases.push(Case {
            memory,
            passes: 3,
            ..LEAST
        });
    }
    for passes in edges(1, 8, &[17]) {
        cases.push(Case { passes, ..LEAST });
    }
    for lanes in edges(1, 9, &[16, 17, 64]) {
        for more in [0, 1, 2, 3, 5, 7, 8, 31] {
            let memory = 8 * lanes + more;
            cases.push(Case {
                lanes,
                memory,
                passes: 2,
                ..LEAST
            });
        }
    }
    for salt in edges(8, 140, &[255, 256, 1000]) {
        cases.push(Case { salt, ..LEAST });
    }
    for secret in edges(0, 140, &[255, 256, 1000]) {
        cases.push(Case { secret, ..LEAST });
    }
    // The maximum of PHC strings.
    for data in 0..=32 {
        cases.push(Case { data, ..LEAST });
    }
    for output in edges(4, 260, &[511, 512, 513, 1023, 1024, 1025, 4096]) {
        cases.push(Case { output, ..LEAST });
    }
    // Costs as in production.
    cases.push(Case {
        memory: 19_456,
        passes: 2,
        ..LEAST
    });
    cases.push(Case {
        memory: 65_537,
        lanes: 4,
        ..LEAST
    });
    cases
}

fn random_case(random: &mut Random) -> Case {
    let lanes = random.within(1..=8);
    Case {
        memory: random.within(8 * lanes..=512),
        passes: random.within(1..=4),
        lanes,
        password: random.within(0..=4096),
        salt: random.within(8..=128),
        secret: random.within(0..=128),
        data: random.within(0..=32),
        output: random.within(4..=300),
    }
}

struct Checker {
    random: Random,
    reference: Memory,
    kept: Memory,
    backends: Vec<Backend>,
    count: u64,
}

impl Checker {
    /// Computes a case with the reference, and with each backend of the engine in fresh memory and in memory that is
    /// kept.
    fn check(&mut self, case: Case, (algorithm, version): (Algorithm, Version)) {
        let password = self.random.bytes(case.password);
        let salt = self.random.bytes(case.salt);
        let secret = self.random.bytes(case.secret);
        let data = self.random.bytes(case.data);
        let params = ParamsBuilder::new()
            .m_cost(case.memory)
            .t_cost(case.passes)
            .p_cost(case.lanes)
            .data(AssociatedData::new(&data).unwrap())
            .build()
            .unwrap();
        let input = Input {
            algorithm,
            version,
            params: &params,
            secret: &secret,
            salt: &salt,
            password: &password,
        };
        let new = || vec![0; case.output as usize].into_boxed_slice();
        let mut expected = new();
        self.reference.compute(&input, &mut expected).unwrap();
        for memory in [&mut self.kept, &mut Memory::new(Engine::Fast)] {
            let mut output = new();
            memory.compute(&input, &mut output).unwrap();
            assert_eq!(output, expected, "{case:?} {algorithm:?} {version:?}");
        }
        // A thread gives memory back above that of today's hashes.
        self.kept.keep_at_most(256);
        let params = argon2_rust::Params::builder()
            .memory(Kib::kib(case.memory.into()))
            .passes(case.passes)
            .lanes(case.lanes)
            .threads(1)
            .tag_len(TagLen::bytes(case.output.into()))
            .build()
            .unwrap();
        let algorithm_there = match algorithm {
            Algorithm::Argon2d => argon2_rust::Algorithm::Argon2d,
            Algorithm::Argon2i => argon2_rust::Algorithm::Argon2i,
            Algorithm::Argon2id => argon2_rust::Algorithm::Argon2id,
        };
        let version_there = match version {
            Version::V0x10 => argon2_rust::Version::V0x10,
            Version::V0x13 => argon2_rust::Version::V0x13,
        };
        for backend in &self.backends {
            let mut output = new();
            // SAFETY: `backends` has only backends that this processor has.
            let outcome = unsafe {
                hash_with_backend(
                    *backend,
                    algorithm_there,
                    version_there,
                    &params,
                    &password,
                    &salt,
                    &secret,
                    &data,
                    &mut output,
                )
            };
            outcome.unwrap();
            assert_eq!(output, expected, "{backend} {case:?} {algorithm:?} {version:?}");
        }
        self.count += 1;
    }
}

/// BLAKE2b of variable length (RFC 9106 section 3.3) by itself: lengths of inputs and outputs around its blocks.
fn check_blake2b(random: &mut Random) -> (Vec<Blake2bBackend>, u64) {
    let all = [
        Blake2bBackend::Scalar,
        Blake2bBackend::Sse41,
        Blake2bBackend::Avx2,
        Blake2bBackend::Avx512,
    ];
    let backends: Vec<_> = all.into_iter().filter(|backend| backend.is_available()).collect();
    let mut count = 0;
    for input in (0..=260).chain([1023, 1024, 1025]) {
        for output in [1, 4, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 160, 1024] {
            let bytes = random.bytes(input);
            let outputs: Vec<Box<[u8]>> = backends
                .iter()
                .map(|backend| {
                    let mut out = vec![0; output].into_boxed_slice();
                    // SAFETY: the processor has it.
                    unsafe { blake2b_long_with_backend(&mut out, &bytes, *backend) }.unwrap();
                    out
                })
                .collect();
            assert!(
                outputs.windows(2).all(|pair| pair[0] == pair[1]),
                "{input} {output}"
            );
            count += 1;
        }
    }
    (backends, count)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn main() -> ExitCode {
    // A fault that each checker has to find, to show that it is at work.
    match std::env::var("HASH_ENGINE_FAULT").as_deref() {
        Ok("outside") => {
            let bytes = Random(1).bytes(number("HASH_ENGINE_LENGTH", 16) as u32);
            // SAFETY: there is none.
            let byte = unsafe { bytes.as_ptr().add(bytes.len()).read_volatile() };
            println!("read {byte} behind the end");
            return ExitCode::SUCCESS;
        }
        Ok("unwritten") => {
            let bytes: Box<[std::mem::MaybeUninit<u8>]> = Box::new_uninit_slice(16);
            // SAFETY: there is none.
            let byte = unsafe { bytes.as_ptr().cast::<u8>().read_volatile() };
            println!("{}", if byte == 7 { "seven" } else { "not seven" });
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let seed = number("HASH_ENGINE_SEED", 7);
    let randoms = number("HASH_ENGINE_CASES", 20_000);
    let is_slow = number("HASH_ENGINE_SLOW", 0) == 1;
    let mut random = Random(seed);
    let (blake2b, blake2b_count) = check_blake2b(&mut random);
    let mut checker = Checker {
        random,
        reference: Memory::new(Engine::Portable),
        kept: Memory::new(Engine::Fast),
        backends: Backend::ALL
            .iter()
            .copied()
            .filter(|backend| backend.is_available())
            .collect(),
        count: 0,
    };
    let mut kinds = KINDS.into_iter().cycle();
    for case in one_at_a_time() {
        let is_costly = case.memory > MAX_SLOW_KIB;
        if is_slow && !is_costly {
            checker.check(case, kinds.next().expect("endless"));
        } else if !is_costly || !is_slow {
            for kind in KINDS {
                checker.check(case, kind);
            }
        }
    }
    // Around the blocks of BLAKE2b, of 128 bytes, where the walk is slow.
    let is_edge = |length: u32| length <= 260 || matches!(length % 128, 0 | 1 | 127);
    for password in (0..=4096).filter(|length| !is_slow || is_edge(*length)) {
        let kind = kinds.next().expect("endless");
        checker.check(Case { password, ..LEAST }, kind);
    }
    for _ in 0..randoms {
        let case = random_case(&mut checker.random);
        let kind = KINDS[checker.random.within(0..=5) as usize];
        checker.check(case, kind);
    }
    println!(
        "{} cases with the engine's choice ({}) and {:?}, {blake2b_count} of BLAKE2b with {blake2b:?}: \
         all as argon2 computes them \
         (seed {seed})",
        checker.count,
        argon2_rust::detected_backend(),
        checker.backends,
    );
    ExitCode::SUCCESS
}
