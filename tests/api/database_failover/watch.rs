//! Checks sessions all the time during a failover, and collects the answers that break a promise.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::load::Load;
use super::scene::{RECOVERY, revoke, strongly};
use crate::support::{Client, validation};

/// The default of `--staleness-bound`.
pub(super) const STALENESS_BOUND: Duration = Duration::from_secs(1);

/// Violations that are shown, beside the last one.
const SHOWN: usize = 5;

/// Maximum age of a revocation at the start of a check that still accepts the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Promise {
    /// Cached checks: the staleness bound. STRONG checks: 0 s.
    Always,
    /// The old primary does not notice that it is one, so both kinds of check have the staleness bound, and it begins
    /// at the move.
    SinceMove,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Cached,
    Strong,
}

/// The state of a session, as its checks have to answer.
#[derive(Clone, Copy, Debug)]
enum State {
    Valid,
    /// A call that revokes it is under way.
    Ending,
    Revoked(Instant),
}

#[derive(Debug)]
struct Session {
    token: String,
    state: State,
    /// Whether checks of both kinds have agreed with the state since the move.
    is_right: [bool; 2],
}

pub(super) struct Shared {
    promise: Promise,
    kinds: Vec<Kind>,
    sessions: Mutex<Vec<Session>>,
    moved: OnceLock<Instant>,
    /// The time from the move, or from the revocation if that was later, to the first STRONG check that refuses a
    /// revoked session.
    first_strong: OnceLock<Duration>,
    violations: Mutex<Vec<String>>,
}

pub(super) struct Watch {
    shared: Arc<Shared>,
    _checking: JoinSet<()>,
}

impl Watch {
    /// Checks these valid sessions from now on, by both kinds of check.
    pub(super) fn start(client: &Client, promise: Promise, tokens: &[&String]) -> Self {
        Self::start_with(client, promise, &[Kind::Cached, Kind::Strong], tokens)
    }

    /// The same with cached checks only: a STRONG check that finds a revocation is known to cached ones.
    pub(super) fn start_cached(client: &Client, promise: Promise, tokens: &[&String]) -> Self {
        Self::start_with(client, promise, &[Kind::Cached], tokens)
    }

    fn start_with(client: &Client, promise: Promise, kinds: &[Kind], tokens: &[&String]) -> Self {
        let shared = Arc::new(Shared {
            promise,
            kinds: kinds.to_vec(),
            sessions: Mutex::default(),
            moved: OnceLock::new(),
            first_strong: OnceLock::new(),
            violations: Mutex::default(),
        });
        let mut checking = JoinSet::new();
        for kind in kinds.iter().copied() {
            checking.spawn(shared.clone().check_all_the_time(client.clone(), kind));
        }
        let watch = Self {
            shared,
            _checking: checking,
        };
        for token in tokens {
            watch.shared.add(token);
        }
        watch
    }

    /// Revokes a session by another replica of the service.
    pub(super) async fn revoke(&self, client: &mut Client, token: &str) {
        self.shared.set(token, State::Ending);
        let acknowledged = revoke(client, token).await;
        self.shared.set(token, State::Revoked(acknowledged));
    }

    /// New connections lead to the new primary since then.
    pub(super) fn moved(&self, at: Instant) {
        self.shared.moved.set(at).unwrap();
        for session in self.shared.sessions.lock().unwrap().iter_mut() {
            session.is_right = [false; 2];
        }
    }

    /// Starts a load of sign-ins, checks and revocations.
    pub(super) fn load(&self, client: &Client, users: &[String]) -> Load {
        Load::start(&self.shared, client, users)
    }

    /// Waits until every session was answered rightly by all kinds of checks, which has to be so within [`RECOVERY`].
    /// Fails as well if any answer since the start broke a promise.
    pub(super) async fn settle(self, name: &str) -> Result<(), String> {
        let settled = async {
            let mut ticks = interval(Duration::from_millis(5));
            while !self.shared.is_settled() {
                ticks.tick().await;
            }
        };
        let outcome = timeout(RECOVERY, settled).await;
        let first = self.shared.first_strong.get();
        eprintln!("{name}: first STRONG check that refused a revoked session {first:?} after the move");
        self.shared.outcome()?;
        let is_wrong = |session: &&Session| !self.shared.is_right(session);
        let sessions = self.shared.sessions.lock().unwrap();
        let wrong: Vec<_> = sessions.iter().filter(is_wrong).collect();
        outcome.map_err(|_| format!("sessions without a right answer within {RECOVERY:?}: {wrong:?}"))
    }
}

