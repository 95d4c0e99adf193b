mod model;

use super::*;

const MS: u64 = 1_000_000;

/// The estimate of the first job.
const HASH: u64 = 10 * MS;

struct QueueScene {
    fair: Fair<u64>,
    next: u64,
}

impl QueueScene {
    fn new() -> Self {
        Self {
            fair: Fair::new(HASH),
            next: 0,
        }
    }

    /// Pushes a job, which is its number.
    fn push(&mut self, path: [FlowKey; 3]) -> Ticket {
        let ticket = Ticket {
            number: self.next,
            flow: Flow::of_path(path),
        };
        let job = Waiting {
            since: Instant::now(),
            job: self.next,
        };
        self.next += 1;
        self.fair.push(ticket, job);
        ticket
    }

    /// Takes the next job and settles it with its cost by the path of its flow.
    fn work(&mut self, cost: impl Fn([FlowKey; 3]) -> u64) -> Option<(u64, [FlowKey; 3])> {
        let (waiting, charge) = self.fair.take()?;
        let path = charge.flow.path();
        self.fair.settle(charge, cost(path));
        Some((waiting.job, path))
    }

    fn has_no_state(&self) -> bool {
        let Fair {
            services,
            counts,
            waiting,
            running,
            since,
            ..
        } = &self.fair;
        let is_empty = services.children.is_empty() && services.order.is_empty();
        is_empty
            && services.longest.is_empty()
            && services.debtors.is_empty()
            && since.is_empty()
            && (counts.debtors, counts.flows, *waiting, *running) == (0, 0, 0, 0)
    }
}

#[test]
fn jobs_of_a_flow_keep_their_order() {
    let mut scene = QueueScene::new();
    for _ in 0..5 {
        scene.push([1, 1, 1]);
    }
    let taken: Vec<_> = std::iter::from_fn(|| scene.work(|_| HASH).map(|(job, _)| job)).collect();
    assert_eq!(taken, [0, 1, 2, 3, 4]);
}

#[test]
fn a_flood_does_not_delay_another_flow() {
    // Another service, another network of the service, another number of the network.
    for other in [[2, 1, 1], [1, 2, 1], [1, 1, 2]] {
        let mut scene = QueueScene::new();
        for _ in 0..100 {
            scene.push([1, 1, 1]);
        }
        for _ in 0..10 {
            scene.work(|_| HASH);
        }
        let late = scene.push(other).number;
        let taken: Vec<_> = (0..2).map(|_| scene.work(|_| HASH).unwrap().0).collect();
        assert!(taken.contains(&late), "{other:?}: {taken:?}");
    }
}

/// Service 1 has one network with one number; service 2 has 20 networks with up to 5 numbers each, and its jobs cost
/// three times as much.
#[test]
fn shares_of_processor_time_converge_at_each_level() {
    let mut scene = QueueScene::new();
    let paths: Vec<[FlowKey; 3]> = std::iter::once([1, 1, 1])
        .chain((0..20).flat_map(|network| (0..=network % 5).map(move |bucket| [2, network, bucket])))
        .collect();
    for path in &paths {
        scene.push(*path);
        scene.push(*path);
    }
    let cost = |[service, ..]: [FlowKey; 3]| if service == 1 { HASH } else { 3 * HASH };
    let mut used: HashMap<[FlowKey; 3], u64> = HashMap::new();
    for _ in 0..8000 {
        let (_, path) = scene.work(cost).unwrap();
        *used.entry(path).or_default() += cost(path);
        scene.push(path);
    }
    let sum = |is_in: &dyn Fn(&[FlowKey; 3]) -> bool| -> u64 {
        used.iter()
            .filter(|(path, _)| is_in(path))
            .map(|(_, used)| used)
            .sum()
    };
    // All differ by a few jobs at most.
    let tolerance = 4 * 3 * HASH;
    let services = [1, 2].map(|service| sum(&|path| path[0] == service));
    assert!(services[0].abs_diff(services[1]) <= tolerance, "{services:?}");
    for network in 0..20 {
        let of_network = sum(&|path| path[0] == 2 && path[1] == network);
        let share = services[1] / 20;
        assert!(
            of_network.abs_diff(share) <= tolerance,
            "{network}: {of_network} {share}"
        );
        for bucket in 0..=network % 5 {
            let of_bucket = sum(&|path| *path == [2, network, bucket]);
            let share = of_network / (network % 5 + 1);
            assert!(of_bucket.abs_diff(share) <= tolerance, "{network} {bucket}");
        }
    }
}

/// Each job is of a new network, and there are always 50 that wait.
#[test]
fn a_stream_of_new_flows_starves_no_flow() {
    let mut scene = QueueScene::new();
    for network in 0..50 {
        scene.push([1, 1000 + network, 1]);
    }
    let owner = [1, 1, 1];
    scene.push(owner);
    let mut waited = 0;
    let mut longest = 0;
    for network in 0..20_000 {
        let (_, path) = scene.work(|_| HASH).unwrap();
        waited += 1;
        if path == owner {
            longest = longest.max(waited);
            waited = 0;
            scene.push(owner);
        } else {
            scene.push([1, 2000 + network, 1]);
        }
    }
    longest = longest.max(waited);
    assert!(longest <= 3 * 51, "{longest} jobs of others");
}

