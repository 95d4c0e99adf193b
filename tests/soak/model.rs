//! The model: registered users, with their numbers and passwords, and live sessions, by the acknowledged calls.
//!
//! A user is taken out of the model during a change. So each user has one change at a time, and its outcome is known,
//! or is one of two. Meanwhile, all callers check the sessions of the user.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;
use crate::replica::Life;

/// Number of recently ended sessions that are checked more often than others.
const LATELY: usize = 200;

/// Maximum number of violations that are shown.
const SHOWN: usize = 20;

/// A registered user.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) password: String,
    pub(crate) sessions: Vec<Arc<Session>>,
    /// Minimum and maximum number of other sessions: of sign-ins that were not acknowledged.
    pub(crate) strangers: (usize, usize),
    /// Acknowledged changes of the profile, and those of the password among them.
    pub(crate) changes: usize,
    pub(crate) password_changes: i64,
    /// A change that was not acknowledged, and may have happened or happen yet.
    pub(crate) pending: Option<Pending>,
}

/// A change of a profile.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Number(String),
    Password(String),
}

impl Person {
    pub(crate) fn new(id: String, number: String, password: String) -> Self {
        Self {
            id,
            number,
            password,
            sessions: Vec::new(),
            strangers: (0, 0),
            changes: 0,
            password_changes: 0,
            pending: None,
        }
    }

    /// A session that is live for certain.
    pub(crate) fn live_session(&self) -> Option<&Arc<Session>> {
        self.sessions.iter().rev().find(|session| session.is_live())
    }

    /// The visible results of the pending change.
    pub(crate) fn apply(&mut self, change: Pending) {
        self.changes += 1;
        match change {
            Pending::Number(number) => self.number = number,
            Pending::Password(password) => {
                self.password = password;
                self.password_changes += 1;
            }
        }
    }
}

/// A session with a known token.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) token: String,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Live,
    /// A call to end it was made. Its outcome is unknown.
    Ending,
    Ended(Ended),
}

#[derive(Clone)]
pub(crate) struct Ended {
    /// The time of the response.
    pub(crate) at: Instant,
    /// The process that acknowledged it. `None`: it is gone.
    pub(crate) by: Option<Arc<Life>>,
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended {:?} ago", self.at.elapsed())
    }
}

impl Session {
    pub(crate) fn new(id: String, user_id: String, token: String) -> Arc<Self> {
        let state = Mutex::new(State::Live);
        Arc::new(Self {
            id,
            user_id,
            token,
            state,
        })
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    pub(crate) fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state(), State::Live)
    }
}

/// All that is known, and what was counted.
pub(crate) struct Model {
    next_number: AtomicU64,
    idle: Mutex<Vec<Person>>,
    /// Users with a last change that may have happened or may still happen. No other call is made for them.
    in_doubt: Mutex<Vec<Person>>,
    /// Numbers with a registration that was not acknowledged, with the password.
    registering: Mutex<HashMap<String, String>>,
    sessions: Mutex<Vec<Arc<Session>>>,
    lately_ended: Mutex<VecDeque<Arc<Session>>>,
    violations: Mutex<Vec<String>>,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    /// Successful calls since the last failed one.
    pub(crate) in_a_row: AtomicU64,
    /// Whether there are two primaries, one of which does not notice: STRONG checks have the staleness bound, too.
    pub(crate) is_split: AtomicBool,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            // From here on, there are nine million mobile numbers of Uzbekistan.
            next_number: AtomicU64::new(1_000_000),
            idle: Mutex::default(),
            in_doubt: Mutex::default(),
            registering: Mutex::default(),
            sessions: Mutex::default(),
            lately_ended: Mutex::default(),
            violations: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            is_split: AtomicBool::new(false),
        }
    }

    /// Returns a number that was never used.
    pub(crate) fn new_number(&self) -> String {
        format!("+99890{}", self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// Begins a registration.
    pub(crate) fn registers(&self, number: &str, password: &str) {
        self.registering
            .lock()
            .unwrap()
            .insert(number.to_owned(), password.to_owned());
    }

    /// The registration of a number was acknowledged, or certainly did not happen.
    pub(crate) fn is_settled(&self, number: &str) {
        self.registering.lock().unwrap().remove(number);
    }

    /// Removes and returns the registrations that were not acknowledged.
    pub(crate) fn take_registering(&self) -> HashMap<String, String> {
        std::mem::take(&mut *self.registering.lock().unwrap())
    }

    /// Takes a user that fulfils a condition out of the model.
    pub(crate) fn take(&self, random: &mut Random, is_fit: impl Fn(&Person) -> bool) -> Option<Person> {
        let mut idle = self.idle.lock().unwrap();
        let count = idle.len();
        let first = random.below(count.max(1));
        let found = (0..count)
            .map(|step| (first + step) % count)
            .find(|index| is_fit(&idle[*index]));
        found.map(|index| idle.swap_remove(index))
    }

    /// Puts a user back.
    pub(crate) fn put(&self, person: Person) {
        let people = if person.pending.is_some() {
            &self.in_doubt
        } else {
            &self.idle
        };
        people.lock().unwrap().push(person);
    }

    /// Takes all users out.
    pub(crate) fn take_all(&self) -> Vec<Person> {
        let mut all = std::mem::take(&mut *self.idle.lock().unwrap());
        all.append(&mut self.in_doubt.lock().unwrap());
        all
    }

    pub(crate) fn knows(&self, session: &Arc<Session>) {
        self.sessions.lock().unwrap().push(session.clone());
    }

    pub(crate) fn has_ended(&self, session: &Arc<Session>, by: &Arc<Life>) {
        let (at, by) = (Instant::now(), Some(by.clone()));
        session.set(State::Ended(Ended { at, by }));
        let mut lately = self.lately_ended.lock().unwrap();
        lately.push_back(session.clone());
        if lately.len() > LATELY {
            lately.pop_front();
        }
    }

    /// A session to check: one of those that ended lately, or of all.
    pub(crate) fn some_session(&self, random: &mut Random) -> Option<Arc<Session>> {
        if random.below(2) == 0 {
            let lately = self.lately_ended.lock().unwrap();
            if !lately.is_empty() {
                return Some(lately[random.below(lately.len())].clone());
            }
        }
        let sessions = self.sessions.lock().unwrap();
        (!sessions.is_empty()).then(|| random.one_of(&sessions).clone())
    }

    /// Returns all sessions with known tokens.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().unwrap().clone()
    }

    pub(crate) fn was_answered(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.in_a_row.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn was_not_answered(&self) {
        self.unavailable.fetch_add(1, Ordering::SeqCst);
        self.in_a_row.store(0, Ordering::SeqCst);
    }

    pub(crate) fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < SHOWN {
            violations.push(what);
        }
    }

    /// Fails if anything was wrong so far.
    pub(crate) fn assert_good(&self) {
        let violations = self.violations.lock().unwrap();
        assert!(violations.is_empty(), "wrong:\n{}", violations.join("\n"));
    }

    /// Waits until something is so; fails after this long, or when anything was wrong.
    pub(crate) async fn until(&self, patience: Duration, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !is_so(self) {
            self.assert_good();
            assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
            ticks.tick().await;
        }
    }
}
