//! The outbox: messages are written into the database along with what they are about, and sent from there afterwards.
//! So no transaction waits for a provider, and a process that is killed loses none.
//!
//! Every process sends. A sender leases a message for longer than sending it may take, so that a message whose sender
//! was killed is sent by another process. It may be sent twice, with the same code.
//!
//! Known askers come before strangers, and client networks take turns: see `store::outbox::order`. `places` shares the
//! concurrent sends between the classes.

mod breakers;
mod metrics;
mod permits;
mod providers;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use breakers::Breakers;
pub use metrics::{BacklogSize, Metrics};

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
use crate::telemetry::tracing::{TraceContext, span};
use permits::{NextMessages, SendPermits};

/// Maximum number of messages that enter their lanes again at a time.
const PAGE: u64 = 100;

/// Waiting time after which a message comes before its turn, in one of four places of its class. Without it, messages
/// of new networks could hold it up until it expires.
const LONG_WAIT: Duration = Duration::from_secs(15);

/// For how much longer than the providers may take a message is whose that has taken it.
const LEASE: Duration = Duration::from_secs(20);

/// How often messages of other processes are looked for, and those that were put off.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked how much there is to send.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before a message is sent again for the first time. It doubles with each further time, up to the
/// longest one, until the message expires.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// How many messages are remembered whose trace goes on when they are sent.
const TRACED: usize = 1000;

/// Has messages sent at once. Cheap to clone.
#[derive(Clone)]
pub struct Wake {
    notify: Arc<Notify>,
    /// The traces of messages that this process has written and not sent yet. Whoever else sends them does not know of
    /// it.
    traced: Arc<Cache<Uuid, TraceContext>>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            notify: Arc::default(),
            traced: Arc::new(Cache::new(TRACED)),
        }
    }
}

impl Wake {
    /// There is this message, which was written here and now.
    pub fn send(&self, message: MessageId) {
        let here = TraceContext::current();
        if here.is_traced() {
            self.traced.insert(message.0, here);
        }
        self.notify.notify_one();
    }

    /// The trace of a message, if it has one, which is forgotten by that.
    fn trace_of(&self, message: MessageId) -> TraceContext {
        self.traced
            .remove(&message.0)
            .map(|(_, trace)| trace)
            .unwrap_or_default()
    }
}

/// What messages are made and sent by.
pub struct DeliveryContext {
    /// Makes the codes.
    pub coder: Arc<Coder>,
    /// What comes after the text of a message with a code.
    pub lines: Lines,
    /// Who sends, in the order in which they are asked.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Which of them are not asked for now.
    pub breakers: Breakers,
    /// How long each of them may take.
    pub timeout: Duration,
    /// Maximum number of messages that this process sends at the same time.
    pub concurrency: usize,
    /// Counts what they say.
    pub metrics: Arc<Metrics>,
}

