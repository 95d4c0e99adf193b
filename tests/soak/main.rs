//! Promises under faults: the service, the database and the network between them are killed.
//!
//! - `crash`: the service, on every backend;
//! - `database_killed`: the server of PostgreSQL or MariaDB;
//! - `database_failover`: the primary of a cluster, while its replica is promoted;
//! - `mixed`: both and more, at random and for long, with two replicas on PostgreSQL.
//!
//! Callers (`caller`, `load`) record acknowledged calls in a `model`, which judges every response. `audit` compares the
//! database with it when all calls have ended. A call that was not acknowledged may have happened or not, but not in
//! part.
//!
//! `make test` runs a short form. `make soak` sets `SOAK_ROUNDS` (of `crash`), `SOAK_DATABASE_ROUNDS`,
//! `SOAK_FAILOVER_ROUNDS` and `SOAK_SECONDS` (of `mixed`). `SOAK_SEED` repeats the random choices; the timing of calls
//! and faults still varies.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod audit;
#[allow(dead_code, reason = "each test crate uses its part of it")]
#[path = "../api/support/binary.rs"]
mod binary;
mod caller;
#[allow(dead_code, reason = "each test crate uses its part of it")]
#[path = "../api/support/cluster.rs"]
mod cluster;
mod crash;
mod database_failover;
mod database_killed;
#[allow(dead_code, reason = "each test crate uses its part of it")]
#[path = "../api/support/database_server.rs"]
mod database_server;
mod load;
mod mixed;
mod model;
#[allow(dead_code, reason = "each test crate uses its part of it")]
#[path = "../api/support/place.rs"]
mod place;
#[expect(dead_code, reason = "tests/api has more kinds of faults")]
#[path = "../api/support/proxy.rs"]
mod proxy;
mod random;
mod replica;

use std::env;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use caller::{Caller, Consistency};
use model::Model;
use random::Random;
use replica::Life;

/// Settings of every process: hashes and failures are cheap, and the log has only faults. Faults interrupt calls by the
/// hundred; they are counted, and cause no delay.
const TEST_FLAGS: [&str; 7] = [
    "--throttle-number-attempts=1000000",
    "--throttle-number-recovery=1s",
    "--argon2-memory-kib=64",
    "--argon2-iterations=1",
    "--min-failed-sign-in-duration=0s",
    "--shutdown-delay=0s",
    "--log-level=error",
];

type Client = PhoneIdentityClient<Channel>;

async fn connect(address: SocketAddr) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    PhoneIdentityClient::new(endpoint.connect().await.unwrap())
}

/// Waits for the other tests of this process: each wants the machine for itself.
async fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::const_new(());
    RUNNING.lock().await
}

/// A number of the environment.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value}")),
    )
}

/// Creates a generator, and prints its seed.
fn random() -> Random {
    let seed = setting("SOAK_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    println!("SOAK_SEED={seed}");
    Random::new(seed)
}

/// Checks every session with a known token against the database, through this process, and returns all outcomes.
async fn check_all(model: &Arc<Model>, life: &Arc<Life>) {
    let places = Arc::new(Semaphore::new(64));
    let unanswered = model.unavailable.load(std::sync::atomic::Ordering::SeqCst);
    let mut checks = JoinSet::new();
    for session in model.sessions() {
        let place = places.clone().acquire_owned().await.unwrap();
        let caller = Caller {
            model: model.clone(),
            life: life.clone(),
        };
        checks.spawn(async move {
            caller.check(&session, Consistency::Strong).await;
            drop(place);
        });
    }
    checks.join_all().await;
    model.assert_good();
    let unanswered = model.unavailable.load(std::sync::atomic::Ordering::SeqCst) - unanswered;
    assert_eq!(unanswered, 0, "checks were not answered");
}
