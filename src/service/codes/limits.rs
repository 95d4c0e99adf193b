//! Counting messages, so that nobody has them sent for money. All replicas count together, in the database, and before anything
//! is sent.
//!
//! Whether somebody has a number makes no difference: what is not sent is counted and refused as what is. Only money is not
//! spent on it.

use std::net::IpAddr;
use std::time::Duration;

use super::Codes;
use crate::clock::Timestamp;
use crate::domain::caller::Caller;
use crate::domain::device::DeviceId;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::{
    Bounds, Counted, Counter, CounterId, SmsRefusal, Tripped, Tripwire, country,
};
use crate::domain::user::UserId;
use crate::error::{Error, chain};
use crate::service::retry::retry;
use crate::store::sms_counters;

/// Who asks for a message, as far as it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// Nobody who is known.
    Stranger,
    /// Somebody with a session, for the number that they have.
    Person {
        id: UserId,
        /// Whether they have shown that they hold it.
        is_verified: bool,
    },
    /// A device on which the person has signed in before.
    Device {
        id: DeviceId,
        /// Whether the person has shown that they hold the number.
        is_verified: bool,
    },
}

/// A message that is to be sent, perhaps.
pub(super) struct Wanted<'a> {
    pub(super) to: &'a PhoneNumber,
    pub(super) asker: Asker,
    pub(super) address: Option<IpAddr>,
    pub(super) caller: &'a Caller,
    /// Whether it will be sent.
    pub(super) is_sent: bool,
}

/// Something that it counts for.
struct Count {
    id: CounterId,
    bounds: Bounds,
    amount: u64,
    /// What would be counted if it were sent.
    probe: u64,
    tripwire: Option<Tripwire>,
    refusal: SmsRefusal,
}

impl Codes {
    /// Refuses numbers of countries that no messages go to.
    pub(super) fn check_country(&self, number: &PhoneNumber) -> Result<(), Error> {
        if self.limits.allows_country_of(number) {
            return Ok(());
        }
        Err(self.refused(SmsRefusal::CountryNotAllowed, None, number))
    }

    /// Counts a message, for all that it counts for or for nothing.
    ///
    /// # Errors
    /// [`Error::SmsRefused`], where there were too many.
    pub(super) async fn count(&self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let counts = self.counts(wanted);
        if counts.is_empty() {
            return Ok(());
        }
        if retry(|| self.try_count(&counts, wanted.to)).await? {
            return Ok(());
        }
        let now = self.accounts.clock.now();
        for count in &counts {
            let writer = self.accounts.store.unsynced_writer();
            retry(|| async { Ok(sms_counters::insert_new(&writer, count.id, now).await?) }).await?;
        }
        if retry(|| self.try_count(&counts, wanted.to)).await? {
            return Ok(());
        }
        Err(Error::internal(
            "counters of messages are removed as soon as they are made",
        ))
    }

