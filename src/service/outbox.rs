//! Transactional outbox: a transaction writes its messages into the database, and a sender delivers them afterwards. No
//! transaction waits for a provider, and a killed process loses no message.
//!
//! Every process sends. A sender leases a message for longer than a delivery may take, so that another process delivers
//! the message if the sender is killed. A message may therefore be sent twice, with the same code.
//!
//! Known users come before unknown ones, and client networks take turns: see `store::outbox::order`. `permits` divides
//! the concurrent deliveries between the classes.

mod breakers;
mod metrics;
mod permits;
mod providers;
mod wake;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use breakers::Breakers;
pub use metrics::{BacklogSize, Metrics};
pub use wake::Wake;

use super::error::{Error, chain};
use super::retry::retry;
use crate::clock::{Clock, Timestamp};
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, Outcome, Refusal};
use crate::domain::code::{Challenge, Coder};
use crate::domain::message::{Content, DeliveryClass, MAX_LIFETIME, MessageId, Notice, NoticeKind, Origin};
use crate::domain::session::ClientInfo;
use crate::domain::user::{User, UserId};
use crate::i18n::Language;
use crate::sms::{Lines, Message, Provider};
use crate::store::challenges::Found;
use crate::store::outbox::{OutboxMessage, order};
use crate::store::{Store, audit, challenges, outbox, users};
use crate::telemetry::tracing::span;
use permits::{NextMessages, SendPermits};

/// Maximum number of messages that return to their lanes at a time.
const PAGE: u64 = 100;

/// Wait after which a message may be sent before its turn, in one of four permits of its class. Without this limit,
/// messages of new networks could delay it until it expires.
const LONG_WAIT: Duration = Duration::from_secs(15);

/// Lease of a message in addition to the timeouts of the providers.
const LEASE: Duration = Duration::from_secs(20);

/// Interval at which the sender reads messages of other processes and postponed messages.
const INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the backlog is measured.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(10);

/// Pause before the first retry of a message. It doubles with each further retry, up to `MAX_RETRY_PAUSE`, until the
/// message expires.
const FIRST_RETRY_PAUSE: Duration = Duration::from_secs(1);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(16);

/// Dependencies of a delivery.
pub struct DeliveryContext {
    /// Derives the codes.
    pub coder: Arc<Coder>,
    /// Lines after the text of a message with a code.
    pub lines: Lines,
    /// Providers in the order in which they are tried.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Circuit breakers of the providers.
    pub breakers: Breakers,
    /// Timeout of each provider.
    pub timeout: Duration,
    /// Maximum number of concurrent deliveries of this process.
    pub concurrency: usize,
    /// Counts the outcomes of deliveries.
    pub metrics: Arc<Metrics>,
}

/// A message that is ready for a provider.
struct Delivery {
    /// Draft of its audit event.
    event: AuditDraft,
    /// `None`: this process cannot create the message.
    message: Option<Message>,
}

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Arc<dyn Clock>,
    context: Arc<DeliveryContext>,
    wake: Wake,
}

