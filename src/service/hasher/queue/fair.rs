//! Hierarchical fair queue by virtual time (start-time fair queueing, Goyal, Vin and Cheng 1996) over service, network
//! and bucket.
//!
//! Each level is a [`Branch`]. Its children share the hashing threads equally while they have waiting jobs. Each child
//! has a *tag*: the processor time that was charged to it, on the clock of its branch. The child with the lowest tag is
//! next. A flood therefore delays only its own flow, and any other flow waits for about one job of each flow that is
//! ahead of it.
//!
//! - **Cost.** The cost of a hash is unknown until it is done. A job is charged an estimate when a thread takes it, and
//!   [`Fair::settle`] replaces the estimate by the measured processor time. Deficit round robin yields the same shares,
//!   but one round costs a step for each flow in debt.
//! - **Clock.** A flow that becomes busy starts at the clock, so idle time earns no credit. With every job the clock
//!   advances by the share of one flow. Otherwise a stream of new flows, each at the clock, would starve the flows that
//!   were charged before.
//! - **Debt.** A flow that was charged beyond the clock is remembered after its last job. It is forgotten when the
//!   clock has passed its tag, when its branch is idle, or when there are more than [`MAX_DEBTORS`]. Any other flow
//!   without jobs leaves no state.
//!
//! All operations take logarithmic time.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::{Ticket, Waiting};
use crate::service::hasher::flow::{Flow, FlowKey};

/// Maximum number of flows that are remembered for their debt alone, of about 300 bytes each.
pub(super) const MAX_DEBTORS: usize = 4096;

/// Maximum charge of one job, in estimates: one costly stored hash must not stop its whole network for long.
const MAX_CHARGE: u64 = 32;

/// Inverse weight of the newest job in the moving average.
const WEIGHT: u64 = 16;

/// Processor time in nanoseconds, on the clock of a branch.
type Tag = u64;

/// Charge of a job that was taken, until its cost is known.
#[derive(Clone, Copy, Debug)]
pub(in crate::service::hasher) struct Charge {
    flow: Flow,
    estimate: u64,
}

/// The waiting jobs and the shares of their flows.
pub(super) struct Fair<T> {
    services: Branch<Branch<Branch<Bucket<T>>>>,
    counts: JobCounts,
    /// Expected cost of a job in nanoseconds: a moving average of recent jobs.
    estimate: u64,
    waiting: usize,
    running: usize,
    /// Arrival time of each waiting job, the oldest first.
    since: BTreeMap<u64, Instant>,
}

/// Totals over all branches.
#[derive(Debug, Default)]
struct JobCounts {
    debtors: usize,
    /// Number of buckets with waiting jobs.
    flows: usize,
}

impl<T> Fair<T> {
    /// `estimate` is the expected cost of the first jobs, in nanoseconds.
    pub(super) fn new(estimate: u64) -> Self {
        Self {
            services: Branch::default(),
            counts: JobCounts::default(),
            estimate: estimate.max(1),
            waiting: 0,
            running: 0,
            since: BTreeMap::new(),
        }
    }

    /// Number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Number of jobs that were taken and not settled.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Number of flows with waiting jobs.
    pub(super) fn flows(&self) -> usize {
        self.counts.flows
    }

    /// Arrival time of the oldest waiting job.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.since.first_key_value().map(|(_, since)| *since)
    }

    pub(super) fn push(&mut self, ticket: Ticket, job: Waiting<T>) {
        self.since.insert(ticket.number, job.since);
        self.waiting += 1;
        self.services
            .push(&ticket.flow.path(), ticket, job, &mut self.counts);
    }

    /// Takes the next job in the fair order and charges the estimate to its flow.
    pub(super) fn take(&mut self) -> Option<(Waiting<T>, Charge)> {
        let (ticket, job) = self.services.take(self.estimate, &mut self.counts)?;
        self.since.remove(&ticket.number);
        self.waiting = self.waiting.saturating_sub(1);
        self.running += 1;
        let charge = Charge {
            flow: ticket.flow,
            estimate: self.estimate,
        };
        Some((job, charge))
    }

    /// Removes a waiting job. `None`: the job no longer waits.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiting<T>> {
        let removed = self
            .services
            .remove(&ticket.flow.path(), ticket, &mut self.counts)?;
        self.since.remove(&ticket.number);
        self.waiting = self.waiting.saturating_sub(1);
        self.forget_if_idle();
        Some(removed)
    }

    /// Replaces the estimate of a finished job by the processor time that it used, in nanoseconds.
    pub(super) fn settle(&mut self, charge: Charge, used: u64) {
        let used = used.clamp(1, self.estimate.saturating_mul(MAX_CHARGE));
        self.services
            .settle(&charge.flow.path(), charge.estimate, used, &mut self.counts);
        self.running = self.running.saturating_sub(1);
        self.estimate = (self.estimate - self.estimate / WEIGHT + used / WEIGHT).max(1);
        self.forget_if_idle();
    }

    /// Returns the job that a full queue drops for a new job of this flow: the newest job of the longest flow. `None`:
    /// the new job itself is that job. Among flows of the same length, the one with the highest tag loses a job.
    pub(super) fn victim(&self, newcomer: Flow) -> Option<Ticket> {
        self.services.victim(Some(&newcomer.path()))
    }

    /// No flow competes for the threads, so all debts are forgotten.
    fn forget_if_idle(&mut self) {
        if self.waiting == 0 && self.running == 0 {
            self.services.forget(&mut self.counts);
        }
    }
}

