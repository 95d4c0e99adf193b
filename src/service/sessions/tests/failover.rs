//! The version fence in a failover, in every order of its steps: the server changes, and the history of the change log
//! diverges and catches up in number.
//!
//! Server A has a session, which is cached. Then new connections lead to server B, a former replica of A. B has taken
//! over and may lack the last entries of the log of A. The session is revoked on B. A continues: it answers on its
//! connections, and does not know that it is no longer the primary.
//!
//! The invariant: after a time is published that is later than the response of the revocation, neither the cache nor a
//! response of the database says that the session is valid.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use uuid::Uuid;

use super::BOUND;
use super::races::orders;
use super::world::user_with_session;
use crate::domain::session::Session;
use crate::domain::token::{PlainToken, TokenHash};
use crate::domain::user::{User, UserId};
use crate::service::revocation::fence::{Fence, Version};
use crate::service::revocation::follower::{LogCursor, Progress};
use crate::service::sessions::cache::{Cache, KnownSession};
use crate::store::Incarnation;
use crate::store::changes::{ChangeLogEntry, ChangeLogRead, Head};

#[derive(Clone, Copy, Debug, PartialEq)]
enum FailoverStep {
    /// A reader records the version and takes a connection.
    Ask,
    /// The database executes its query.
    Load,
    /// The reader compares the server with that of the follower, and caches the row.
    Keep,
    /// New connections lead to B from here on.
    Switch,
    /// B commits the revocation.
    Commit,
    /// The caller has the response to the revocation.
    Answer,
    /// The follower opens a new connection, and the database executes its query.
    Read,
    /// The follower applies its reading and publishes the time of the query.
    Take,
    Check,
}

/// A server: whether it has the session, and the log.
#[derive(Clone)]
struct FakeServer {
    number: u64,
    has_session: bool,
    log: Vec<(Uuid, UserId)>,
}

impl FakeServer {
    /// Returns the entries that a follower reads after a number.
    fn read(&self, from: Option<i64>) -> ChangeLogRead {
        let last_seq = i64::try_from(self.log.len()).unwrap();
        let entries = (1..)
            .zip(&self.log)
            .map(|(seq, (entry_id, user))| ChangeLogEntry {
                seq,
                user: Some(*user),
                at: DateTime::UNIX_EPOCH,
                entry_id: Some(*entry_id),
            });
        ChangeLogRead {
            head: Head {
                epoch: Uuid::nil(),
                last_seq,
                version_floor: 0,
            },
            entries: entries
                .filter(|entry| entry.seq >= from.unwrap_or(last_seq))
                .collect(),
            server: Incarnation::new(self.number),
        }
    }
}

/// A failover: the logs, and what distinguishes the servers.
#[derive(Clone, Copy, Debug)]
struct Failover {
    /// Number of entries in the log of A that B lacks.
    lost: usize,
    /// Number of entries that B writes before that of the revocation.
    others: usize,
    /// Whether B has another incarnation. Otherwise B is A itself, which lost the end of its log in a crash: no server
    /// answers as A any more.
    is_another_server: bool,
    /// Whether the reader has a connection to A from before the failover.
    is_old_connection: bool,
}

/// Counters of the cases that the orders have covered, so that the test fails if it covers none.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    orders: usize,
    /// Rows that a reader had of A, and was about to keep after the answer to the revocation.
    stale_rows: usize,
    /// Checks that the cache answered with yes.
    yes: usize,
    /// Checks after the answer to the revocation had been published.
    known: usize,
}

impl Failover {
    fn try_all_orders(self) -> Seen {
        let fence = Fence::new(BOUND);
        let user_with_session = user_with_session(1, DateTime::UNIX_EPOCH);
        let reader = [FailoverStep::Ask, FailoverStep::Load, FailoverStep::Keep];
        let revoker = [FailoverStep::Switch, FailoverStep::Commit, FailoverStep::Answer];
        let follower = [
            FailoverStep::Read,
            FailoverStep::Take,
            FailoverStep::Read,
            FailoverStep::Take,
        ];
        let actors: [&[FailoverStep]; 4] = [&reader, &revoker, &follower, &[FailoverStep::Check]];
        let mut seen = Seen::default();
        orders(&actors, &mut Vec::new(), &mut |order| {
            self.run(order, &user_with_session, &fence, &mut seen);
        });
        seen
    }

