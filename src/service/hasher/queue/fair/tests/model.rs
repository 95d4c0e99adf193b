//! The queue against a model of it: a list of the waiting jobs.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum QueueStep {
    Push([FlowKey; 3]),
    Remove(usize),
    Take,
    /// Settles the running job at this index with this cost.
    Settle(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let path =
        (0..3_u64, 0..4_u64, 0..3_u64).prop_map(|(service, network, bucket)| [service, network, bucket]);
    let step = prop_oneof![
        4 => path.prop_map(QueueStep::Push),
        1 => any::<usize>().prop_map(QueueStep::Remove),
        2 => Just(QueueStep::Take),
        2 => (any::<usize>(), 0..40 * HASH).prop_map(|(index, cost)| QueueStep::Settle(index, cost)),
    ];
    proptest::collection::vec(step, 1..300)
}

/// Number of waiting jobs per prefix of a path.
fn lengths(model: &[Ticket], level: usize) -> HashMap<Vec<FlowKey>, usize> {
    let mut lengths = HashMap::new();
    for ticket in model {
        *lengths.entry(ticket.flow.path()[..level].to_vec()).or_default() += 1;
    }
    lengths
}

proptest! {
    /// Compares the queue with a list of the waiting jobs. No job is lost or taken twice, a flow keeps its order, the
    /// dropped job is the newest of a flow that is longest at each level, and the empty queue has no state.
    #[test]
    fn the_queue_agrees_with_a_list_of_waiting_jobs(steps in steps(), bound in 1..20_usize) {
        let mut scene = QueueScene::new();
        let mut model: Vec<Ticket> = Vec::new();
        let mut running = Vec::new();
        for step in steps {
            match step {
                QueueStep::Push(path) => {
                    if model.len() >= bound {
                        let newcomer = Flow::of_path(path);
                        let mut with_newcomer = model.clone();
                        with_newcomer.push(Ticket { number: u64::MAX, flow: newcomer });
                        let loser = scene.fair.victim(newcomer);
                        let flow = loser.map_or(newcomer, |loser| loser.flow).path();
                        for level in 1..=3 {
                            let all = lengths(&with_newcomer, level);
                            let siblings = all.iter().filter(|(key, _)| key[..level - 1] == flow[..level - 1]);
                            prop_assert_eq!(siblings.map(|(_, length)| *length).max(), Some(all[&flow[..level]]));
                        }
                        let Some(loser) = loser else { continue };
                        let newest = model.iter().rev().find(|ticket| ticket.flow == loser.flow);
                        prop_assert_eq!(newest, Some(&loser));
                        prop_assert!(scene.fair.remove(loser).is_some());
                        model.retain(|ticket| *ticket != loser);
                    }
                    model.push(scene.push(path));
                }
                QueueStep::Remove(index) if !model.is_empty() => {
                    let ticket = model.remove(index % model.len());
                    prop_assert_eq!(scene.fair.remove(ticket).map(|job| job.job), Some(ticket.number));
                    prop_assert!(scene.fair.remove(ticket).is_none());
                }
                QueueStep::Take => {
                    let taken = scene.fair.take();
                    prop_assert_eq!(taken.is_some(), !model.is_empty());
                    if let Some((job, charge)) = taken {
                        let first = model.iter().position(|ticket| ticket.flow == charge.flow).unwrap();
                        prop_assert_eq!(model.remove(first).number, job.job);
                        running.push(charge);
                    }
                }
                QueueStep::Settle(index, cost) if !running.is_empty() => {
                    let charge = running.remove(index % running.len());
                    scene.fair.settle(charge, cost);
                }
                QueueStep::Remove(_) | QueueStep::Settle(..) => {}
            }
            prop_assert_eq!(scene.fair.len(), model.len());
            prop_assert_eq!(scene.fair.running(), running.len());
            let flows: HashSet<_> = model.iter().map(|ticket| ticket.flow.path()).collect();
            prop_assert_eq!(scene.fair.flows(), flows.len());
        }
        for ticket in model {
            scene.fair.remove(ticket).unwrap();
        }
        for charge in running {
            scene.fair.settle(charge, HASH);
        }
        prop_assert!(scene.has_no_state());
    }
}