/// A level of the hierarchy.
trait Level<T>: Default {
    fn push(&mut self, path: &[FlowKey], ticket: Ticket, job: Waiting<T>, counts: &mut JobCounts);
    fn take(&mut self, estimate: u64, counts: &mut JobCounts) -> Option<(Ticket, Waiting<T>)>;
    fn remove(&mut self, path: &[FlowKey], ticket: Ticket, counts: &mut JobCounts) -> Option<Waiting<T>>;
    fn settle(&mut self, path: &[FlowKey], estimate: u64, used: u64, counts: &mut JobCounts);
    /// As [`Fair::victim`]. `newcomer` is `None` if the new job belongs to another part of the tree.
    fn victim(&self, newcomer: Option<&[FlowKey]>) -> Option<Ticket>;
    /// Forgets the debts of an idle level.
    fn forget(&mut self, counts: &mut JobCounts);
}

/// The jobs of one bucket, in order of arrival.
struct Bucket<T>(BTreeMap<u64, (Ticket, Waiting<T>)>);

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Bucket<T> {
    fn out(
        &self,
        found: Option<(Ticket, Waiting<T>)>,
        counts: &mut JobCounts,
    ) -> Option<(Ticket, Waiting<T>)> {
        if found.is_some() && self.0.is_empty() {
            counts.flows = counts.flows.saturating_sub(1);
        }
        found
    }
}

impl<T> Level<T> for Bucket<T> {
    fn push(&mut self, _: &[FlowKey], ticket: Ticket, job: Waiting<T>, counts: &mut JobCounts) {
        if self.0.is_empty() {
            counts.flows += 1;
        }
        self.0.insert(ticket.number, (ticket, job));
    }

    fn take(&mut self, _: u64, counts: &mut JobCounts) -> Option<(Ticket, Waiting<T>)> {
        let oldest = self.0.pop_first().map(|(_, job)| job);
        self.out(oldest, counts)
    }

    fn remove(&mut self, _: &[FlowKey], ticket: Ticket, counts: &mut JobCounts) -> Option<Waiting<T>> {
        let found = self.0.remove(&ticket.number);
        self.out(found, counts).map(|(_, job)| job)
    }

    fn settle(&mut self, _: &[FlowKey], _: u64, _: u64, _: &mut JobCounts) {}

    fn victim(&self, newcomer: Option<&[FlowKey]>) -> Option<Ticket> {
        // In its own bucket, the new job is the newest.
        let newest = self.0.last_key_value().filter(|_| newcomer.is_none());
        newest.map(|(_, (ticket, _))| *ticket)
    }

    fn forget(&mut self, _: &mut JobCounts) {}
}

/// Children that share the threads equally.
struct Branch<N> {
    /// Virtual time. It never decreases while the branch is busy.
    clock: Tag,
    children: HashMap<FlowKey, Child<N>>,
    /// Children with waiting jobs, by tag. Among equal tags, the child that became busy first is first.
    order: BTreeSet<(Tag, u64, FlowKey)>,
    /// Children with waiting jobs, by their number of jobs and then by tag.
    longest: BTreeSet<(usize, Tag, FlowKey)>,
    /// Children without jobs and with tags beyond the clock.
    debtors: BTreeSet<(Tag, FlowKey)>,
}

#[derive(Default)]
struct Child<N> {
    level: N,
    tag: Tag,
    /// Sequence number of the job that made the child busy.
    busy_since: u64,
    waiting: usize,
    running: usize,
}

impl<N> Default for Branch<N> {
    fn default() -> Self {
        Self {
            clock: 0,
            children: HashMap::new(),
            order: BTreeSet::new(),
            longest: BTreeSet::new(),
            debtors: BTreeSet::new(),
        }
    }
}

