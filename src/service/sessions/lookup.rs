//! Request coalescing: session look-ups in the database, with many look-ups per query.
//!
//! The look-ups wait in a bounded queue. Whenever a query may be sent, it takes all waiting look-ups, up to the limit
//! of one query: the higher the load, the more look-ups share a query. A look-up never joins a query that was sent
//! before it, so an answer is never older than its request.

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

/// Capacity of the queue: the look-ups of some hundred queries, which is less than a second of work.
const QUEUE_CAPACITY: usize = 16 * 1024;

/// Time after which a caller may retry when the queue was full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Timeout of the reading of the change log that follows an answer of another server than the followed one.
const READING_TIMEOUT: Duration = Duration::from_secs(1);

/// Sessions with their tokens and users.
type LookupRows = Vec<(TokenHash, Session, User)>;

type LookupAnswer = Result<Option<Arc<KnownSession>>, StoreError>;

struct LookupRequest {
    token: TokenHash,
    answer: oneshot::Sender<LookupAnswer>,
    /// A shared query belongs to the first trace among its look-ups.
    trace: TraceContext,
}

/// The queue of look-ups.
pub(super) struct Lookups {
    queue: mpsc::Sender<LookupRequest>,
}

impl Lookups {
    /// Starts the queue, with at most `queries` concurrent queries. It ends when it is dropped.
    pub(super) fn start(store: Store, clock: Arc<dyn Clock>, fence: Arc<Fence>, queries: usize) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_CAPACITY);
        let worker = LookupQueue { store, clock, fence };
        tokio::spawn(worker.run(requests, queries));
        Self { queue }
    }

    /// Finds the session of a token as it is in the database now, ended or not.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: the queue is full. [`Error::DatabaseUnavailable`] or [`Error::Internal`]: the database
    /// fails.
    pub(super) async fn find(&self, token: TokenHash) -> Result<Option<Arc<KnownSession>>, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(LookupRequest {
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
    fence: Arc<Fence>,
}

impl LookupQueue {
    async fn run(self, mut requests: mpsc::Receiver<LookupRequest>, queries: usize) {
        let free = Arc::new(Semaphore::new(queries));
        // The permit is acquired first: while all permits are in use, the look-ups gather in the queue.
        while let Ok(permit) = free.clone().acquire_owned().await {
            let mut batch = Vec::new();
            if requests.recv_many(&mut batch, MAX_TOKENS).await == 0 {
                break;
            }
            let worker = self.clone();
            let traced = batch
                .iter()
                .map(|request| &request.trace)
                .find(|trace| trace.is_traced());
            let trace = traced.cloned().unwrap_or_default();
            tokio::spawn(async move {
                trace.scope(worker.answer(batch)).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, requests: Vec<LookupRequest>) {
        let mut waiting: HashMap<TokenHash, Vec<oneshot::Sender<LookupAnswer>>> =
            HashMap::with_capacity(requests.len());
        for LookupRequest { token, answer, .. } in requests {
            if !answer.is_closed() {
                waiting.entry(token).or_default().push(answer);
            }
        }
        let tokens: Vec<TokenHash> = waiting.keys().copied().collect();
        let (found, version) = self.find(&tokens).await;
        if tokens.len() > 1 && matches!(found, Err(StoreError::Fault(_))) {
            // A row that cannot be parsed must not fail the look-ups of other sessions.
            for token in tokens {
                let (alone, version) = self.find(&[token]).await;
                let waiting = HashMap::from([(token, waiting.remove(&token).unwrap_or_default())]);
                send_results(waiting, alone, version);
            }
        } else {
            send_results(waiting, found, version);
        }
    }

    /// Returns the sessions of these tokens and the version before the query. If the answer is unusable, the change log
    /// is first read on a new connection, which decides which server is right, and the query is executed once more.
    async fn find(&self, tokens: &[TokenHash]) -> (Result<LookupRows, StoreError>, Version) {
        match self.find_once(tokens).await {
            (Ok(Err(Unusable::OtherServer(generation))), _) => self.store.end_generation_of(generation),
            (Ok(Err(Unusable::NoHeartbeat)), _) => {}
            (found, version) => return (required(found), version),
        }
        self.fence.next_reading(READING_TIMEOUT).await;
        let (found, version) = self.find_once(tokens).await;
        (required(found), version)
    }

    async fn find_once(
        &self,
        tokens: &[TokenHash],
    ) -> (Result<Result<LookupRows, Unusable>, StoreError>, Version) {
        // Read before the query: the answer does not contain later changes.
        let version = self.fence.version();
        let known_until = self.fence.known_until();
        let found = sessions::find_with_users(self.store.reader(), tokens).await;
        // Checked after the query: what the follower found in the meantime counts.
        let usable = found.map(|found| {
            if !self.fence.follows(found.server) {
                Err(Unusable::OtherServer(found.generation))
            } else if self.fence.is_synchronous()
                && !self.fence.is_recent(known_until, self.clock.since_boot())
            {
                Err(Unusable::NoHeartbeat)
            } else {
                Ok(found.sessions)
            }
        });
        (usable, version)
    }
}

/// Reason for which an answer of the database is unusable.
enum Unusable {
    /// Another server than the followed one answered, on a connection of this generation.
    OtherServer(u64),
    /// The server commits synchronously to a standby, and has committed no heartbeat within the staleness bound: it may
    /// be cut off from the standby, and the standby promoted.
    NoHeartbeat,
}

fn required(found: Result<Result<LookupRows, Unusable>, StoreError>) -> Result<LookupRows, StoreError> {
    found?.map_err(|unusable| {
        StoreError::unavailable(match unusable {
            Unusable::OtherServer(_) => {
                "another database server answers than the one with the followed change log"
            }
            Unusable::NoHeartbeat => {
                "the database server has not committed to its standby within the staleness bound"
            }
        })
    })
}

/// Sends the results of a query that was sent at `version` to the waiting look-ups.
fn send_results(
    mut waiting: HashMap<TokenHash, Vec<oneshot::Sender<LookupAnswer>>>,
    found: Result<LookupRows, StoreError>,
    version: Version,
) {
    match found {
        Ok(found) => {
            for (token, session, user) in found {
                let known = Arc::new(KnownSession::new(user, session, version));
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
        // A caller that has gone away in the meantime does not need the answer.
        let _ = caller.send(answer.clone());
    }
}