impl Shared {
    async fn check_all_the_time(self: Arc<Self>, mut client: Client, kind: Kind) {
        let mut ticks = interval(Duration::from_millis(5));
        for index in 0.. {
            ticks.tick().await;
            let found = {
                let sessions = self.sessions.lock().unwrap();
                let session = sessions.get(index % sessions.len().max(1));
                session.map(|session| (session.token.clone(), session.state))
            };
            let Some((token, before)) = found else { continue };
            let asked = Instant::now();
            let request = match kind {
                Kind::Cached => validation(&token),
                Kind::Strong => strongly(&token),
            };
            let answer = client.validate_session(request).await.map(drop);
            self.judge(kind, &token, before, asked, answer);
        }
    }

    fn judge(&self, kind: Kind, token: &str, before: State, asked: Instant, answer: Result<(), Status>) {
        let is_accepted = match answer {
            Ok(()) => true,
            Err(status) if status.code() == Code::Unauthenticated => false,
            Err(status) => {
                let may_be =
                    status.code() == Code::Unavailable && status.get_error_details().retry_info().is_some();
                if !may_be {
                    self.violation(format!("a {kind:?} check failed: {status:?}"));
                }
                return;
            }
        };
        if let (true, State::Revoked(acknowledged)) = (is_accepted, before)
            && let Some(late) = self.late(kind, acknowledged, asked)
        {
            self.violation(format!(
                "a {kind:?} check accepted a session {:?} after its revocation, {late:?} too late",
                asked - acknowledged
            ));
        }
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.iter_mut().find(|session| session.token == token);
        let session = session.unwrap();
        let is_right = match session.state {
            State::Valid => is_accepted,
            State::Ending => false,
            State::Revoked(_) => !is_accepted,
        };
        let revoked = match session.state {
            State::Revoked(at) => Some(at),
            _ => None,
        };
        let was_refused_while_valid = matches!(session.state, State::Valid) && !is_accepted;
        let moved = self.moved.get().filter(|moved| asked >= **moved);
        if is_right && moved.is_some() {
            session.is_right[kind as usize] = true;
        }
        drop(sessions);
        if was_refused_while_valid {
            self.violation(format!("a {kind:?} check refused a valid session"));
        }
        if let (Some(moved), Some(revoked)) = (moved, revoked)
            && is_right
            && kind == Kind::Strong
        {
            let _ = self.first_strong.set((*moved).max(revoked).elapsed());
        }
    }

    /// By how much a check that accepts a session began too late.
    fn late(&self, kind: Kind, acknowledged: Instant, asked: Instant) -> Option<Duration> {
        let until = match (self.promise, kind) {
            (Promise::Always, Kind::Strong) => acknowledged,
            (Promise::Always, Kind::Cached) => acknowledged + STALENESS_BOUND,
            (Promise::SinceMove, _) => acknowledged.max(*self.moved.get()?) + STALENESS_BOUND,
        };
        (asked > until).then(|| asked - until)
    }

    fn set(&self, token: &str, state: State) {
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.iter_mut().find(|session| session.token == token);
        let session = session.expect("the session is not watched");
        session.state = state;
        session.is_right = [false; 2];
    }

    /// Adds a valid session to those that are checked.
    pub(super) fn add(&self, token: &str) {
        self.sessions.lock().unwrap().push(Session {
            token: token.to_owned(),
            state: State::Valid,
            is_right: [false; 2],
        });
    }

    fn is_right(&self, session: &Session) -> bool {
        self.kinds.iter().all(|kind| session.is_right[*kind as usize])
    }

    fn is_settled(&self) -> bool {
        let sessions = self.sessions.lock().unwrap();
        sessions.iter().all(|session| self.is_right(session))
    }

    pub(super) fn violation(&self, violation: String) {
        self.violations.lock().unwrap().push(violation);
    }

    fn outcome(&self) -> Result<(), String> {
        let violations = self.violations.lock().unwrap();
        let Some(last) = violations.last() else {
            return Ok(());
        };
        let (count, shown) = (violations.len(), violations.len().min(SHOWN));
        let shown = violations[..shown].join("\n");
        Err(format!(
            "{count} answers broke a promise, first:\n{shown}\nand last:\n{last}"
        ))
    }
}
