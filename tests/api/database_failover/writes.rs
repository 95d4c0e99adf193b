//! Recovery time of writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::scene::{RECOVERY, assert_all, register, strongly};
use super::watch::Watch;
use crate::support::{Client, PASSWORD, credentials};

/// Number of consecutive writes that count as a recovery.
const IN_A_ROW: usize = 40;

/// Callers at once: as many as the pool has connections, so that each connection is used.
const CALLERS: usize = 4;

/// Users that sign in, so that the service writes.
pub(super) struct Writes {
    client: Client,
    users: Vec<String>,
}

/// The answers to the callers so far.
struct Progress {
    moved: Instant,
    in_a_row: AtomicUsize,
    failures: AtomicUsize,
    /// The time from the move to the end of the first write that succeeded.
    first: OnceLock<Duration>,
    last_failure: Mutex<Option<(Duration, String)>>,
    violation: OnceLock<String>,
}

impl Writes {
    /// Opens all connections of the pool.
    pub(super) async fn new(client: &Client) -> Self {
        let mut users = Vec::new();
        for _ in 0..CALLERS {
            users.push(register(&mut client.clone()).await);
        }
        let writes = Self {
            client: client.clone(),
            users,
        };
        writes.measure("opening", Instant::now(), None).await.unwrap();
        writes
    }

    pub(super) fn user(&self) -> &str {
        &self.users[0]
    }

    /// As [`Self::recover`], beside a watch that settles.
    pub(super) async fn recover_and_settle(&self, watch: Watch, name: &str, moved: Instant, there: &Client) {
        let (written, settled) = tokio::join!(self.recover(name, moved, Some(there)), watch.settle(name));
        assert_all(name, &[written, settled]);
    }

    /// Signs in by several callers at once until all of them succeed, which has to be so within [`RECOVERY`] of the
    /// move to the new primary. A replica `there` has to know the new sessions, if it is given.
    pub(super) async fn recover(
        &self,
        name: &str,
        moved: Instant,
        there: Option<&Client>,
    ) -> Result<(), String> {
        let report = self.measure(name, moved, there).await?;
        eprintln!("{report}");
        Ok(())
    }

    /// As [`Self::recover`], and returns what was measured.
    async fn measure(&self, name: &str, moved: Instant, there: Option<&Client>) -> Result<String, String> {
        let progress = Arc::new(Progress {
            moved,
            in_a_row: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            first: OnceLock::new(),
            last_failure: Mutex::default(),
            violation: OnceLock::new(),
        });
        let mut callers = JoinSet::new();
        for user in &self.users {
            let progress = progress.clone();
            callers.spawn(progress.sign_in(self.client.clone(), user.clone(), there.cloned()));
        }
        let recovery = async {
            while progress.in_a_row.load(Ordering::SeqCst) < IN_A_ROW {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let left = (moved + RECOVERY).saturating_duration_since(Instant::now());
        let outcome = timeout(left, recovery).await;
        let after = moved.elapsed();
        callers.shutdown().await;
        let failures = progress.failures.load(Ordering::SeqCst);
        let last = progress.last_failure.lock().unwrap().clone();
        let report = format!(
            "{name}: first successful write {:?} after the move, {IN_A_ROW} in a row {:?}, {failures} \
             failures, the last one \
             {last:?}",
            progress.first.get(),
            outcome.is_ok().then_some(after)
        );
        if let Some(violation) = progress.violation.get() {
            return Err(violation.clone());
        }
        match outcome {
            Ok(()) => Ok(report),
            Err(_) => Err(format!("writes did not recover within {RECOVERY:?}: {report}")),
        }
    }
}

impl Progress {
    async fn sign_in(self: Arc<Self>, mut client: Client, user: String, mut there: Option<Client>) {
        loop {
            let answer = client.authenticate(credentials(&user, PASSWORD)).await;
            let failure = match (answer, &mut there) {
                (Ok(response), Some(there)) => {
                    let token = response.into_inner().session_token;
                    let checked = there.validate_session(strongly(&token)).await;
                    checked
                        .err()
                        .map(|status| format!("elsewhere {:?}", status.code()))
                }
                (Ok(_), None) => None,
                (Err(status), _) => {
                    let is_allowed = status.code() == Code::Unavailable
                        && status.get_error_details().retry_info().is_some();
                    if !is_allowed {
                        let _ = self.violation.set(format!("a write failed: {status:?}"));
                    }
                    Some(format!("{:?} {}", status.code(), status.message()))
                }
            };
            if let Some(failure) = failure {
                self.in_a_row.store(0, Ordering::SeqCst);
                self.failures.fetch_add(1, Ordering::SeqCst);
                *self.last_failure.lock().unwrap() = Some((self.moved.elapsed(), failure));
                sleep(Duration::from_millis(10)).await;
            } else {
                let _ = self.first.set(self.moved.elapsed());
                self.in_a_row.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}
