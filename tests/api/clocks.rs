//! Wall clocks that are wrong. Each test is a row of a table, for one stored time, with a cell for each scenario. A
//! cell asserts that no wait is longer than the maximum of the setting, and that normal service is restored by then.

mod codes;
mod counters;
mod logs;
mod sessions;
mod throttle;

use std::time::Duration;

use chrono::TimeDelta;

use crate::support::TestServer;
use crate::support::codes::flag_of_keys;

/// Maximum difference between the clocks of replicas (`clock::MAX_SKEW`).
const MAX_SKEW: Duration = Duration::from_mins(15);

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The error of the clock that writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scenario {
    /// Two days ahead, and then corrected.
    Ahead,
    /// Two days behind, and then corrected.
    Behind,
    /// The clock of another replica, ten minutes ahead of the one that judges.
    ReplicaAhead,
    /// The clock of another replica, ten minutes behind the one that judges.
    ReplicaBehind,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario::Ahead,
    Scenario::Behind,
    Scenario::ReplicaAhead,
    Scenario::ReplicaBehind,
];

impl Scenario {
    /// Difference between the clock that writes and the clock that reads, ahead.
    fn offset(self) -> TimeDelta {
        match self {
            Self::Ahead => TimeDelta::days(2),
            Self::Behind => TimeDelta::days(-2),
            Self::ReplicaAhead => TimeDelta::minutes(10),
            Self::ReplicaBehind => TimeDelta::minutes(-10),
        }
    }

    fn is_of_replicas(self) -> bool {
        matches!(self, Self::ReplicaAhead | Self::ReplicaBehind)
    }

    /// Maximum by which different clocks of replicas may lengthen a validity period.
    fn slack(self) -> Duration {
        if self.is_of_replicas() {
            MAX_SKEW
        } else {
            Duration::ZERO
        }
    }
}

/// A server with a wrong clock, and one that reads the times that it stores.
struct World {
    scenario: Scenario,
    offset: TimeDelta,
    writer: TestServer,
    replica: Option<TestServer>,
}

impl World {
    async fn start(scenario: Scenario, flags: &[&str]) -> Self {
        Self::start_off_by(scenario, scenario.offset(), flags).await
    }

    /// The same with another error of the clock.
    async fn start_off_by(scenario: Scenario, offset: TimeDelta, flags: &[&str]) -> Self {
        let keys = flag_of_keys();
        let has_providers = flags.iter().any(|flag| flag.starts_with("--sms-providers"));
        let providers = if has_providers {
            &[][..]
        } else {
            &["--sms-providers=log"]
        };
        let flags = [&[keys.as_str()], providers, flags].concat();
        let writer = TestServer::start_with(&flags).await;
        let replica = match scenario.is_of_replicas() {
            true => Some(writer.replica(&flags).await),
            false => None,
        };
        writer.clock.shift_wall(offset);
        Self {
            scenario,
            offset,
            writer,
            replica,
        }
    }

    /// Corrects the clock, unless the writer is another replica. Returns the server that judges.
    fn corrected(&self) -> &TestServer {
        if self.replica.is_none() {
            self.writer.clock.shift_wall(-self.offset);
        }
        self.judge()
    }

    /// The server that judges.
    fn judge(&self) -> &TestServer {
        self.replica.as_ref().unwrap_or(&self.writer)
    }

    /// Advances all clocks.
    fn advance(&self, by: Duration) {
        self.writer.clock.advance(by);
        if let Some(replica) = &self.replica {
            replica.clock.advance(by);
        }
    }
}