#[test]
fn a_costly_job_is_paid_for_and_not_for_ever() {
    for (cost, expected) in [(5 * HASH, 4), (1_000_000 * HASH, 31)] {
        let mut scene = QueueScene::new();
        let [costly, cheap] = [[1, 1, 1], [1, 2, 1]];
        for path in [costly, cheap] {
            for _ in 0..100 {
                scene.push(path);
            }
        }
        assert_eq!(scene.work(|_| cost).unwrap().1, costly);
        let turns = (0..)
            .take_while(|_| scene.work(|_| HASH).unwrap().1 == cheap)
            .count();
        assert!(turns.abs_diff(expected) <= 1, "{cost}: {turns}");
    }
}

#[test]
fn a_flow_that_owes_is_remembered_until_it_has_paid() {
    let mut scene = QueueScene::new();
    let [debtor, other] = [[1, 1, 1], [1, 2, 1]];
    for _ in 0..30 {
        scene.push(other);
    }
    scene.push(debtor);
    let is_debtor = |path: [FlowKey; 3]| path == debtor;
    let cost = move |path| if is_debtor(path) { 8 * HASH } else { HASH };
    while scene.work(cost).unwrap().1 != debtor {}
    assert_eq!(scene.fair.counts.debtors, 1);
    // It comes again at once, and waits.
    scene.push(debtor);
    let others = (0..)
        .take_while(|_| !is_debtor(scene.work(|_| HASH).unwrap().1))
        .count();
    assert!((6..=8).contains(&others), "{others}");
    while scene.work(|_| HASH).is_some() {}
    assert!(scene.has_no_state());
}

#[test]
fn the_number_of_debtors_is_bounded() {
    let mut scene = QueueScene::new();
    for network in 0..2 * MAX_DEBTORS as u64 {
        // One flow is always busy, so that no debt is forgotten because the branch is idle.
        scene.push([0, 0, 0]);
        scene.push([0, 0, 0]);
        scene.push([1, network, 1]);
        scene.work(|_| 30 * HASH);
        assert!(scene.fair.counts.debtors <= MAX_DEBTORS);
    }
    let all = scene.fair.services.children.values();
    let children: usize = all.map(|service| service.level.children.len()).sum();
    assert!(children <= scene.fair.len() + MAX_DEBTORS + 1, "{children}");
    while scene.work(|_| HASH).is_some() {}
    assert!(scene.has_no_state());
}

#[test]
fn the_newest_job_of_the_longest_flow_is_evicted() {
    let mut scene = QueueScene::new();
    let flow = Flow::of_path;
    // Service 1 has six jobs, service 2 four. Network 1 of service 1 has four of them, its bucket 2 three.
    let tickets = [
        [1, 1, 1],
        [1, 1, 2],
        [1, 1, 2],
        [1, 1, 2],
        [1, 2, 1],
        [1, 2, 1],
        [2, 1, 1],
        [2, 1, 1],
        [2, 1, 1],
        [2, 1, 1],
    ]
    .map(|path| scene.push(path));
    for newcomer in [[3, 1, 1], [2, 1, 1], [1, 2, 9], [1, 1, 1], [1, 3, 2]] {
        assert_eq!(
            scene.fair.victim(flow(newcomer)),
            Some(tickets[3]),
            "{newcomer:?}"
        );
    }
    assert_eq!(
        scene.fair.victim(flow([1, 1, 2])),
        None,
        "its own flow is the longest"
    );
    scene.fair.remove(tickets[3]).unwrap();
    // Now service 1 has five jobs, its network 1 three, the bucket 2 two.
    assert_eq!(scene.fair.victim(flow([1, 1, 3])), Some(tickets[2]));
    // With a fifth, service 2 is as long: its own newest is the new one.
    assert_eq!(scene.fair.victim(flow([2, 1, 1])), None);
}

#[test]
fn among_flows_of_the_same_length_the_most_charged_one_is_evicted() {
    let mut scene = QueueScene::new();
    scene.push([1, 1, 1]);
    scene.push([1, 2, 1]);
    assert_eq!(scene.work(|_| 5 * HASH).unwrap().1, [1, 1, 1]);
    let again = scene.push([1, 1, 1]);
    scene.push([1, 3, 1]);
    assert_eq!(scene.fair.victim(Flow::of_path([1, 9, 1])), Some(again));
}

/// As at twice the capacity: each job is of a bucket at random. None waits much longer than a queue in order of arrival
/// would have it wait.
#[test]
fn flows_with_one_job_each_are_served_in_order_of_arrival() {
    let mut scene = QueueScene::new();
    let mut waited = Vec::new();
    let mut random = 1_u64;
    let mut next = || {
        // The generator of Knuth's MMIX.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        [1, 1, (random >> 33) % 1024]
    };
    for step in 0..6000 {
        // Two come for each one that is taken.
        for _ in 0..2 {
            let path = next();
            if scene.fair.len() >= 280 {
                match scene.fair.victim(Flow::of_path(path)) {
                    Some(victim) => scene.fair.remove(victim),
                    None => continue,
                };
            }
            scene.push(path);
            waited.push(step);
        }
        let (job, _) = scene.work(|_| HASH).unwrap();
        let came = &mut waited[usize::try_from(job).unwrap()];
        *came = usize::MAX - (step - *came);
    }
    let mut waits: Vec<usize> = waited
        .into_iter()
        .filter(|step| *step > usize::MAX / 2)
        .map(|wait| usize::MAX - wait)
        .collect();
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!((250..=310).contains(&p99), "{p99} jobs before it, of 280");
}

#[test]
fn a_queue_of_new_flows_refuses_a_new_flow() {
    let mut scene = QueueScene::new();
    for network in 0..5 {
        scene.push([1, network, 1]);
    }
    assert_eq!(scene.fair.victim(Flow::of_path([1, 9, 1])), None);
}