impl<N> Branch<N> {
    /// Changes a child and updates the indexes. A child without jobs is forgotten unless it is in debt.
    fn change<T>(&mut self, key: FlowKey, counts: &mut JobCounts, change: impl FnOnce(&mut Child<N>, Tag))
    where
        N: Level<T>,
    {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if child.waiting > 0 {
            self.order.remove(&(child.tag, child.busy_since, key));
            self.longest.remove(&(child.waiting, child.tag, key));
        } else if self.debtors.remove(&(child.tag, key)) {
            counts.debtors = counts.debtors.saturating_sub(1);
        }
        change(child, self.clock);
        if child.waiting > 0 {
            self.order.insert((child.tag, child.busy_since, key));
            self.longest.insert((child.waiting, child.tag, key));
        } else if child.running == 0 {
            child.level.forget(counts);
            if child.tag <= self.clock {
                self.children.remove(&key);
                return;
            }
            self.debtors.insert((child.tag, key));
            counts.debtors += 1;
            if counts.debtors > MAX_DEBTORS {
                self.forgive_first(counts);
            }
        }
    }

    /// Advances the clock after a job of a child with the tag `start`. `busy` is the number of children that had
    /// waiting jobs.
    fn advance(&mut self, start: Tag, estimate: u64, busy: usize, counts: &mut JobCounts) {
        let share = estimate / u64::try_from(busy).unwrap_or(u64::MAX).max(1);
        // A new flow starts at most one job behind the next flow. If each flow has one job, the order is therefore that
        // of arrival.
        let latest = self.order.first();
        let latest = latest.map_or(Tag::MAX, |(tag, ..)| tag.saturating_add(estimate));
        let moved = self.clock.saturating_add(share).min(latest);
        self.clock = self.clock.max(start).max(moved);
        while self.debtors.first().is_some_and(|(tag, _)| *tag <= self.clock) {
            self.forgive_first(counts);
        }
    }

    /// Forgets the child with the smallest debt.
    fn forgive_first(&mut self, counts: &mut JobCounts) {
        if let Some((_, key)) = self.debtors.pop_first() {
            self.children.remove(&key);
            counts.debtors = counts.debtors.saturating_sub(1);
        }
    }
}

impl<T, N: Level<T>> Level<T> for Branch<N> {
    fn push(&mut self, path: &[FlowKey], ticket: Ticket, job: Waiting<T>, counts: &mut JobCounts) {
        let Some((key, rest)) = path.split_first() else {
            return;
        };
        let child = self.children.entry(*key).or_default();
        child.level.push(rest, ticket, job, counts);
        self.change(*key, counts, |child, clock| {
            if child.waiting == 0 {
                child.tag = child.tag.max(clock);
                child.busy_since = ticket.number;
            }
            child.waiting += 1;
        });
    }

    fn take(&mut self, estimate: u64, counts: &mut JobCounts) -> Option<(Ticket, Waiting<T>)> {
        let busy = self.order.len();
        let (start, _, key) = *self.order.first()?;
        let taken = self.children.get_mut(&key)?.level.take(estimate, counts);
        self.change(key, counts, |child, _| {
            child.waiting = child.waiting.saturating_sub(1);
            child.running += 1;
            child.tag = child.tag.saturating_add(estimate);
        });
        self.advance(start, estimate, busy, counts);
        taken
    }

    fn remove(&mut self, path: &[FlowKey], ticket: Ticket, counts: &mut JobCounts) -> Option<Waiting<T>> {
        let (key, rest) = path.split_first()?;
        let child = self.children.get_mut(key)?;
        let removed = child.level.remove(rest, ticket, counts)?;
        self.change(*key, counts, |child, _| {
            child.waiting = child.waiting.saturating_sub(1);
        });
        Some(removed)
    }

    fn settle(&mut self, path: &[FlowKey], estimate: u64, used: u64, counts: &mut JobCounts) {
        let Some((key, rest)) = path.split_first() else {
            return;
        };
        if let Some(child) = self.children.get_mut(key) {
            child.level.settle(rest, estimate, used, counts);
        }
        self.change(*key, counts, |child, _| {
            child.running = child.running.saturating_sub(1);
            child.tag = child.tag.saturating_sub(estimate).saturating_add(used);
        });
    }

    fn victim(&self, newcomer: Option<&[FlowKey]>) -> Option<Ticket> {
        let (waiting, tag, key) = *self.longest.last()?;
        if let Some((own, rest)) = newcomer.and_then(<[FlowKey]>::split_first) {
            let child = self.children.get(own);
            let with_newcomer = match child {
                Some(child) if child.waiting > 0 => (child.waiting + 1, child.tag),
                Some(child) => (1, child.tag.max(self.clock)),
                None => (1, self.clock),
            };
            if key == *own || (waiting, tag) <= with_newcomer {
                return child?.level.victim(Some(rest));
            }
        }
        self.children.get(&key)?.level.victim(None)
    }

    fn forget(&mut self, counts: &mut JobCounts) {
        counts.debtors = counts.debtors.saturating_sub(self.debtors.len());
        *self = Self::default();
    }
}
