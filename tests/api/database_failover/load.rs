//! A small load during a failover: each caller signs in, checks the session and revokes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::scene::strongly;
use super::watch::Shared;
use crate::support::{Client, PASSWORD, credentials, validation};

/// A caller keeps one in this number of its sessions, and revokes the others.
const KEPT: usize = 5;

/// Sessions of a caller that are not revoked: below the default of `--max-sessions`.
const MAX_KEPT: usize = 20;

/// A pause of each caller, so that the test can continue meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    /// One caller for each user. Sessions that are not revoked are added to the watch.
    pub(super) fn start(watch: &Arc<Shared>, client: &Client, users: &[String]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for user in users {
            let caller = Caller {
                watch: watch.clone(),
                client: client.clone(),
                user: user.clone(),
                acknowledged: acknowledged.clone(),
            };
            callers.spawn(caller.run(is_over.clone()));
        }
        Self {
            is_over,
            acknowledged,
            callers,
        }
    }

    /// Waits for so many more acknowledged writes.
    pub(super) async fn goes_on(&self, writes: usize) {
        let enough = self.acknowledged.load(Ordering::SeqCst) + writes;
        crate::support::eventually(|| self.acknowledged.load(Ordering::SeqCst) >= enough).await;
    }

    /// Waits until the last calls are answered.
    pub(super) async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.callers.join_all().await;
    }
}

struct Caller {
    watch: Arc<Shared>,
    client: Client,
    user: String,
    acknowledged: Arc<AtomicUsize>,
}

impl Caller {
    async fn run(mut self, is_over: Arc<AtomicBool>) {
        for number in 0.. {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let is_kept = number % KEPT == 0 && number < KEPT * MAX_KEPT;
            self.use_a_session(is_kept).await;
            sleep(PAUSE).await;
        }
    }

    async fn use_a_session(&mut self, is_kept: bool) {
        let signed_in = self.client.authenticate(credentials(&self.user, PASSWORD)).await;
        let Some(signed_in) = self.done("sign-in", signed_in) else {
            return;
        };
        let token = signed_in.session_token;
        let checked = self.client.validate_session(validation(&token)).await;
        self.done("check of a valid session", checked);
        if is_kept {
            self.watch.add(&token);
            return;
        }
        let request = v1::RevokeSessionRequest {
            session_token: token.clone(),
        };
        let revoked = self.client.revoke_session(request).await;
        if self.done("revocation", revoked).is_none() {
            return;
        }
        for (kind, request) in [("cached", validation(&token)), ("STRONG", strongly(&token))] {
            match self.client.validate_session(request).await {
                Ok(_) => self
                    .watch
                    .violation(format!("a {kind} check accepted a session that was revoked here")),
                Err(status) if status.code() == Code::Unauthenticated => {}
                Err(status) => drop(self.done::<()>("check", Err(status))),
            }
        }
    }

    /// The answer of a call that succeeds, unless it is UNAVAILABLE.
    fn done<T>(&self, call: &str, answer: Result<Response<T>, Status>) -> Option<T> {
        match answer {
            Ok(response) => {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                Some(response.into_inner())
            }
            Err(status) => {
                let is_allowed =
                    status.code() == Code::Unavailable && status.get_error_details().retry_info().is_some();
                if !is_allowed {
                    self.watch.violation(format!("{call}: {status:?}"));
                }
                None
            }
        }
    }
}
