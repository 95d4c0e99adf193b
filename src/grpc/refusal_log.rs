//! Log sampling of refused calls: the first ones of a second have a line each, and one summary counts the rest.
//!
//! A client can cause cheap refusals at any rate, so a line for each would let it fill the disk. At the level DEBUG
//! every refusal has its line. Counts are exact: a summary counts the refusals without a line, at the latest when the
//! process ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::proto::v1::ErrorReason;

/// Length of a sampling window.
const WINDOW: Duration = Duration::from_secs(1);

/// Maximum number of lines per reason and window of calls without a calling service.
const LINES: u64 = 10;

/// Maximum number of lines per reason and window of one calling service. Its operator finds calls by request id.
const LINES_OF_SERVICE: u64 = 100;

/// Maximum number of windows. Further calling services share the windows of calls without a calling service.
const MAX_WINDOWS: usize = 4096;

/// The calling service of a refused call, an extension of its response.
#[derive(Clone, Debug)]
pub(super) struct RefusedCaller(pub(super) Arc<str>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct RefusalKey {
    reason: ErrorReason,
    service: Option<Arc<str>>,
}

#[derive(Debug)]
struct LogWindow {
    /// Time since boot.
    start: Duration,
    logged: u64,
    suppressed: u64,
}

/// Decides which refused calls have a log line. Cheap to clone.
#[derive(Clone)]
pub(super) struct RefusalLog {
    clock: Arc<dyn Clock>,
    windows: Arc<Mutex<HashMap<RefusalKey, LogWindow>>>,
}

impl RefusalLog {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            windows: Arc::default(),
        }
    }

    /// Whether a call that ended with this reason has a line at the level INFO. A call without a reason has one.
    pub(super) fn has_line(&self, reason: Option<&str>, service: Option<&RefusedCaller>) -> bool {
        let reason = reason.and_then(|name| ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")));
        let Some(reason) = reason.filter(|reason| is_sampled(*reason)) else {
            return true;
        };
        let now = self.clock.since_boot();
        let mut windows = self.lock();
        let mut key = RefusalKey {
            reason,
            service: service.map(|RefusedCaller(name)| name.clone()),
        };
        if windows.len() >= MAX_WINDOWS && !windows.contains_key(&key) {
            key.service = None;
        }
        let lines = match key.service {
            Some(_) => LINES_OF_SERVICE,
            None => LINES,
        };
        let new = LogWindow {
            start: now,
            logged: 0,
            suppressed: 0,
        };
        let mut ended = None;
        let window = match windows.entry(key) {
            Entry::Vacant(entry) => entry.insert(new),
            Entry::Occupied(entry) => {
                let key = entry.key().clone();
                let window = entry.into_mut();
                if window.start + WINDOW <= now {
                    ended = Some((key, std::mem::replace(window, new)));
                }
                window
            }
        };
        let has_line = window.logged < lines;
        if has_line {
            window.logged += 1;
        } else {
            window.suppressed += 1;
        }
        drop(windows);
        if let Some((key, window)) = ended {
            summarize(&key, &window);
        }
        has_line
    }

    /// Logs the summaries of ended windows, every second, until the future is dropped.
    pub(super) async fn run(self) {
        let mut ticks = interval(WINDOW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.end_windows(Some(self.clock.since_boot()));
        }
    }

    /// Logs the summaries of the windows that have ended at `now`. `None`: of all windows.
    pub(super) fn end_windows(&self, now: Option<Duration>) {
        let is_over = |window: &LogWindow| now.is_none_or(|now| window.start + WINDOW <= now);
        let mut ended: Vec<_> = {
            let mut windows = self.lock();
            windows.extract_if(|_, window| is_over(window)).collect()
        };
        ended.sort_unstable_by_key(|(key, _)| key.reason);
        for (key, window) in &ended {
            summarize(key, window);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RefusalKey, LogWindow>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the number of refusals without a line in a window. The line belongs to no call, so it has no span.
fn summarize(key: &RefusalKey, window: &LogWindow) {
    if window.suppressed > 0 {
        let name = key.reason.as_str_name();
        tracing::info!(
            parent: None,
            reason = name.strip_prefix("ERROR_REASON_").unwrap_or(name),
            service = key.service.as_deref(),
            refused = window.suppressed,
            "refusals without a line"
        );
    }
}

/// Whether refusals with this reason are cheap for the client and have no audit event each. Internal errors, and
/// refusals with an audit event, have a line each.
fn is_sampled(reason: ErrorReason) -> bool {
    matches!(
        reason,
        ErrorReason::ServiceUnknown
            | ErrorReason::ServiceNotAllowed
            | ErrorReason::OperatorKeyWrong
            | ErrorReason::SessionInvalid
            | ErrorReason::SessionExpired
            | ErrorReason::InvalidInput
            | ErrorReason::MalformedMessage
            | ErrorReason::MessageTooLarge
            | ErrorReason::NotImplemented
            | ErrorReason::TooManyAttempts
            | ErrorReason::Overloaded
            | ErrorReason::DeadlineExceeded
            | ErrorReason::CodeInvalid
            | ErrorReason::RegistrationClosed
            | ErrorReason::SmsNotConfigured
            | ErrorReason::SmsCountryNotAllowed
            | ErrorReason::SmsLimitReached
            | ErrorReason::SmsBudgetExhausted
            | ErrorReason::SmsPaused
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::clock::ManualClock;

    fn lines(log: &RefusalLog, reason: &str, service: Option<&RefusedCaller>, calls: usize) -> usize {
        (0..calls).filter(|_| log.has_line(Some(reason), service)).count()
    }

    /// Returns the number of calls without a line.
    fn suppressed(log: &RefusalLog) -> u64 {
        log.lock().values().map(|window| window.suppressed).sum()
    }

    #[test]
    fn a_second_has_ten_lines_per_reason_and_the_rest_is_counted() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let log = RefusalLog::new(clock.clone());
        assert_eq!(lines(&log, "SESSION_INVALID", None, 1000), 10);
        assert_eq!(lines(&log, "INVALID_INPUT", None, 1000), 10);
        assert_eq!(suppressed(&log), 1980);
        clock.advance(Duration::from_millis(999));
        assert_eq!(lines(&log, "SESSION_INVALID", None, 5), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(lines(&log, "SESSION_INVALID", None, 15), 10);
        // Windows do not depend on the wall clock.
        clock.shift_wall(chrono::TimeDelta::days(2));
        assert_eq!(lines(&log, "SESSION_INVALID", None, 5), 0);
        log.end_windows(Some(clock.since_boot()));
        // The window of the other reason has ended.
        assert_eq!(log.lock().len(), 1);
        assert_eq!(suppressed(&log), 10);
        log.end_windows(None);
        assert!(log.lock().is_empty());
    }

    #[test]
    fn refusals_with_an_audit_event_and_internal_errors_have_a_line_each() {
        let log = RefusalLog::new(Arc::new(ManualClock::new(DateTime::UNIX_EPOCH)));
        for reason in [
            "INVALID_CREDENTIALS",
            "CURRENT_PASSWORD_WRONG",
            "INTERNAL",
            "DATABASE_UNAVAILABLE",
        ] {
            assert_eq!(lines(&log, reason, None, 100), 100, "{reason}");
        }
        assert!((0..100).all(|_| log.has_line(None, None)));
        assert!(log.lock().is_empty());
    }

    #[test]
    fn the_number_of_windows_is_limited() {
        let log = RefusalLog::new(Arc::new(ManualClock::new(DateTime::UNIX_EPOCH)));
        let services = (0..MAX_WINDOWS * 2).map(|number| RefusedCaller(format!("s{number}").into()));
        let total: usize = services
            .map(|service| lines(&log, "SESSION_INVALID", Some(&service), 200))
            .sum();
        assert_eq!(total, MAX_WINDOWS * 100 + 10);
        assert_eq!(log.lock().len(), MAX_WINDOWS + 1);
    }
}
