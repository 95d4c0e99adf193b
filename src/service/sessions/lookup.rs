//! Looking sessions up in the database, many with one query.
//!
//! Who asks stands in a bounded line. Whenever a query may be sent, it takes as many of the line as there are, up to
//! what one query takes: the busier it is, the more share a query. Nobody joins a query that was sent before they
//! asked, so an answer is never older than its question.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::cache::KnownSession;
use crate::clock::Clock;
use crate::domain::session::Session;
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::revocation::fence::{Fence, Version};
use crate::store::sessions::{self, MAX_TOKENS};
use crate::store::{Store, StoreError};
use crate::telemetry::tracing::TraceContext;

/// How many may stand in the line: as many as some hundred queries take, which is less than a second of work.
const LINE: usize = 16 * 1024;

/// When to come back after the line was full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long to wait for the change log to be read when another server answers than the one that is followed.
const READING_TIMEOUT: Duration = Duration::from_secs(1);

/// Sessions with their tokens and users.
type LookupRows = Vec<(TokenHash, Session, User)>;

type LookupAnswer = Result<Option<Arc<KnownSession>>, StoreError>;

struct Question {
    token: TokenHash,
    answer: oneshot::Sender<LookupAnswer>,
    /// A query that is shared belongs to the first trace of those who share it.
    trace: TraceContext,
}

/// The line of those who ask.
pub(super) struct Lookups {
    line: mpsc::Sender<Question>,
}

impl Lookups {
    /// Begins to answer, with at most `queries` at a time, until it is dropped.
    pub(super) fn start(store: Store, clock: Arc<dyn Clock>, freshness: Arc<Fence>, queries: usize) -> Self {
        let (line, questions) = mpsc::channel(LINE);
        let desk = LookupQueue {
            store,
            clock,
            freshness,
        };
        tokio::spawn(desk.run(questions, queries));
        Self { line }
    }

    /// Finds the session of a token, ended or not, as it is in the database now.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the line is full, or when the database fails.
    pub(super) async fn find(&self, token: TokenHash) -> Result<Option<Arc<KnownSession>>, Error> {
        let (answer, answered) = oneshot::channel();
        self.line
            .try_send(Question {
                token,
                answer,
                trace: TraceContext::current(),
            })
            .map_err(|_| Error::Overloaded {
                retry_after: RETRY_AFTER,
            })?;
        Ok(answered.await.map_err(Error::internal)??)
    }
}

#[derive(Clone)]
struct LookupQueue {
    store: Store,
    clock: Arc<dyn Clock>,
    freshness: Arc<Fence>,
}

impl LookupQueue {
    async fn run(self, mut questions: mpsc::Receiver<Question>, queries: usize) {
        let free = Arc::new(Semaphore::new(queries));
        // First a free place, then the questions: while all places are taken, those who ask gather in the line.
        while let Ok(place) = free.clone().acquire_owned().await {
            let mut batch = Vec::new();
            if questions.recv_many(&mut batch, MAX_TOKENS).await == 0 {
                break;
            }
            let desk = self.clone();
            let traced = batch
                .iter()
                .map(|question| &question.trace)
                .find(|trace| trace.is_traced());
            let trace = traced.cloned().unwrap_or_default();
            tokio::spawn(async move {
                trace.scope(desk.answer(batch)).await;
                drop(place);
            });
        }
    }

    async fn answer(&self, questions: Vec<Question>) {
        let mut waiting: HashMap<TokenHash, Vec<oneshot::Sender<LookupAnswer>>> =
            HashMap::with_capacity(questions.len());
        for Question { token, answer, .. } in questions {
            if !answer.is_closed() {
                waiting.entry(token).or_default().push(answer);
            }
        }
        let tokens: Vec<TokenHash> = waiting.keys().copied().collect();
        let (found, position) = self.find(&tokens).await;
        if tokens.len() > 1 && matches!(found, Err(StoreError::Fault(_))) {
            // A row that cannot be read does not fail the look-ups of others.
            for token in tokens {
                let (alone, position) = self.find(&[token]).await;
                let waiting = HashMap::from([(token, waiting.remove(&token).unwrap_or_default())]);
                tell(waiting, alone, position);
            }
        } else {
            tell(waiting, found, position);
        }
    }

    /// Finds the sessions of these tokens, and the position before the query. If the answer cannot be used, the change
    /// log is read on a new connection first, which decides which server is right, and the query is executed once more.
    async fn find(&self, tokens: &[TokenHash]) -> (Result<LookupRows, StoreError>, Version) {
        match self.find_once(tokens).await {
            (Ok(Err(Unusable::OtherServer(generation))), _) => self.store.end_generation_of(generation),
            (Ok(Err(Unusable::NoHeartbeat)), _) => {}
            (found, position) => return (required(found), position),
        }
        self.freshness.next_reading(READING_TIMEOUT).await;
        let (found, position) = self.find_once(tokens).await;
        (required(found), position)
    }

    async fn find_once(
        &self,
        tokens: &[TokenHash],
    ) -> (Result<Result<LookupRows, Unusable>, StoreError>, Version) {
        // Before the query: what is forgotten from here on is not in its answer.
        let position = self.freshness.position();
        let known_until = self.freshness.known_until();
        let found = sessions::find_with_users(self.store.reader(), tokens).await;
        // After it: what the follower finds meanwhile counts.
        let usable = found.map(|found| {
            if !self.freshness.follows(found.server) {
                Err(Unusable::OtherServer(found.generation))
            } else if self.freshness.is_synchronous()
                && !self.freshness.is_recent(known_until, self.clock.since_boot())
            {
                Err(Unusable::NoHeartbeat)
            } else {
                Ok(found.sessions)
            }
        });
        (usable, position)
    }
}

/// Why an answer of the database cannot be used.
enum Unusable {
    /// Another server has given it than the one whose change log is followed, on a connection of this generation.
    OtherServer(u64),
    /// The server commits synchronously to a standby, and has committed no heartbeat within the staleness bound: it may
    /// have been cut off from the standby, and the standby promoted.
    NoHeartbeat,
}

fn required(found: Result<Result<LookupRows, Unusable>, StoreError>) -> Result<LookupRows, StoreError> {
    found?.map_err(|unusable| {
        StoreError::unavailable(match unusable {
            Unusable::OtherServer(_) => {
                "another database server answers than the one whose change log is followed"
            }
            Unusable::NoHeartbeat => {
                "the database server has not committed to its standby within the staleness bound"
            }
        })
    })
}

/// Gives those who wait what was found for their tokens by a query that was sent at `position`.
fn tell(
    mut waiting: HashMap<TokenHash, Vec<oneshot::Sender<LookupAnswer>>>,
    found: Result<LookupRows, StoreError>,
    position: Version,
) {
    match found {
        Ok(found) => {
            for (token, session, user) in found {
                let known = Arc::new(KnownSession::new(user, session, position));
                send(waiting.remove(&token).unwrap_or_default(), &Ok(Some(known)));
            }
            for unknown in waiting.into_values() {
                send(unknown, &Ok(None));
            }
        }
        Err(error) => {
            for failed in waiting.into_values() {
                send(failed, &Err(error.clone()));
            }
        }
    }
}

fn send(waiting: Vec<oneshot::Sender<LookupAnswer>>, answer: &LookupAnswer) {
    for caller in waiting {
        // A caller that has gone meanwhile does not want the answer.
        let _ = caller.send(answer.clone());
    }
}
