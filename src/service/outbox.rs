//! The outbox: messages are written into the database along with what they are about, and sent from there afterwards. So no
//! transaction waits for a provider, and a process that is killed loses none.
//!
//! Every process sends. Whoever takes a message moves the time on at which it is due, for longer than sending it may take; so
//! one whose sender was killed is sent by another. A message may be sent twice by that, with the same code.

mod breakers;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use breakers::Breakers;

use super::codes::{Backlog, Metrics};
use super::retry::retry;
use crate::clock::{Clock, Timestamp};
use crate::domain::audit::{Action, Attempt, Outcome, Refusal};
use crate::domain::caller::Caller;
use crate::domain::code::Coder;
use crate::domain::message::{Content, MAX_LIFETIME, MessageId, Notice, NoticeKind};
use crate::domain::session::ClientInfo;
use crate::domain::user::{User, UserId};
use crate::error::{Error, chain};
use crate::i18n::Language;
use crate::sms::{Lines, Message, Provider, SendError};
use crate::store::challenges::Found;
use crate::store::outbox::OutboxMessage;
use crate::store::{Store, audit, challenges, outbox};
use crate::trace::{Current, span};

/// How many messages are looked for at a time.
const PAGE: u64 = 100;

/// How many messages are being sent at a time.
const AT_ONCE: usize = 16;

/// For how much longer than the providers may take a message is whose that has taken it.
const LEASE: Duration = Duration::from_secs(20);

/// How often it is looked for messages that nobody has told of: those of other processes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked how much there is to send.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before a message is sent again for the first time. It doubles with each further time, up to the longest one,
/// until the message expires.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// How many messages are remembered whose trace goes on when they are sent.
const TRACED: usize = 1000;

/// Has messages sent at once. Cheap to clone.
#[derive(Clone)]
pub struct Wake {
    notify: Arc<Notify>,
    /// The traces of messages that this process has written and not sent yet. Whoever else sends them does not know of it.
    traced: Arc<Cache<Uuid, Current>>,
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
        let here = Current::here();
        if here.is_traced() {
            self.traced.insert(message.0, here);
        }
        self.notify.notify_one();
    }

    /// The trace of a message, if it has one, which is forgotten by that.
    fn trace_of(&self, message: MessageId) -> Current {
        self.traced
            .remove(&message.0)
            .map(|(_, trace)| trace)
            .unwrap_or_default()
    }
}

/// What messages are made and sent by.
pub struct Counter {
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
    /// Counts what they say.
    pub metrics: Arc<Metrics>,
}

/// What is about to be given to a provider.
struct Delivery {
    /// What the audit log is told.
    event: Attempt,
    /// `None`: this process cannot make it.
    message: Option<Message>,
}

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Arc<dyn Clock>,
    counter: Arc<Counter>,
    wake: Wake,
}

