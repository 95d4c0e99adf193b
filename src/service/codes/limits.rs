//! Limits of messages, against SMS pumping. The counters are in the database, so all replicas count together, and a
//! message is counted before it is sent.
//!
//! A message to a number without an account is counted and refused like any other, although it is not sent, and uses as
//! much of the budget: otherwise the end of the budget would reveal which numbers have accounts.

use std::net::IpAddr;
use std::time::Duration;

use super::Codes;
use super::counters::{Locked, Pair};
use crate::domain::access::Caller;
use crate::domain::message::DeliveryClass;
use crate::domain::network::Network;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::{
    Asked, Bounds, CodeSource, Counted, CounterId, Paused, PumpingGuard, SmsRefusal, country,
};
use crate::service::error::Error;
use crate::service::retry::retry;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, sms_counters};

/// The source of a request for a message, as far as the call proves it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// An unknown client.
    Stranger,
    /// A client with a session of the user of the number, or a known device of that user.
    Known {
        /// Whether the number is verified. A registration alone does not verify it.
        is_verified: bool,
    },
}

impl Asker {
    /// The delivery class of the requested messages.
    pub(super) const fn class(&self) -> DeliveryClass {
        match self {
            Self::Stranger => DeliveryClass::Stranger,
            Self::Known { .. } => DeliveryClass::Known,
        }
    }

    /// Whether the asker has verified the number.
    pub(super) const fn has_number(&self) -> bool {
        matches!(self, Self::Known { is_verified: true })
    }
}

/// A requested message.
pub(super) struct MessageRequest<'a> {
    pub(super) to: &'a PhoneNumber,
    pub(super) asker: Asker,
    pub(super) address: Option<IpAddr>,
    pub(super) caller: &'a Caller,
}

/// A counter of a message, and its limit.
struct MessageCount {
    id: CounterId,
    bounds: Bounds,
    amount: u64,
    refusal: SmsRefusal,
}

/// The counters by which the pumping guard watches a prefix.
struct Watch {
    pumping_guard: PumpingGuard,
    from: CodeSource,
    by: Pair,
}

/// All counters of a message.
struct MessageCounts {
    /// In the order of the checks.
    counts: Vec<MessageCount>,
    /// `None`: the pumping guard does not watch the prefix.
    watch: Option<Watch>,
}

/// The outcome of counting a message.
enum Tried {
    /// The message is counted. The pumping guard watches its code by this counter.
    Counted(Option<CounterId>),
    /// No limit refuses the message, and some counters have no row yet.
    NotThere,
    /// A limit refuses the message.
    Refused(RefusedMessage),
}

/// A message that a limit refuses.
struct RefusedMessage {
    /// Time until the next message is allowed.
    wait: Duration,
    why: SmsRefusal,
    /// The pause of the prefix that this message began, if it began one.
    began_pause: Option<SmsRefusal>,
}

impl Codes {
    /// Refuses numbers of countries that get no messages.
    ///
    /// # Errors
    /// [`Error::SmsRefused`].
    pub(super) fn check_country(&self, number: &PhoneNumber) -> Result<(), Error> {
        if self.limits.reach.has_country_of(number) {
            return Ok(());
        }
        Err(self.refused(SmsRefusal::CountryNotAllowed, None, number))
    }

    /// Counts a message on all of its counters, or on none. Returns the counter by which the pumping guard watches its
    /// code.
    ///
    /// # Errors
    /// [`Error::SmsRefused`] when a limit refuses the message.
    pub(super) async fn count(&self, wanted: &MessageRequest<'_>) -> Result<Option<CounterId>, Error> {
        let counts = self.counts(wanted);
        let ids = counts.ids();
        if ids.is_empty() {
            return Ok(None);
        }
        if let Some(watched) = self.try_count(&counts, &ids, wanted.to).await? {
            return Ok(watched);
        }
        let now = self.work.now();
        for id in &ids {
            let writer = self.work.store().counter_writer();
            retry(|| async { Ok(sms_counters::insert_new(&writer, *id, now).await?) }).await?;
        }
        let counted = self.try_count(&counts, &ids, wanted.to).await?;
        counted.ok_or_else(|| Error::internal("counters of messages are removed as soon as they are made"))
    }

