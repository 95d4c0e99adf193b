//! `kill -9` of the database server under load. The service continues, and detects by itself when the database is back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::audit;
use crate::database_server::DatabaseServer;
use crate::load::Load;
use crate::model::Model;
use crate::place::{Backend, Place};
use crate::replica::{Door, Replica};
use crate::{alone, check_all, random, setting};

/// Maximum time until callers reach the database after its return.
const RECOVERY: Duration = Duration::from_secs(5);

/// Consecutive successful calls of all kinds and of both replicas that count as a recovery.
const IN_A_ROW: u64 = 200;

/// The database stays away until so many calls have had no answer: all workers several times, with all kinds of calls.
const UNANSWERED: u64 = 60;

/// A short acquire timeout, so that many calls fail while the database is away.
const FLAGS: [&str; 1] = ["--database-acquire-timeout=300ms"];

/// Timeout of so many responses, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_wrong_when_the_database_is_killed() {
    let _alone = alone().await;
    let rounds = setting("SOAK_DATABASE_ROUNDS").unwrap_or(1);
    let mut random = random();
    let mut server = DatabaseServer::start(Backend::of_this_run(), &[]).await;
    let place = Place::on(server.url()).await;
    let model = Arc::new(Model::new());
    let mut replicas = [
        Replica::start(&place, &FLAGS).await,
        Replica::start(&place, &FLAGS).await,
    ];
    let doors: Vec<Door> = replicas.iter().map(Replica::door).collect();
    let load = Load::start(&model, &doors, &mut random);

    for round in 1..=rounds {
        let enough = model.acknowledged.load(Ordering::SeqCst) + 500 + random.below(500) as u64;
        let unavailable = model.unavailable.load(Ordering::SeqCst);
        model
            .until(PATIENCE, "enough answers", |model| {
                model.acknowledged.load(Ordering::SeqCst) >= enough
            })
            .await;
        server.kill().await;
        model
            .until(PATIENCE, "calls that were not answered", |model| {
                model.unavailable.load(Ordering::SeqCst) >= unavailable + UNANSWERED
            })
            .await;
        server.start_again().await;
        let back = Instant::now();
        model.in_a_row.store(0, Ordering::SeqCst);
        model
            .until(RECOVERY, "recovery", |model| {
                model.in_a_row.load(Ordering::SeqCst) >= IN_A_ROW
            })
            .await;
        println!(
            "round {round}: killed after {enough} answers, {} calls were UNAVAILABLE; recovered in {:.2} s",
            model.unavailable.load(Ordering::SeqCst) - unavailable,
            back.elapsed().as_secs_f64()
        );
    }
    load.stop().await;
    model.assert_good();
    for replica in &mut replicas {
        replica.end().await;
    }
    audit(&place, &model).await;
    replicas[0].start_again(&place).await;
    check_all(&model, &replicas[0].life()).await;
    replicas[0].end().await;
}
