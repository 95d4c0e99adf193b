//! Everything at once and for long: two replicas, a network that fails, and a database that does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::audit::{audit, count};
use crate::caller::{Caller, Consistency};
use crate::database_server::DatabaseServer;
use crate::load::Load;
use crate::model::{Model, Person};
use crate::place::{Backend, Place};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::replica::{Door, Replica, Taken};
use crate::{alone, check_all, random, setting};

/// Maximum time after a fault in which calls may fail.
const RECOVERY: Duration = Duration::from_secs(5);

/// Consecutive successful calls of all kinds and of both replicas that count as a recovery.
const IN_A_ROW: u64 = 200;

/// Timeout of so many responses, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most connections of a replica: those of the pool, and that of the change log.
const CONNECTIONS: usize = 5;

/// Small enough to be full after the warm-up, so that what grows then is a leak; and a patience with the network that
/// the tests have, too.
const FLAGS: [&str; 4] = [
    "--session-cache-capacity=500",
    "--database-connections=4",
    "--database-acquire-timeout=1s",
    "--database-statement-timeout=1s",
];

/// Responses of the warm-up, after which pools, caches and the memory of the allocator have their final size.
const WARM_UP: u64 = 3_000;

/// Maximum growth of the memory of a replica, in KiB. The memory varies by a few hundred KiB under this load. In the
/// short form, a replica answers a few thousand calls after the warm-up, so the test detects a leak of 2 KiB per check;
/// in the long form, one of some tens of bytes.
const MORE_MEMORY: u64 = 2 * 1024;

#[derive(Clone, Copy, Debug)]
enum Fault {
    ReplicaKilled,
    ReplicaStopped,
    DatabaseKilled,
    DatabaseStopped,
    ConnectionsDropped,
    ConnectionsSwallowed,
}

const FAULTS: [Fault; 6] = [
    Fault::ReplicaKilled,
    Fault::ReplicaStopped,
    Fault::DatabaseKilled,
    Fault::DatabaseStopped,
    Fault::ConnectionsDropped,
    Fault::ConnectionsSwallowed,
];

