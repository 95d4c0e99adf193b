//! The outbox: messages are written into the database along with what they are about, and sent from there afterwards. So no
//! transaction waits for a provider, and a process that is killed loses none.
//!
//! Every process sends. Whoever takes a message moves the time on at which it is due, for longer than sending it may take; so
//! one whose sender was killed is sent by another. A message may be sent twice by that, with the same code.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::retry::retry;
use crate::clock::Clock;
use crate::domain::audit::{Action, Attempt, Outcome, Refusal};
use crate::domain::caller::Caller;
use crate::domain::code::{Challenge, Coder};
use crate::domain::session::ClientInfo;
use crate::error::{Error, chain};
use crate::sms::{Message, Provider};
use crate::store::outbox::OutboxMessage;
use crate::store::{Store, audit, challenges, outbox};

/// How many messages are looked for at a time.
const PAGE: u64 = 100;

/// How long a message is whose that has taken it.
const LEASE: Duration = Duration::from_secs(30);

/// How often it is looked for messages that nobody has told of: those of other processes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Has messages sent at once. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is a message.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// Sends messages.
pub struct Outbox {
    store: Store,
    clock: Arc<dyn Clock>,
    coder: Arc<Coder>,
    provider: Provider,
    wake: Wake,
}

impl Outbox {
    /// The outbox of this store.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        coder: Arc<Coder>,
        provider: Provider,
        wake: Wake,
    ) -> Self {
        Self {
            store,
            clock,
            coder,
            provider,
            wake,
        }
    }

    /// Sends what is due, for as long as it is polled.
    pub async fn run(self) {
        loop {
            match self.send_due().await {
                // There may be more.
                Ok(PAGE) => {}
                Ok(_) => {
                    let _ = timeout(INTERVAL, self.wake.0.notified()).await;
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "messages not sent");
                    sleep(INTERVAL).await;
                }
            }
        }
    }

    /// Sends what is due, and says how many messages were looked at.
    async fn send_due(&self) -> Result<u64, Error> {
        let due = outbox::find_due(self.store.reader(), PAGE, self.clock.now()).await?;
        let count = u64::try_from(due.len()).unwrap_or(PAGE);
        for message in due {
            let (writer, now) = (self.store.writer(), self.clock.now());
            let taken = retry(|| async { Ok(outbox::take(writer, &message, LEASE, now).await?) });
            if taken.await? {
                self.send(&message).await?;
            }
        }
        Ok(count)
    }

    async fn send(&self, message: &OutboxMessage) -> Result<(), Error> {
        let now = self.clock.now();
        // Nor is sent what was met already.
        let found = challenges::find(self.store.reader(), message.challenge).await?;
        let Some(challenge) = found.filter(|challenge| challenge.is_sent) else {
            return Ok(outbox::delete(self.store.writer(), message.id).await?);
        };
        if now >= message.expires_at {
            return self
                .end(message, &challenge, Outcome::Refused(Refusal::SmsNotDelivered))
                .await;
        }
        let Some(code) = self.coder.code(&challenge) else {
            // Of a key that this process does not have, and another one may.
            tracing::warn!(
                key_id = challenge.key_id,
                "the key of a code is not among the code keys"
            );
            return Ok(());
        };
        self.provider
            .send(&Message::with_code(message.id, &challenge, &code));
        self.end(message, &challenge, Outcome::Done).await
    }

    /// Takes a message out of the outbox, and notes how it ended.
    async fn end(
        &self,
        message: &OutboxMessage,
        challenge: &Challenge,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let attempt = Attempt {
            subject: challenge.person,
            ..Attempt::by_nobody(Action::DeliverCode, ClientInfo::default(), Caller::default())
        };
        let event = attempt.ended(outcome, self.clock.now());
        retry(|| async {
            let tx = self.store.begin().await?;
            outbox::delete(&tx, message.id).await?;
            audit::insert_with_commit(&tx, &event).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}