/// What is about to be given to a provider.
struct Delivery {
    /// What the audit log is told.
    event: AuditDraft,
    /// `None`: this process cannot make it.
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
    /// The outbox of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, context: DeliveryContext, wake: Wake) -> Self {
        Self {
            store,
            clock,
            context: Arc::new(context),
            wake,
        }
    }

    /// Sends until `stop`, and then finishes what is being sent.
    pub async fn run(self, stop: CancellationToken) {
        let mut permits = SendPermits::new(self.context.concurrency);
        let mut sending = JoinSet::new();
        let sends = async {
            loop {
                while sending.try_join_next().is_some() {}
                match self.send_ready(&mut permits, &mut sending).await {
                    Ok(0) => tokio::select! {
                        // A class without a place waits for one.
                        Some(_) = sending.join_next(), if permits.is_short() => {}
                        _ = timeout(INTERVAL, self.wake.notify.notified()) => {}
                    },
                    // There may be more.
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
                        "messages that are due were not put in line"
                    );
                }
                sleep(INTERVAL).await;
            }
        };
        let looks = async {
            loop {
                if let Err(error) = self.look().await {
                    tracing::warn!(
                        error = chain(&error),
                        "it is not known how many messages there are to send"
                    );
                }
                sleep(BACKLOG_INTERVAL).await;
            }
        };
        // What was leased and not begun in that moment is sent when its lease is over.
        let work = stop.run_until_cancelled(async { tokio::join!(sends, unparks, looks) });
        // In a box: it is large, and there is one of it.
        let _: Option<(Infallible, Infallible, Infallible)> = Box::pin(work).await;
        while sending.join_next().await.is_some() {}
    }

    /// Notes how much there is to send.
    async fn look(&self) -> Result<(), Error> {
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

    /// How long a message is leased: every provider may take its time.
    fn lease(&self) -> Duration {
        let providers = u32::try_from(self.context.providers.len()).unwrap_or(u32::MAX);
        self.context.timeout.saturating_mul(providers) + LEASE
    }

    /// Puts messages in line whose pause or lease is over.
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

    /// Begins to send the messages that are next, as many as there are places. Returns how many it looked at.
    async fn send_ready(&self, permits: &mut SendPermits, sending: &mut JoinSet<()>) -> Result<usize, Error> {
        let mut lines = NextMessages::default();
        for class in DeliveryClass::ALL {
            *lines.of_mut(class) = self.line(class, permits).await?.into();
        }
        let mut looked_at = 0;
        loop {
            let waiting = DeliveryClass::ALL.map(|class| !lines.of(class).is_empty());
            let Some(class) = permits.next(waiting) else {
                return Ok(looked_at);
            };
            let Some(message) = lines.of_mut(class).pop_front() else {
                return Ok(looked_at);
            };
            looked_at += 1;
            let (writer, now, lease) = (self.store.writer(), self.clock.now(), self.lease());
            if !order::is_due(&message, lease, now) {
                retry(|| async { Ok(order::park(writer, &message).await?) }).await?;
                continue;
            }
            let place = permits.take(class);
            let taken = retry(|| async { Ok(outbox::take(writer, message.clone(), lease, now).await?) });
            if let Some(message) = taken.await? {
                let (outbox, trace) = (self.clone(), self.wake.trace_of(message.id));
                sending.spawn(async move {
                    let sent = trace.scope(async { span("outbox.send", pin!(outbox.send(&message))).await });
                    if let Err(error) = sent.await {
                        tracing::warn!(error = chain(&error), message_id = %message.id, "a message is left for later");
                    }
                    drop(place);
                });
            }
        }
    }

    /// The next messages of a class, as many as may be sent. One place of four is for the message that waits for the
    /// longest time, if that is long.
    async fn line(&self, class: DeliveryClass, permits: &SendPermits) -> Result<Vec<OutboxMessage>, Error> {
        let room = permits.room(class);
        if room == 0 {
            return Ok(Vec::new());
        }
        let (reader, writer) = (self.store.reader(), self.store.writer());
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let mut line = order::first(reader, writer, class, room).await?;
        if !line.is_empty() && permits.is_for_longest_waiting(class) {
            let due_by = self.clock.now() - LONG_WAIT;
            if let Some(longest) = order::longest_waiting(reader, class, due_by).await? {
                line.retain(|message| message.id != longest.id);
                line.insert(0, longest);
            }
        }
        Ok(line)
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
        match self.ask_providers(&text).await {
            Ok(()) => self.end(message, &delivery.event).await,
            Err(error) => {
                let before = message.tries.saturating_sub(1);
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(before));
                let due_at = self.clock.now() + pause.min(LONGEST_PAUSE);
                if error.may_pass() && due_at < message.expires_at {
                    return Ok(outbox::postpone(self.store.writer(), message, due_at).await?);
                }
                self.give_up(message, &delivery.event).await
            }
        }
    }

    /// Makes a message. `None`: it is not to be sent.
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
                // A newer version made it, and sends it.
                Found::Unknown => {
                    return Ok(Some(Delivery {
                        event: event(Action::DeliverCode, None),
                        message: None,
                    }));
                }
                Found::Challenge(challenge) => Some(challenge),
            },
        };
        // A code that was used is not sent, nor is one that ended meanwhile.
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

    /// Whether the credentials of the account have changed since a code was requested. Of a challenge of an older
    /// version this is unknown: that version may still accept its code.
    async fn has_ended(&self, challenge: &Challenge) -> Result<bool, Error> {
        let (Some(person), Some(_)) = (challenge.person, challenge.credential_version) else {
            return Ok(false);
        };
        let account = users::find(self.store.reader(), person).await?;
        Ok(account.is_none_or(|account| !challenge.is_current(account.credential_version)))
    }

    /// Takes a message that was sent out of the outbox, and notes that. If another has taken it meanwhile, it goes out
    /// twice.
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

    /// Takes a message out of the outbox that nobody takes, and notes that. One that another has taken meanwhile is
    /// left to them.
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

/// The notice to the number of an account that it is about to lose. The user asked for it with a session, by this
/// calling service; the address of that call is unknown.
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