    /// What a message counts for, in the order in which all lock it.
    fn counts(&self, wanted: &Wanted<'_>) -> Vec<Count> {
        let limits = &self.limits;
        let (counted, is_exempt) = match wanted.asker {
            Asker::Stranger => (Counted::Number(wanted.to), false),
            // What strangers do to a number is not its owner's fault, nor what they do to its neighbours. But whoever has
            // registered a number has not shown yet to hold it.
            Asker::Person { id, is_verified } => (Counted::Person(id), is_verified),
            Asker::Device { id, is_verified } => (Counted::Device(id), is_verified),
        };
        let count = |counted: &Counted<'_>, bounds: Bounds, refusal| Count {
            id: counted.id(),
            bounds,
            amount: 1,
            probe: 1,
            tripwire: None,
            refusal,
        };
        let country = country(wanted.to);
        let mut counts = vec![count(&counted, limits.number, SmsRefusal::Number)];
        if !is_exempt {
            counts.push(Count {
                tripwire: limits.tripwire,
                ..count(&Counted::Prefix(wanted.to), limits.prefix, SmsRefusal::Prefix)
            });
        }
        if let Some(address) = wanted.address {
            counts.push(count(
                &Counted::Address(address),
                limits.address,
                SmsRefusal::Address,
            ));
        }
        let service = Counted::Service(wanted.caller.service.as_deref());
        counts.push(count(&service, limits.service, SmsRefusal::Service));
        counts.push(count(
            &Counted::Country(&country),
            limits.country,
            SmsRefusal::Country,
        ));
        if let Some((budget, prices)) = &limits.budget {
            let price = prices.of(&country).millionths();
            let bounds = Bounds {
                hour: None,
                day: Some(budget.millionths()),
            };
            counts.push(Count {
                amount: if wanted.is_sent { price } else { 0 },
                probe: price,
                ..count(&Counted::Budget, bounds, SmsRefusal::Budget)
            });
        }
        counts.retain(|count| !count.bounds.is_none() || count.tripwire.is_some());
        counts.sort_unstable_by_key(|count| count.id);
        counts
    }

    /// Counts, if all counters are there; says whether they are.
    async fn try_count(&self, counts: &[Count], number: &PhoneNumber) -> Result<bool, Error> {
        let now = self.accounts.clock.now();
        let tx = self.accounts.store.begin().await?;
        let ids: Vec<CounterId> = counts.iter().map(|count| count.id).collect();
        let found = sms_counters::lock(&tx, &ids).await?;
        if found.len() < counts.len() {
            return Ok(false);
        }
        let mut counted = Vec::with_capacity(counts.len());
        let mut refused: Option<(Duration, SmsRefusal)> = None;
        let mut paused = None;
        for (count, (id, counter)) in counts.iter().zip(found) {
            let (wait, why) = match self.added(count, counter, now) {
                Added::Counted(counter) => {
                    counted.push((id, counter));
                    continue;
                }
                Added::Refused(wait, why) => (wait, why),
                Added::Paused(counter, wait) => {
                    paused = Some((id, counter));
                    (wait, SmsRefusal::Paused)
                }
            };
            if refused.is_none_or(|(longest, _)| wait > longest) {
                refused = Some((wait, why));
            }
        }
        if let Some((wait, why)) = refused {
            if let Some((id, counter)) = paused {
                sms_counters::update(&tx, id, &counter, now).await?;
                tx.commit().await?;
                tracing::warn!(
                    country = country(number),
                    "a prefix is paused: its codes are asked for and hardly ever used"
                );
            }
            return Err(self.refused(why, Some(wait), number));
        }
        for (id, counter) in counted {
            sms_counters::update(&tx, id, &counter, now).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    fn added(&self, count: &Count, counter: Counter, now: Timestamp) -> Added {
        let counter = match &count.tripwire {
            None => counter,
            Some(tripwire) => match counter.usage.ask(tripwire, self.options.lifetime, now) {
                Tripped::No(usage) => Counter { usage, ..counter },
                Tripped::Now(usage, wait) => return Added::Paused(Counter { usage, ..counter }, wait),
                Tripped::Before(wait) => return Added::Refused(wait, SmsRefusal::Paused),
            },
        };
        match counter.add(&count.bounds, count.amount, count.probe, now) {
            Ok(counter) => Added::Counted(counter),
            Err(wait) => Added::Refused(wait, count.refusal),
        }
    }

    fn refused(&self, why: SmsRefusal, retry_after: Option<Duration>, number: &PhoneNumber) -> Error {
        self.metrics.refusal(why, number);
        Error::SmsRefused { why, retry_after }
    }

    /// Notes that a code to a number was right. If it cannot be noted, the code was right all the same.
    pub(super) async fn note_verified(&self, number: &PhoneNumber) {
        if self.limits.tripwire.is_none() {
            return;
        }
        let prefix = Counted::Prefix(number).id();
        let writer = self.accounts.store.unsynced_writer();
        let noted = retry(|| async { Ok(sms_counters::verified(&writer, prefix).await?) });
        if let Err(error) = noted.await {
            tracing::warn!(
                error = chain(&error),
                "that a code was right is not counted for its prefix"
            );
        }
    }
}

/// What comes of a message for one of the things that it counts for.
enum Added {
    Counted(Counter),
    Refused(Duration, SmsRefusal),
    /// A prefix is paused from now on, for so long.
    Paused(Counter, Duration),
}