impl Outbox {
    /// Creates the outbox of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, context: DeliveryContext, wake: Wake) -> Self {
        Self {
            store,
            clock,
            context: Arc::new(context),
            wake,
        }
    }

    /// Sends messages until `stop` is cancelled, and then completes the deliveries under way.
    pub async fn run(self, stop: CancellationToken) {
        let mut permits = SendPermits::new(self.context.concurrency);
        let mut sending = JoinSet::new();
        let sends = async {
            loop {
                while sending.try_join_next().is_some() {}
                match self.send_ready(&mut permits, &mut sending).await {
                    Ok(0) => tokio::select! {
                        // A class without a permit waits for one.
                        Some(_) = sending.join_next(), if permits.is_short() => {}
                        _ = timeout(INTERVAL, self.wake.notify.notified()) => {}
                    },
                    // More messages may be ready.
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "messages not sent");
                        sleep(INTERVAL).await;
                    }
                }
            }
        };
        let unparks = async {
            loop {
                if let Err(error) = self.unpark_due().await {
                    tracing::warn!(
                        error = chain(&error),
                        "due messages were not returned to their lanes"
                    );
                }
                sleep(INTERVAL).await;
            }
        };
        let measures = async {
            loop {
                if let Err(error) = self.measure_backlog().await {
                    tracing::warn!(error = chain(&error), "the outbox backlog was not measured");
                }
                sleep(BACKLOG_INTERVAL).await;
            }
        };
        // A message that was leased but not yet started at this moment is sent after its lease has expired.
        let work = stop.run_until_cancelled(async { tokio::join!(sends, unparks, measures) });
        // Boxed because the future is large and exists once.
        let _: Option<(Infallible, Infallible, Infallible)> = Box::pin(work).await;
        while sending.join_next().await.is_some() {}
    }

    /// Measures the backlog.
    async fn measure_backlog(&self) -> Result<(), Error> {
        let backlog = outbox::backlog(self.store.lists()).await?;
        let now = self.clock.now();
        let written_at = backlog.oldest.and_then(MessageId::written_at);
        let age = written_at.and_then(|time| (now - time).to_std().ok());
        self.context.metrics.set_backlog(BacklogSize {
            messages: backlog.messages,
            age: age.unwrap_or_default(),
        });
        Ok(())
    }

    /// Lease of a message: the timeouts of all providers, and a margin.
    fn lease(&self) -> Duration {
        let providers = u32::try_from(self.context.providers.len()).unwrap_or(u32::MAX);
        self.context.timeout.saturating_mul(providers) + LEASE
    }

    /// Returns messages to their lanes after their pause or lease has expired.
    async fn unpark_due(&self) -> Result<(), Error> {
        let due = order::parked_due(self.store.reader(), self.lease(), PAGE, self.clock.now()).await?;
        for message in &due {
            let writer = self.store.writer();
            retry(|| async { Ok(order::unpark(writer, message).await?) }).await?;
        }
        if !due.is_empty() {
            self.wake.notify.notify_one();
        }
        Ok(())
    }

    /// Starts to send the next messages, up to the number of free permits. Returns the number of messages that it
    /// handled.
    async fn send_ready(&self, permits: &mut SendPermits, sending: &mut JoinSet<()>) -> Result<usize, Error> {
        let mut next = NextMessages::default();
        for class in DeliveryClass::ALL {
            *next.of_mut(class) = self.next_of(class, permits).await?.into();
        }
        let mut handled = 0;
        loop {
            let waiting = DeliveryClass::ALL.map(|class| !next.of(class).is_empty());
            let Some(class) = permits.next(waiting) else {
                return Ok(handled);
            };
            let Some(message) = next.of_mut(class).pop_front() else {
                return Ok(handled);
            };
            handled += 1;
            let (writer, now, lease) = (self.store.writer(), self.clock.now(), self.lease());
            if !order::is_due(&message, lease, now) {
                retry(|| async { Ok(order::park(writer, &message).await?) }).await?;
                continue;
            }
            let permit = permits.take(class);
            let taken = retry(|| async { Ok(outbox::take(writer, message.clone(), lease, now).await?) });
            if let Some(message) = taken.await? {
                let (outbox, trace) = (self.clone(), self.wake.trace_of(message.id));
                sending.spawn(async move {
                    let sent = trace.scope(async { span("outbox.send", pin!(outbox.send(&message))).await });
                    if let Err(error) = sent.await {
                        tracing::warn!(error = chain(&error), message_id = %message.id, "a message is left for later");
                    }
                    drop(permit);
                });
            }
        }
    }

    /// Returns the next messages of a class, up to the number of free permits. One permit of four is for the message
    /// that has waited longest, if its wait exceeds [`LONG_WAIT`].
    async fn next_of(
        &self,
        class: DeliveryClass,
        permits: &SendPermits,
    ) -> Result<Vec<OutboxMessage>, Error> {
        let free = permits.free(class);
        if free == 0 {
            return Ok(Vec::new());
        }
        let (reader, writer) = (self.store.reader(), self.store.writer());
        let free = u64::try_from(free).unwrap_or(u64::MAX);
        let mut next = order::first(reader, writer, class, free).await?;
        if !next.is_empty() && permits.is_for_longest_waiting(class) {
            let due_by = self.clock.now() - LONG_WAIT;
            if let Some(longest) = order::longest_waiting(reader, class, due_by).await? {
                next.retain(|message| message.id != longest.id);
                next.insert(0, longest);
            }
        }
        Ok(next)
    }

    async fn send(&self, message: &OutboxMessage) -> Result<(), Error> {
        let Some(delivery) = self.delivery(message).await? else {
            return Ok(outbox::delete(self.store.writer(), message.id).await?);
        };
        if self.clock.now() >= message.expires_at {
            return self.give_up(message, &delivery.event).await;
        }
        let Some(text) = delivery.message else {
            return Ok(());
        };
        match self.try_providers(&text).await {
            Ok(()) => self.end(message, &delivery.event).await,
            Err(error) => {
                let before = message.tries.saturating_sub(1);
                let pause = FIRST_RETRY_PAUSE.saturating_mul(2_u32.saturating_pow(before));
                let due_at = self.clock.now() + pause.min(MAX_RETRY_PAUSE);
                if error.may_pass() && due_at < message.expires_at {
                    return Ok(outbox::postpone(self.store.writer(), message, due_at).await?);
                }
                self.give_up(message, &delivery.event).await
            }
        }
    }

    /// Creates a message. `None`: the message must not be sent.
    async fn delivery(&self, message: &OutboxMessage) -> Result<Option<Delivery>, Error> {
        let challenge = match &message.content {
            Content::Notice(notice) => {
                return Ok(Some(Delivery {
                    event: event(Action::DeliverNotice, Some(notice.person)),
                    message: Some(Message::of_notice(message.id, notice)),
                }));
            }
            Content::Code(challenge) => match challenges::look_up(self.store.reader(), *challenge).await? {
                Found::Nothing => None,
                // A newer version wrote the challenge, and a process of that version sends the code.
                Found::Unknown => {
                    return Ok(Some(Delivery {
                        event: event(Action::DeliverCode, None),
                        message: None,
                    }));
                }
                Found::Challenge(challenge) => Some(challenge),
            },
        };
        // A used code and an ended code are not sent.
        let Some(challenge) = challenge.filter(|challenge| challenge.is_sent) else {
            return Ok(None);
        };
        if self.has_ended(&challenge).await? {
            return Ok(None);
        }
        let code = self.context.coder.code(&challenge);
        if code.is_none() {
            // Another process may have the key.
            tracing::warn!(
                key_id = challenge.key_id,
                "the key of a code is not among the code keys"
            );
        }
        Ok(Some(Delivery {
            event: event(Action::DeliverCode, challenge.person),
            message: code.map(|code| Message::with_code(message.id, &challenge, &code, &self.context.lines)),
        }))
    }

    /// Returns whether the credentials of the account have changed since the code was requested. The answer is unknown
    /// for a challenge of an older version: that version may still accept its code.
    async fn has_ended(&self, challenge: &Challenge) -> Result<bool, Error> {
        let (Some(person), Some(_)) = (challenge.person, challenge.credential_version) else {
            return Ok(false);
        };
        let account = users::find(self.store.reader(), person).await?;
        Ok(account.is_none_or(|account| !challenge.is_current(account.credential_version)))
    }

    /// Deletes a message that was sent and records the event. If another process has leased the message in the
    /// meantime, it is sent twice.
    async fn end(&self, message: &OutboxMessage, attempt: &AuditDraft) -> Result<(), Error> {
        let event = attempt.ended(Outcome::Done, self.clock.now());
        retry(|| async {
            let tx = self.store.begin().await?;
            outbox::delete(&tx, message.id).await?;
            audit::insert(&tx, &event).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Deletes a message that no provider accepts and records the event. A message that another process has leased in
    /// the meantime is left to that process.
    async fn give_up(&self, message: &OutboxMessage, attempt: &AuditDraft) -> Result<(), Error> {
        let event = attempt.ended(Outcome::Refused(Refusal::SmsNotDelivered), self.clock.now());
        retry(|| async {
            let tx = self.store.begin().await?;
            if outbox::give_up(&tx, message).await? {
                audit::insert(&tx, &event).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

fn event(action: Action, subject: Option<UserId>) -> AuditDraft {
    AuditDraft {
        subject,
        ..AuditDraft::by_nobody(action, ClientInfo::default(), Caller::default())
    }
}

/// Creates the notice to the number that an account is about to lose. The user requested the change with a session,
/// through this calling service; the address of that call is unknown.
pub(super) fn phone_changed(
    user: &User,
    of_call: Language,
    service: Option<&str>,
    now: Timestamp,
) -> OutboxMessage {
    let notice = Notice {
        kind: NoticeKind::PhoneChanged,
        to: user.phone_number.clone(),
        person: user.id,
        language: user.language_or(of_call),
    };
    let origin = Origin::new(DeliveryClass::Known, None, service);
    OutboxMessage::new(Content::Notice(notice), origin, now, now + MAX_LIFETIME)
}
