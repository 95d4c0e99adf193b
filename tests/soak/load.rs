//! Workers that make all kinds of calls for random users until they are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::caller::{Caller, Consistency};
use crate::model::{Model, Person};
use crate::random::Random;
use crate::replica::{Door, Life};

const WORKERS: usize = 12;

/// Percentage of calls below which a call may write; the others are checks.
const CHECKS: usize = 40;

/// Delay of a worker after a call without a response, as callers should have.
const PAUSE: Duration = Duration::from_millis(5);

/// Maximum sessions of a user in a test: far below the number at which the oldest is evicted.
const MAX_SESSIONS: usize = 20;

pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    /// Held for reading during a call that writes, and for writing while there are none.
    writes: Arc<RwLock<()>>,
    workers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(model: &Arc<Model>, doors: &[Door], random: &mut Random) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(RwLock::new(()));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let worker = Worker {
                model: model.clone(),
                doors: doors.to_vec(),
                random: random.fork(),
                writes: writes.clone(),
            };
            workers.spawn(worker.run(is_over.clone()));
        }
        Self {
            is_over,
            writes,
            workers,
        }
    }

    /// Waits until the calls that write are answered; until the guard is dropped, sessions are checked and nothing
    /// else.
    pub(crate) async fn pause_writes(&self) -> OwnedRwLockWriteGuard<()> {
        self.writes.clone().write_owned().await
    }

    /// Waits until what is under way is answered.
    pub(crate) async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.workers.join_all().await;
    }
}

/// Returns whether a user may sign in once more.
pub(crate) fn has_room(person: &Person) -> bool {
    let live = person.sessions.iter().filter(|session| session.is_live());
    live.count() + person.strangers.1 < MAX_SESSIONS
}

struct Worker {
    model: Arc<Model>,
    doors: Vec<Door>,
    random: Random,
    writes: Arc<RwLock<()>>,
}

impl Worker {
    async fn run(mut self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::SeqCst) {
            let unanswered = self.model.unavailable.load(Ordering::SeqCst);
            self.ask_something().await;
            if self.model.unavailable.load(Ordering::SeqCst) > unanswered {
                sleep(PAUSE).await;
            }
        }
    }

    async fn ask_something(&mut self) {
        let caller = self.caller();
        let may_write = self.writes.clone().try_read_owned();
        let number = self.random.below(100);
        let number = if may_write.is_ok() {
            number
        } else {
            number.max(CHECKS)
        };
        match number {
            0..10 => caller.register().await,
            10..20 => {
                if let Some(person) = self.model.take(&mut self.random, has_room) {
                    caller.sign_in(person).await;
                }
            }
            20..32 => self.sign_out(&caller).await,
            32..36 => {
                if let Some(person) = self.signed_in_person()
                    && let Some(by) = person.live_session().cloned()
                {
                    caller.change_number(person, &by).await;
                }
            }
            36..40 => {
                if let Some(person) = self.signed_in_person()
                    && let Some(by) = person.live_session().cloned()
                {
                    caller.change_password(person, &by).await;
                }
            }
            number => {
                drop(may_write);
                let consistency = if number < 60 {
                    Consistency::Strong
                } else {
                    Consistency::MinimizeLatency
                };
                if let Some(session) = self.model.some_session(&mut self.random) {
                    caller.check(&session, consistency).await;
                }
            }
        }
    }

    /// Signs out a user with a session that every replica has in its cache, and checks at once whether the revocation
    /// is known there and in the database.
    async fn sign_out(&mut self, caller: &Caller) {
        let Some(person) = self.signed_in_person() else {
            return;
        };
        let session = person.live_session().cloned().unwrap();
        let lives: Vec<_> = self.doors.iter().map(Door::life).collect();
        for life in &lives {
            let caller = self.caller_of(life.clone());
            caller.check(&session, Consistency::MinimizeLatency).await;
        }
        caller.sign_out(person, &session).await;
        for life in lives {
            let consistency = if Arc::ptr_eq(&life, &caller.life) {
                Consistency::MinimizeLatency
            } else {
                Consistency::Strong
            };
            self.caller_of(life).check(&session, consistency).await;
        }
    }

    fn signed_in_person(&mut self) -> Option<Person> {
        let is_fit = |person: &Person| person.live_session().is_some();
        self.model.take(&mut self.random, is_fit)
    }

    fn caller(&mut self) -> Caller {
        let life = self.random.one_of(&self.doors).life();
        self.caller_of(life)
    }

    fn caller_of(&self, life: Arc<Life>) -> Caller {
        Caller {
            model: self.model.clone(),
            life,
        }
    }
}