    fn run(self, order: &[FailoverStep], (user, session): &(User, Session), fence: &Fence, seen: &mut Seen) {
        seen.orders += 1;
        let other = UserId(Uuid::from_u128(2));
        let token = TOKEN.with(|token| *token);
        let entry = |number: usize, user| (Uuid::from_u128(number as u128), user);
        let mut a = FakeServer {
            number: 1,
            has_session: true,
            log: vec![entry(10, other)],
        };
        let mut b = FakeServer {
            number: if self.is_another_server { 2 } else { 1 },
            ..a.clone()
        };
        a.log
            .extend((0..self.lost).map(|number| entry(20 + number, other)));
        b.log
            .extend((0..self.others).map(|number| entry(30 + number, other)));

        let cache = Cache::new(10, Arc::default());
        let mut follower = LogCursor::default();
        follow(&mut follower, fence, &a);
        fence.publish(Duration::ZERO);
        let keep = |version| {
            let known = KnownSession::new(user.clone(), session.clone(), version);
            cache.insert(token, Arc::new(known));
        };
        keep(fence.version());

        let (mut is_switched, mut answered_at) = (false, None::<Duration>);
        let mut version = None::<Version>;
        let mut is_on_a = true;
        let mut row = None::<(u64, bool)>;
        let mut reading = None::<(Duration, ChangeLogRead)>;
        for (time, step) in order.iter().enumerate() {
            // Later than that of the first reading.
            let now = Duration::from_secs(1 + time as u64);
            let is_known = answered_at.is_some_and(|at| fence.known_until() >= at);
            match step {
                FailoverStep::Ask => {
                    version = Some(fence.version());
                    is_on_a = self.is_old_connection || !is_switched;
                }
                FailoverStep::Load => {
                    let server = if is_on_a { &a } else { &b };
                    // The connections of a server that has crashed are lost.
                    let is_lost = is_on_a && is_switched && !self.is_another_server;
                    row = (!is_lost).then_some((server.number, server.has_session));
                }
                FailoverStep::Keep => {
                    if let Some((server, true)) = row {
                        seen.stale_rows += usize::from(answered_at.is_some());
                        if fence.follows(Incarnation::new(server)) {
                            // The answer of a strong check. The reader may have asked before the answer.
                            let version = version.unwrap();
                            let is_valid = fence.is_current(version, user.id, &token);
                            assert!(!(is_known && is_valid), "strong: {self:?} {order:?}");
                            keep(version);
                        }
                    }
                }
                FailoverStep::Switch => is_switched = true,
                FailoverStep::Commit => {
                    b.has_session = false;
                    b.log.push(entry(40, user.id));
                }
                FailoverStep::Answer => answered_at = Some(now),
                FailoverStep::Read => {
                    let server = if is_switched { &b } else { &a };
                    reading = Some((now, server.read(follower.from())));
                }
                FailoverStep::Take => {
                    let (asked_at, reading) = reading.take().unwrap();
                    if follower.take(&reading, fence) != Progress::UpToHead {
                        let server = if is_switched { &b } else { &a };
                        follow(&mut follower, fence, server);
                    }
                    fence.publish(asked_at);
                }
                FailoverStep::Check => {
                    let says_yes = cache
                        .get(&token)
                        .is_some_and(|known| fence.is_current(known.version(), user.id, &token));
                    seen.yes += usize::from(says_yes);
                    seen.known += usize::from(is_known);
                    assert!(!(is_known && says_yes), "{self:?} {order:?}");
                }
            }
        }
    }
}

/// Reads a log to its end.
fn follow(follower: &mut LogCursor, fence: &Fence, server: &FakeServer) {
    while follower.take(&server.read(follower.from()), fence) != Progress::UpToHead {}
}

thread_local! {
    static TOKEN: TokenHash = PlainToken::generate().unwrap().hash();
}

#[test]
fn a_session_that_was_revoked_on_the_new_server_is_never_valid_in_any_order_of_steps() {
    for lost in 0..=2 {
        for others in 0..=1 {
            for (is_another_server, is_old_connection) in [(true, true), (true, false), (false, true)] {
                let failover = Failover {
                    lost,
                    others,
                    is_another_server,
                    is_old_connection,
                };
                let seen = failover.try_all_orders();
                // 11 steps of 4 actors: 11! / (3! 3! 4! 1!).
                assert_eq!(seen.orders, 46_200);
                assert!(seen.yes > 1_000 && seen.known > 1_000, "{failover:?} {seen:?}");
                assert!(
                    seen.stale_rows > 1_000 || !is_old_connection,
                    "{failover:?} {seen:?}"
                );
            }
        }
    }
}