impl Outbox {
    /// The outbox of this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, counter: Counter, wake: Wake) -> Self {
        Self {
            store,
            clock,
            counter: Arc::new(counter),
            wake,
        }
    }

    /// Sends what is due until `stop` says so, and then finishes what is being sent.
    pub async fn run(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut sending = JoinSet::new();
        let sends = async {
            loop {
                match self.send_due(&places, &mut sending).await {
                    // There may be more.
                    Ok(PAGE) => {}
                    Ok(_) => {
                        let _ = timeout(INTERVAL, self.wake.notify.notified()).await;
                    }
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "messages not sent");
                        sleep(INTERVAL).await;
                    }
                }
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
        // What was taken and not begun in that moment is sent when its lease is over.
        let _: Option<(Infallible, Infallible)> = stop
            .run_until_cancelled(async { tokio::join!(sends, looks) })
            .await;
        while sending.join_next().await.is_some() {}
    }

    /// Notes how much there is to send.
    async fn look(&self) -> Result<(), Error> {
        let backlog = outbox::backlog(self.store.lists()).await?;
        let now = self.clock.now();
        let written_at = backlog.oldest.and_then(MessageId::written_at);
        let age = written_at.and_then(|time| (now - time).to_std().ok());
        self.counter.metrics.set_backlog(Backlog {
            messages: backlog.messages,
            age: age.unwrap_or_default(),
        });
        Ok(())
    }

    /// Begins to send what is due, as much at a time as there are places, and says how many messages were looked at.
    async fn send_due(&self, places: &Arc<Semaphore>, sending: &mut JoinSet<()>) -> Result<u64, Error> {
        while sending.try_join_next().is_some() {}
        let providers = u32::try_from(self.counter.providers.len()).unwrap_or(u32::MAX);
        let lease = self.counter.timeout.saturating_mul(providers) + LEASE;
        let due = outbox::find_due(self.store.reader(), PAGE, lease, self.clock.now()).await?;
        let count = u64::try_from(due.len()).unwrap_or(PAGE);
        for message in due {
            // Before it is taken: its time must not pass while it waits for a place.
            let place = places.clone().acquire_owned().await.map_err(Error::internal)?;
            let (writer, now) = (self.store.writer(), self.clock.now());
            let taken = retry(|| async { Ok(outbox::take(writer, message.clone(), lease, now).await?) });
            if let Some(message) = taken.await? {
                let (outbox, trace) = (self.clone(), self.wake.trace_of(message.id));
                sending.spawn(async move {
                    let sent = trace.around(async { span("outbox.send", pin!(outbox.send(&message))).await });
                    if let Err(error) = sent.await {
                        tracing::warn!(error = chain(&error), message_id = %message.id, "a message is left for later");
                    }
                    drop(place);
                });
            }
        }
        Ok(count)
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
        // What was met already is not sent.
        let Some(challenge) = challenge.filter(|challenge| challenge.is_sent) else {
            return Ok(None);
        };
        let code = self.counter.coder.code(&challenge);
        if code.is_none() {
            // Another process may have the key.
            tracing::warn!(
                key_id = challenge.key_id,
                "the key of a code is not among the code keys"
            );
        }
        Ok(Some(Delivery {
            event: event(Action::DeliverCode, challenge.person),
            message: code.map(|code| Message::with_code(message.id, &challenge, &code, &self.counter.lines)),
        }))
    }

    /// Asks one provider after another to take a message, of those that send to such numbers. If all of them are left out, they are
    /// asked all the same: a message is not given up for what became of others.
    ///
    /// # Errors
    /// Why nobody has taken it: if one of them may take it later, that.
    async fn ask_providers(&self, message: &Message) -> Result<(), SendError> {
        let providers = &self.counter.providers;
        let all = 0..providers.len();
        let mut serving: Vec<usize> = all
            .clone()
            .filter(|index| providers[*index].serves(&message.to))
            .collect();
        if serving.is_empty() {
            // So that each of them says so.
            serving.extend(all);
        }
        let mut left_out = Vec::new();
        let open = serving.iter().copied().filter(|index| {
            let may_ask = self.counter.breakers.may_ask(*index, self.clock.since_boot());
            if !may_ask {
                left_out.push(*index);
            }
            may_ask
        });
        match self.ask_in_turn(open, message).await {
            Err(_) if left_out.len() == serving.len() => {
                self.ask_in_turn(left_out.into_iter(), message).await
            }
            // They may take what others have refused.
            Err(error) if !left_out.is_empty() && !error.may_pass() => Err(SendError::LeftOut),
            outcome => outcome,
        }
    }

    /// Asks these providers, until one takes the message.
    async fn ask_in_turn(
        &self,
        providers: impl Iterator<Item = usize>,
        message: &Message,
    ) -> Result<(), SendError> {
        let mut why = SendError::NotTheirs;
        for index in providers {
            match self.ask(index, message).await {
                Ok(()) => return Ok(()),
                Err(error) if !why.may_pass() => why = error,
                Err(_) => {}
            }
        }
        Err(why)
    }

    async fn ask(&self, index: usize, message: &Message) -> Result<(), SendError> {
        let provider = &self.counter.providers[index];
        let name = provider.name();
        let outcome = provider.send(message).await;
        let failed = outcome.err().is_some_and(SendError::may_pass);
        self.counter.breakers.note(index, failed, self.clock.since_boot());
        self.counter.metrics.message(name, outcome, &message.to);
        match outcome {
            Ok(()) => {
                tracing::info!(message_id = %message.id, provider = name.as_str(), "message taken");
            }
            Err(error) => {
                tracing::warn!(message_id = %message.id, provider = name.as_str(), %error, "message not taken");
            }
        }
        outcome
    }

    /// Takes a message that was sent out of the outbox, and notes that. If another has taken it meanwhile, it goes out twice.
    async fn end(&self, message: &OutboxMessage, attempt: &Attempt) -> Result<(), Error> {
        let event = attempt.ended(Outcome::Done, self.clock.now());
        retry(|| async {
            let tx = self.store.begin().await?;
            outbox::delete(&tx, message.id).await?;
            audit::insert_with_commit(&tx, &event).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Takes a message out of the outbox that nobody takes, and notes that. One that another has taken meanwhile is left to them.
    async fn give_up(&self, message: &OutboxMessage, attempt: &Attempt) -> Result<(), Error> {
        let event = attempt.ended(Outcome::Refused(Refusal::SmsNotDelivered), self.clock.now());
        retry(|| async {
            let tx = self.store.begin().await?;
            if outbox::give_up(&tx, message).await? {
                audit::insert_with_commit(&tx, &event).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

fn event(action: Action, subject: Option<UserId>) -> Attempt {
    Attempt {
        subject,
        ..Attempt::by_nobody(action, ClientInfo::default(), Caller::default())
    }
}

/// What tells the number that somebody has now that they will not have it any more.
pub(super) fn phone_changed(user: &User, of_call: Language, now: Timestamp) -> OutboxMessage {
    let notice = Notice {
        kind: NoticeKind::PhoneChanged,
        to: user.phone_number.clone(),
        person: user.id,
        language: user.language_or(of_call),
    };
    OutboxMessage::new(Content::Notice(notice), now, now + MAX_LIFETIME)
}
