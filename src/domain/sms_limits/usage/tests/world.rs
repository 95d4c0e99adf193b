//! Simulation of a prefix, its sources and a clock.

use std::net::Ipv4Addr;

use super::*;
use crate::domain::network::Network;

/// A prefix and its sources.
#[derive(Clone)]
pub(super) struct PrefixWorld {
    pub(super) pumping_guard: PumpingGuard,
    pub(super) prefix: Usage,
    pub(super) sources: Vec<SourceSeen>,
    pub(super) now: i64,
}

#[derive(Clone)]
pub(super) struct SourceSeen {
    from: CodeSource,
    usage: Usage,
    /// Number of received and unused codes.
    codes: u32,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Counted,
    Paused { whose: Paused, seconds: u64 },
}

pub(super) const PAUSED: Answer = Answer::Paused {
    whose: Paused::ForAll,
    seconds: 3600,
};

pub(super) const PAUSED_FOR_SOURCE: Answer = Answer::Paused {
    whose: Paused::ForSource,
    seconds: 3600,
};

impl PrefixWorld {
    /// Creates a prefix with this number of networks. The last source stands for requests without a client address.
    pub(super) fn new(pumping_guard: PumpingGuard, networks: u8) -> Self {
        let network = |index| Network::of(Ipv4Addr::new(192, 0, 2, index).into());
        let sources = (0..networks).map(|index| CodeSource::Network(network(index)));
        let seen = |from| SourceSeen {
            from,
            usage: Usage::new(at(0)),
            codes: 0,
        };
        Self {
            pumping_guard,
            prefix: Usage::new(at(0)),
            sources: sources.chain([CodeSource::Unknown]).map(seen).collect(),
            now: 0,
        }
    }

    pub(super) fn seen(&self, source: usize) -> PrefixStats {
        PrefixStats {
            source: self.sources[source].usage,
            prefix: self.prefix,
        }
    }

    pub(super) fn set(&mut self, source: usize, seen: PrefixStats) {
        self.sources[source].usage = seen.source;
        self.prefix = seen.prefix;
    }

    pub(super) fn ask(&mut self, source: usize) -> Answer {
        let (from, seen, now) = (self.sources[source].from, self.seen(source), at(self.now));
        match self.pumping_guard.ask(from, seen, LIFETIME, now) {
            Asked::Counted(seen) => {
                self.set(source, seen);
                self.sources[source].codes += 1;
                Answer::Counted
            }
            Asked::Paused { rest, whose, by_this } => {
                if let Some(seen) = by_this {
                    self.set(source, seen);
                }
                let seconds = rest.as_secs();
                Answer::Paused { whose, seconds }
            }
        }
    }

    /// Requests a number of codes, and asserts that each is allowed.
    pub(super) fn ask_times(&mut self, source: usize, times: u32) {
        for index in 0..times {
            assert_eq!(self.ask(source), Answer::Counted, "{index}");
        }
    }

    /// Uses one code of the source, if it has one.
    pub(super) fn use_one(&mut self, source: usize) {
        if let Some(left) = self.sources[source].codes.checked_sub(1) {
            self.sources[source].codes = left;
            let seen = self.pumping_guard.used(self.seen(source));
            self.set(source, seen);
        }
    }

    pub(super) fn ask_and_use(&mut self, source: usize) {
        self.ask_times(source, 1);
        self.use_one(source);
    }

    pub(super) fn is_paused_for_all(&self) -> bool {
        self.prefix.paused_until.is_some_and(|until| until > at(self.now))
    }
}