    /// The counters of a message.
    fn counts(&self, wanted: &MessageRequest<'_>) -> MessageCounts {
        let limits = &self.limits;
        let (to, from) = (wanted.to, CodeSource::from(wanted.address));
        let count = |id, bounds, refusal| MessageCount {
            id,
            bounds,
            amount: 1,
            refusal,
        };
        let number = |counted: Counted<'_>| count(counted.id(), limits.number, SmsRefusal::Number);
        // Requests of strangers use up no limit of the user of a number, or of its neighbours.
        let mut counts = match wanted.asker {
            Asker::Known { .. } => vec![number(Counted::KnownNumber(to))],
            Asker::Stranger => {
                let counted = Counted::Number(to);
                let part = from.part_of(limits.number);
                let of_source = count(counted.id_from(from), part, SmsRefusal::Number);
                vec![of_source, number(counted)]
            }
        };
        let has_number = wanted.asker.has_number();
        let mut watch = None;
        if !has_number {
            let counted = Counted::Prefix(to);
            let by = Pair {
                source: counted.id_from(from),
                prefix: counted.id(),
            };
            counts.push(count(by.source, from.part_of(limits.prefix), SmsRefusal::Prefix));
            counts.push(count(by.prefix, limits.prefix, SmsRefusal::Prefix));
            watch = limits.pumping_guard.map(|pumping_guard| Watch {
                pumping_guard,
                from,
                by,
            });
        }
        let network = wanted.address.map(Network::of);
        for prefix in network.into_iter().flat_map(Network::prefixes) {
            let bounds = limits.address.times(prefix.factor());
            counts.push(count(Counted::Address(prefix).id(), bounds, SmsRefusal::Address));
        }
        // The counters that all messages share.
        let country = country(to);
        let service = Counted::Service(wanted.caller.service.as_deref());
        let mut shared = vec![
            (service, limits.service, 1, SmsRefusal::Service),
            (Counted::Country(&country), limits.country, 1, SmsRefusal::Country),
            (Counted::Total, limits.total, 1, SmsRefusal::Total),
        ];
        if let Some((budget, prices)) = &limits.budget {
            let bounds = Bounds {
                hour: None,
                day: Some(budget.millionths()),
            };
            let price = prices.of(&country).millionths();
            shared.push((Counted::Budget, bounds, price, SmsRefusal::Budget));
        }
        for (counted, bounds, amount, refusal) in shared {
            let mut push = |id, bounds| {
                counts.push(MessageCount {
                    amount,
                    ..count(id, bounds, refusal)
                });
            };
            if has_number {
                push(counted.id(), bounds);
            } else {
                // A part of a small budget may be less than the price of one message.
                let of_strangers = bounds.of_strangers().at_least(amount, &bounds);
                let of_source = from.part_of(of_strangers).at_least(amount, &of_strangers);
                push(counted.id_from(from), of_source);
                push(counted.id(), of_strangers);
            }
        }
        counts.retain(|count| !count.bounds.is_none());
        MessageCounts { counts, watch }
    }

    /// Counts a message if all counters have a row. `None`: some have none yet.
    ///
    /// # Errors
    /// [`Error::SmsRefused`].
    async fn try_count(
        &self,
        counts: &MessageCounts,
        ids: &[CounterId],
        to: &PhoneNumber,
    ) -> Result<Option<Option<CounterId>>, Error> {
        let RefusedMessage {
            wait,
            why,
            began_pause,
        } = match self
            .work
            .transact(|tx, _| Box::pin(self.write_counts(tx, counts, ids)))
            .await?
        {
            Tried::Counted(watched) => return Ok(Some(watched)),
            Tried::NotThere => return Ok(None),
            Tried::Refused(refused) => refused,
        };
        if let Some(reason) = began_pause {
            tracing::warn!(
                country = country(to),
                reason = reason.as_str(),
                "a prefix is paused: its codes are asked for and hardly ever used"
            );
        }
        Err(self.refused(why, Some(wait), to))
    }

    /// Checks all limits of a message under the locks of its counters, and writes the counters.
    async fn write_counts(
        &self,
        tx: &Transaction,
        counts: &MessageCounts,
        ids: &[CounterId],
    ) -> Result<TransactionEnd<Tried>, Error> {
        let now = self.work.now();
        let mut counters = Locked::lock(tx, ids, now).await?;
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for count in &counts.counts {
            match counters.of(count.id).add(&count.bounds, count.amount, now) {
                Ok(counter) => added.push((count.id, counter)),
                Err(wait) => refused.push((wait, count.refusal)),
            }
        }
        let (mut watched, mut seen, mut began_pause) = (None, None, None);
        if let Some(Watch {
            pumping_guard,
            from,
            by,
        }) = &counts.watch
        {
            let asked = pumping_guard.ask(*from, counters.seen(by), self.options.lifetime, now);
            let after = match asked {
                Asked::Counted(seen) => {
                    watched = Some(by.source);
                    Some(seen)
                }
                Asked::Paused { rest, whose, by_this } => {
                    let why = match (whose, from) {
                        (Paused::ForSource, CodeSource::Network(_)) => SmsRefusal::PausedForSource,
                        // Requests without a client address are one source, whatever service they come from.
                        (Paused::ForSource, CodeSource::Unknown) | (Paused::ForAll, _) => SmsRefusal::Paused,
                    };
                    refused.push((rest, why));
                    began_pause = by_this.map(|_| why);
                    by_this
                }
            };
            seen = after.map(|seen| (by, seen));
        }
        let longest = refused
            .into_iter()
            .reduce(|one, other| if other.0 > one.0 { other } else { one });
        if longest.is_none() {
            if !counters.has_all(ids) {
                return Ok(TransactionEnd::Rollback(Tried::NotThere));
            }
            for (id, counter) in added {
                counters.set(id, counter);
            }
        }
        // The start of a pause is written, although the message is refused.
        if let Some((by, seen)) = seen.filter(|_| longest.is_none() || began_pause.is_some()) {
            counters.see(by, seen);
        }
        counters.write(tx).await?;
        Ok(TransactionEnd::commit(match longest {
            None => Tried::Counted(watched),
            Some((wait, why)) => Tried::Refused(RefusedMessage {
                wait,
                why,
                began_pause,
            }),
        }))
    }

    fn refused(&self, why: SmsRefusal, retry_after: Option<Duration>, number: &PhoneNumber) -> Error {
        self.metrics.refusal(why, number);
        Error::SmsRefused { why, retry_after }
    }
}

impl MessageCounts {
    /// The ids of all counters, each once.
    fn ids(&self) -> Vec<CounterId> {
        let watched = self.watch.iter().flat_map(|watch| watch.by.ids());
        let mut ids: Vec<CounterId> = self.counts.iter().map(|count| count.id).chain(watched).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