/// The targets of faults. The first replica is never killed: the test observes its cache.
struct Scene {
    server: DatabaseServer,
    proxy: Proxy,
    place: Place,
    replicas: [Replica; 2],
    model: Arc<Model>,
    random: Random,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promises_hold_under_faults_of_all_kinds() {
    let _alone = alone().await;
    let seconds: Option<u64> = setting("SOAK_SECONDS");
    let mut scene = Scene::new().await;
    let model = scene.model.clone();
    let doors: Vec<Door> = scene.replicas.iter().map(Replica::door).collect();
    let load = Load::start(&model, &doors, &mut scene.random);
    scene.go_on_for(WARM_UP).await;
    let (started, warm) = (Instant::now(), scene.replicas[0].taken());
    println!("after the warm-up: {warm:?}");
    let mut faults = 0;
    loop {
        let mut left = FAULTS.to_vec();
        while !left.is_empty() {
            let fault = left.swap_remove(scene.random.below(left.len()));
            scene.suffer(fault).await;
            faults += 1;
        }
        if seconds.is_none_or(|seconds| started.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
    }
    scene.go_on_for(WARM_UP / 2).await;
    let taken = scene.replicas[0].taken();
    let connections = scene.connections().await;
    load.stop().await;
    model.assert_good();
    println!(
        "{} answers and {} UNAVAILABLE in {} s with {faults} faults; at the end {taken:?}, {connections} connections",
        model.acknowledged.load(Ordering::SeqCst),
        model.unavailable.load(Ordering::SeqCst),
        started.elapsed().as_secs()
    );
    assert_flat(warm, taken, connections);
    for replica in &mut scene.replicas {
        replica.end().await;
    }
    audit(&scene.place, &model).await;
    scene.replicas[0].start_again(&scene.place).await;
    check_all(&model, &scene.replicas[0].life()).await;
    scene.replicas[0].end().await;
}

fn assert_flat(warm: Taken, taken: Taken, connections: usize) {
    assert!(
        taken.memory <= warm.memory + MORE_MEMORY,
        "memory: {warm:?} {taken:?}"
    );
    // A pool may have been smaller than it can be.
    assert!(
        taken.files <= warm.files + CONNECTIONS,
        "files: {warm:?} {taken:?}"
    );
    assert!(
        connections <= 2 * CONNECTIONS,
        "{connections} connections to the database"
    );
}

impl Scene {
    async fn new() -> Self {
        let random = random();
        let server = DatabaseServer::start(Backend::of_this_run(), &[]).await;
        let place = Place::on(server.url()).await;
        let proxy = Proxy::start(&place).await.unwrap();
        let url = format!("--database-url={}", proxy.url(&place));
        let flags: Vec<&str> = FLAGS.into_iter().chain([url.as_str()]).collect();
        let replicas = [
            Replica::start(&place, &flags).await,
            Replica::start(&place, &flags).await,
        ];
        Self {
            server,
            proxy,
            place,
            replicas,
            model: Arc::new(Model::new()),
            random,
        }
    }

    /// One fault, from a healthy state to a healthy state.
    async fn suffer(&mut self, fault: Fault) {
        let calls = 200 + self.random.below(400) as u64;
        self.go_on_for(calls).await;
        let started = Instant::now();
        let unavailable = self.model.unavailable.load(Ordering::SeqCst);
        // Longer than the staleness bound: the cache is no longer fresh.
        let span = self
            .random
            .between(Duration::from_millis(1100), Duration::from_millis(2000));
        match fault {
            Fault::ReplicaKilled => {
                self.replicas[1].kill().await;
                self.replicas[1].start_again(&self.place).await;
            }
            Fault::ReplicaStopped => self.stop_a_replica(span).await,
            Fault::DatabaseKilled => {
                self.server.kill().await;
                sleep(span).await;
                self.server.start_again().await;
            }
            Fault::DatabaseStopped => {
                self.server.signal("STOP");
                sleep(span).await;
                self.server.signal("CONT");
            }
            Fault::ConnectionsDropped => self.proxy.drop_connections(),
            Fault::ConnectionsSwallowed => self.proxy.swallow(),
        }
        let over = Instant::now();
        self.model.in_a_row.store(0, Ordering::SeqCst);
        self.model
            .until(RECOVERY, &format!("recovery from {fault:?}"), |model| {
                model.in_a_row.load(Ordering::SeqCst) >= IN_A_ROW
            })
            .await;
        println!(
            "{fault:?} for {:.2} s, {} UNAVAILABLE, recovered in {:.2} s",
            (over - started).as_secs_f64(),
            self.model.unavailable.load(Ordering::SeqCst) - unavailable,
            over.elapsed().as_secs_f64()
        );
    }

    /// A replica is stopped with a session in its cache, which ends meanwhile. A check of that session is the first
    /// call after it continues.
    async fn stop_a_replica(&mut self, span: Duration) {
        let stopped = self.random.below(2);
        let [here, there] = [stopped, 1 - stopped].map(|number| Caller {
            model: self.model.clone(),
            life: self.replicas[number].life(),
        });
        let is_signed_in = |person: &Person| person.live_session().is_some();
        let person = self.model.take(&mut self.random, is_signed_in).unwrap();
        let session = person.live_session().unwrap().clone();
        for _ in 0..3 {
            here.check(&session, Consistency::MinimizeLatency).await;
        }
        self.replicas[stopped].signal("STOP");
        there.sign_out(person, &session).await;
        sleep(span).await;
        let asking = tokio::spawn(async move { here.check(&session, Consistency::MinimizeLatency).await });
        sleep(Duration::from_millis(50)).await;
        self.replicas[stopped].signal("CONT");
        asking.await.unwrap();
    }

    /// Waits for so many more answers.
    async fn go_on_for(&self, answers: u64) {
        let enough = self.model.acknowledged.load(Ordering::SeqCst) + answers;
        self.model
            .until(PATIENCE, "enough answers", |model| {
                model.acknowledged.load(Ordering::SeqCst) >= enough
            })
            .await;
    }

    /// Returns the number of database connections of the replicas.
    async fn connections(&self) -> usize {
        let database = self.place.connect().await;
        let sql = "SELECT COUNT(*) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let connections = count(&database, sql).await;
        database.close().await.unwrap();
        usize::try_from(connections).unwrap()
    }
}
