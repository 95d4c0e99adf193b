//! Counting messages, so that nobody has them sent for money. All replicas count together, in the database, and before
//! anything is sent.
//!
//! Whether somebody has a number makes no difference: what is not sent is counted and refused as what is, and takes as
//! much of the budget, or who watches that come to its end could tell.

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
use crate::store::sms_counters;

/// Who asks for a message, as far as it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// Nobody who is known.
    Stranger,
    /// Somebody with a session of the person whose number it is, or on a device on which that person has signed in
    /// before.
    Known {
        /// Whether the person has shown that they hold the number. Whoever has registered one has not.
        is_verified: bool,
    },
}

impl Asker {
    /// The delivery class of messages that they ask for.
    pub(super) const fn class(&self) -> DeliveryClass {
        match self {
            Self::Stranger => DeliveryClass::Stranger,
            Self::Known { .. } => DeliveryClass::Known,
        }
    }

    /// Whether they have shown that they hold the number.
    pub(super) const fn has_number(&self) -> bool {
        matches!(self, Self::Known { is_verified: true })
    }
}

/// A message that is to be sent, perhaps.
pub(super) struct MessageRequest<'a> {
    pub(super) to: &'a PhoneNumber,
    pub(super) asker: Asker,
    pub(super) address: Option<IpAddr>,
    pub(super) caller: &'a Caller,
}

/// Something that it counts for.
struct MessageCount {
    id: CounterId,
    bounds: Bounds,
    amount: u64,
    refusal: SmsRefusal,
}

/// How the pumping guard watches a prefix.
struct Watch {
    pumping_guard: PumpingGuard,
    from: CodeSource,
    by: Pair,
}

/// All that a message counts for.
struct MessageCounts {
    /// In the order in which it is looked at.
    counts: Vec<MessageCount>,
    /// `None`: nothing is held against the prefix.
    watch: Option<Watch>,
}

/// What comes of counting.
enum Tried {
    /// It is counted, and that is watched.
    Counted(Option<CounterId>),
    /// Nothing is against it, and not all counters are there.
    NotThere,
}

impl Codes {
    /// Refuses numbers of countries that no messages go to.
    pub(super) fn check_country(&self, number: &PhoneNumber) -> Result<(), Error> {
        if self.limits.reach.has_country_of(number) {
            return Ok(());
        }
        Err(self.refused(SmsRefusal::CountryNotAllowed, None, number))
    }

    /// Counts a message, for all that it counts for or for nothing. Says what the pumping guard watches of its code.
    ///
    /// # Errors
    /// [`Error::SmsRefused`], where there were too many.
    pub(super) async fn count(&self, wanted: &MessageRequest<'_>) -> Result<Option<CounterId>, Error> {
        let counts = self.counts(wanted);
        let ids = counts.ids();
        if ids.is_empty() {
            return Ok(None);
        }
        if let Tried::Counted(watched) = retry(|| self.try_count(&counts, &ids, wanted.to)).await? {
            return Ok(watched);
        }
        let now = self.accounts.clock.now();
        for id in &ids {
            let writer = self.accounts.store.unsynced_writer();
            retry(|| async { Ok(sms_counters::insert_new(&writer, *id, now).await?) }).await?;
        }
        match retry(|| self.try_count(&counts, &ids, wanted.to)).await? {
            Tried::Counted(watched) => Ok(watched),
            Tried::NotThere => Err(Error::internal(
                "counters of messages are removed as soon as they are made",
            )),
        }
    }

    /// What a message counts for.
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
        // What strangers do to a number is not its owner's fault, nor what they do to its neighbours.
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
        // Of what all share.
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
                // A part of little money may not be the price of one.
                let of_strangers = bounds.of_strangers().at_least(amount, &bounds);
                let of_source = from.part_of(of_strangers).at_least(amount, &of_strangers);
                push(counted.id_from(from), of_source);
                push(counted.id(), of_strangers);
            }
        }
        counts.retain(|count| !count.bounds.is_none());
        MessageCounts { counts, watch }
    }

    /// Counts, if all counters are there.
    async fn try_count(
        &self,
        counts: &MessageCounts,
        ids: &[CounterId],
        to: &PhoneNumber,
    ) -> Result<Tried, Error> {
        let now = self.accounts.clock.now();
        let tx = self.accounts.store.begin().await?;
        let mut counters = Locked::lock(&tx, ids, now).await?;
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for count in &counts.counts {
            match counters.of(count.id).add(&count.bounds, count.amount, now) {
                Ok(counter) => added.push((count.id, counter)),
                Err(wait) => refused.push((wait, count.refusal)),
            }
        }
        let (mut watched, mut seen, mut paused) = (None, None, None);
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
                        // Those that nobody tells apart are everybody, where no calling service says addresses.
                        (Paused::ForSource, CodeSource::Unknown) | (Paused::ForAll, _) => SmsRefusal::Paused,
                    };
                    refused.push((rest, why));
                    paused = by_this.map(|_| why);
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
                return Ok(Tried::NotThere);
            }
            for (id, counter) in added {
                counters.set(id, counter);
            }
        }
        // A pause is noted, though nothing is sent.
        if let Some((by, seen)) = seen.filter(|_| longest.is_none() || paused.is_some()) {
            counters.see(by, seen);
        }
        counters.write(&tx).await?;
        tx.commit().await?;
        match longest {
            None => Ok(Tried::Counted(watched)),
            Some((wait, why)) => {
                if let Some(whose) = paused {
                    tracing::warn!(
                        country = country(to),
                        reason = whose.as_str(),
                        "a prefix is paused: its codes are asked for and hardly ever used"
                    );
                }
                Err(self.refused(why, Some(wait), to))
            }
        }
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
