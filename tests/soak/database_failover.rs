//! Failover of the database under load, again and again: the replica is promoted, the service follows, and the old
//! primary becomes the replica of the new one. The new primary has all writes that were acknowledged before the
//! promotion.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use crate::audit::audit;
use crate::caller::{Caller, Consistency};
use crate::cluster::{Cluster, DATABASE};
use crate::load::Load;
use crate::model::{Model, Person};
use crate::place::{Backend, Place};
use crate::proxy::{OldConnections, Proxy};
use crate::random::Random;
use crate::replica::{Door, Replica};
use crate::{alone, check_all, random, setting};

/// The service writes again within this time of the moment at which the new primary is reachable.
const RECOVERY: Duration = Duration::from_secs(5);

/// Consecutive successful calls of all kinds and of both replicas that count as a recovery.
const IN_A_ROW: u64 = 200;

/// Sessions that the new primary ends while the old one is still in use.
const ENDED: usize = 10;

/// Time limit of the calls between two faults, on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The end of the old primary.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It turns read-only, as an orderly switchover does; its connections stay open. All that was acknowledged was
    /// replicated before the promotion.
    ReadOnly,
    /// It stays writable and is disconnected from the new primary; its connections stay open. No write is made from the
    /// last moment at which both agree until the service has followed.
    Split,
    /// `kill -9`. Replication is synchronous before.
    Killed,
}

/// The cluster, and two replicas of the service that reach it through a proxy.
struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    replicas: [Replica; 2],
    model: Arc<Model>,
    random: Random,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_wrong_when_the_old_primary_turns_read_only() {
    fail_over_again_and_again(Kind::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_wrong_when_the_old_primary_does_not_notice() {
    if Backend::of_this_run() != Backend::Postgres {
        eprintln!("NOT RUN: tests/api has this failover on other backends");
        return;
    }
    fail_over_again_and_again(Kind::Split).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_wrong_when_the_primary_is_killed() {
    fail_over_again_and_again(Kind::Killed).await;
}

async fn fail_over_again_and_again(kind: Kind) {
    let _alone = alone().await;
    let rounds = setting("SOAK_FAILOVER_ROUNDS").unwrap_or(1);
    let mut scene = Scene::new().await;
    let model = scene.model.clone();
    let doors: Vec<Door> = scene.replicas.iter().map(Replica::door).collect();
    let load = Load::start(&model, &doors, &mut scene.random);
    for round in 1..=rounds {
        scene.suffer(round, kind, &load).await;
    }
    load.stop().await;
    model.assert_good();
    for replica in &mut scene.replicas {
        replica.end().await;
    }
    let place = scene.place();
    audit(&place, &model).await;
    scene.replicas[0].start_again(&place).await;
    check_all(&model, &scene.replicas[0].life()).await;
    scene.replicas[0].end().await;
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start(Backend::of_this_run()).await;
        let proxy = Proxy::to(cluster.primary().address()).await;
        let url = format!("--database-url={}", cluster.url(&proxy.address()));
        let place = Place::without_database();
        let replicas = [
            Replica::start(&place, &[&url]).await,
            Replica::start(&place, &[&url]).await,
        ];
        Self {
            cluster,
            proxy,
            replicas,
            model: Arc::new(Model::new()),
            random: random(),
        }
    }

    /// The database on the primary.
    fn place(&self) -> Place {
        Place::existing(self.cluster.primary().url(), DATABASE)
    }

    /// One failover, from a healthy state to a healthy state.
    async fn suffer(&mut self, round: usize, kind: Kind, load: &Load) {
        let model = self.model.clone();
        let enough = model.acknowledged.load(Ordering::SeqCst) + 300 + self.random.below(300) as u64;
        model
            .until(PATIENCE, "enough answers", |model| {
                model.acknowledged.load(Ordering::SeqCst) >= enough
            })
            .await;
        let unavailable = model.unavailable.load(Ordering::SeqCst);
        let moved = match kind {
            Kind::ReadOnly => {
                Cluster::set_read_only(self.cluster.primary(), true).await;
                self.cluster.writes_end().await;
                self.cluster.catch_up().await;
                self.cluster.promote().await;
                self.lead_to_primary(OldConnections::Kept)
            }
            Kind::Split => self.split(load).await,
            Kind::Killed => {
                self.cluster.synchronous(true).await;
                self.load_goes_on().await;
                self.cluster.kill_primary().await;
                self.cluster.promote().await;
                self.lead_to_primary(OldConnections::Dropped)
            }
        };
        model.in_a_row.store(0, Ordering::SeqCst);
        let left = (moved + RECOVERY).saturating_duration_since(Instant::now());
        model
            .until(left, &format!("recovery from {kind:?}"), |model| {
                model.in_a_row.load(Ordering::SeqCst) >= IN_A_ROW
            })
            .await;
        println!(
            "round {round}, {kind:?}: {} calls were UNAVAILABLE; recovered in {:.2} s",
            model.unavailable.load(Ordering::SeqCst) - unavailable,
            moved.elapsed().as_secs_f64()
        );
        self.cluster.rejoin().await;
    }

    fn lead_to_primary(&self, old: OldConnections) -> Instant {
        self.proxy.lead_to(self.cluster.primary().address(), old);
        Instant::now()
    }

    /// Some calls more, so that the commits under way are synchronous.
    async fn load_goes_on(&self) {
        let enough = self.model.acknowledged.load(Ordering::SeqCst) + 100;
        self.model
            .until(PATIENCE, "some answers", |model| {
                model.acknowledged.load(Ordering::SeqCst) >= enough
            })
            .await;
    }

    /// Promotes the replica behind the back of the primary. Sessions that end there meanwhile are refused here within
    /// the staleness bound of the move.
    async fn split(&mut self, load: &Load) -> Instant {
        let paused = load.pause_writes().await;
        self.cluster.catch_up().await;
        self.cluster.promote().await;
        let url = format!(
            "--database-url={}",
            self.cluster.url(&self.cluster.primary().address())
        );
        let mut there = Replica::start(&self.place(), &[&url]).await;
        let other = Caller {
            model: self.model.clone(),
            life: there.life(),
        };
        self.model.is_split.store(true, Ordering::SeqCst);
        let moved = self.lead_to_primary(OldConnections::Kept);
        let is_signed_in = |person: &Person| person.live_session().is_some();
        let mut ended = Vec::new();
        for _ in 0..ENDED {
            let person = self.model.take(&mut self.random, is_signed_in).unwrap();
            let session = person.live_session().unwrap().clone();
            other.sign_out(person, &session).await;
            ended.push(session);
        }
        let followed = async {
            let mut ticks = interval(Duration::from_millis(5));
            for life in [self.replicas[0].life(), self.replicas[1].life()] {
                let here = Caller {
                    model: self.model.clone(),
                    life,
                };
                for session in &ended {
                    for consistency in [Consistency::MinimizeLatency, Consistency::Strong] {
                        while !here.check(session, consistency).await {
                            self.model.assert_good();
                            ticks.tick().await;
                        }
                    }
                }
            }
        };
        let outcome = timeout(RECOVERY, followed).await;
        self.model.assert_good();
        outcome.expect("the service does not follow to the new primary");
        println!("Split: followed in {:.2} s", moved.elapsed().as_secs_f64());
        self.model.is_split.store(false, Ordering::SeqCst);
        there.end().await;
        drop(paused);
        moved
    }
}
