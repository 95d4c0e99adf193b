//! Counting messages, so that nobody has them sent for money. All replicas count together, in the database, and before anything
//! is sent.
//!
//! Whether somebody has a number makes no difference: what is not sent is counted and refused as what is, and takes as much of
//! the budget, or who watches that come to its end could tell.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Codes;
use crate::clock::Timestamp;
use crate::domain::caller::Caller;
use crate::domain::code::Challenge;
use crate::domain::device::DeviceId;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::{
    Bounds, Counted, Counter, CounterId, SmsRefusal, Tripped, Tripwire, country,
};
use crate::domain::user::UserId;
use crate::error::Error;
use crate::service::retry::retry;
use crate::store::{Transaction, sms_counters};

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

impl Asker {
    /// Whether they have shown that they hold the number. Whoever has registered one has not.
    const fn has_number(&self) -> bool {
        match self {
            Self::Stranger => false,
            Self::Person { is_verified, .. } | Self::Device { is_verified, .. } => *is_verified,
        }
    }
}

/// A message that is to be sent, perhaps.
pub(super) struct Wanted<'a> {
    pub(super) to: &'a PhoneNumber,
    pub(super) asker: Asker,
    pub(super) address: Option<IpAddr>,
    pub(super) caller: &'a Caller,
}

/// Something that it counts for.
struct Count {
    id: CounterId,
    bounds: Bounds,
    amount: u64,
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

    /// Whether the tripwire watches what becomes of a code that is asked for by this one.
    pub(super) fn is_watched(&self, asker: &Asker) -> bool {
        self.limits.tripwire.is_some() && !asker.has_number()
    }

    /// Counts a message, for all that it counts for or for nothing.
    ///
    /// # Errors
    /// [`Error::SmsRefused`], where there were too many.
    pub(super) async fn count(&self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let counts = self.counts(wanted);
        if counts.is_empty() || retry(|| self.try_count(&counts, wanted.to)).await? {
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

    /// What a message counts for, in the order in which it is looked at.
    fn counts(&self, wanted: &Wanted<'_>) -> Vec<Count> {
        let limits = &self.limits;
        let (to, address) = (wanted.to, wanted.address);
        let count = |counted: Counted<'_>, bounds: Bounds, refusal| Count {
            id: counted.id(),
            bounds,
            amount: 1,
            tripwire: None,
            refusal,
        };
        let mut counts = Vec::new();
        // What strangers do to a number is not its owner's fault, nor what they do to its neighbours.
        let owner = match wanted.asker {
            Asker::Stranger => None,
            Asker::Person { id, .. } => Some(Counted::Person(id)),
            Asker::Device { id, .. } => Some(Counted::Device(id)),
        };
        let has_number = wanted.asker.has_number();
        if owner.is_none()
            && let Some(address) = address
        {
            let counted = Counted::NumberFrom(to, address);
            counts.push(count(counted, limits.number.of_an_address(), SmsRefusal::Number));
        }
        let counted = owner.unwrap_or(Counted::Number(to));
        counts.push(count(counted, limits.number, SmsRefusal::Number));
        if !has_number {
            if let Some(address) = address {
                let counted = Counted::PrefixFrom(to, address);
                counts.push(Count {
                    tripwire: limits.tripwire.map(Tripwire::of_an_address),
                    ..count(counted, limits.prefix.of_an_address(), SmsRefusal::Prefix)
                });
            }
            counts.push(Count {
                tripwire: limits.tripwire,
                ..count(Counted::Prefix(to), limits.prefix, SmsRefusal::Prefix)
            });
        }
        if let Some(address) = address {
            counts.push(count(
                Counted::Address(address),
                limits.address,
                SmsRefusal::Address,
            ));
        }
        let of_all = |bounds: Bounds| if has_number { bounds } else { bounds.of_strangers() };
        let service = Counted::Service(wanted.caller.service.as_deref());
        counts.push(count(service, of_all(limits.service), SmsRefusal::Service));
        let country = country(to);
        let counted = Counted::Country(&country);
        counts.push(count(counted, of_all(limits.country), SmsRefusal::Country));
        if let Some((budget, prices)) = &limits.budget {
            let bounds = Bounds {
                hour: None,
                day: Some(budget.millionths()),
            };
            counts.push(Count {
                amount: prices.of(&country).millionths(),
                ..count(Counted::Budget, of_all(bounds), SmsRefusal::Budget)
            });
        }
        counts.retain(|count| !count.bounds.is_none() || count.tripwire.is_some());
        counts
    }

    /// Counts, if all counters are there; says whether they are.
    async fn try_count(&self, counts: &[Count], number: &PhoneNumber) -> Result<bool, Error> {
        let now = self.accounts.clock.now();
        let tx = self.accounts.store.begin().await?;
        let ids: Vec<CounterId> = counts.iter().map(|count| count.id).collect();
        let found: HashMap<CounterId, Counter> = sms_counters::lock(&tx, &ids).await?.into_iter().collect();
        let mut is_in_doubt = false;
        let mut counted = Vec::with_capacity(counts.len());
        let mut refused: Option<(Duration, SmsRefusal)> = None;
        let mut paused = Vec::new();
        for count in counts {
            let Some(counter) = found.get(&count.id) else {
                return Ok(false);
            };
            let (wait, why) = match self.added(count, *counter, &mut is_in_doubt, now) {
                Added::Counted(counter) => {
                    counted.push((count.id, counter));
                    continue;
                }
                Added::Refused(wait, why) => (wait, why),
                Added::Paused(counter, wait) => {
                    paused.push((count.id, counter));
                    (wait, SmsRefusal::Paused)
                }
            };
            if refused.is_none_or(|(longest, _)| wait > longest) {
                refused = Some((wait, why));
            }
        }
        let changed = if refused.is_some() { &paused } else { &counted };
        for (id, counter) in changed {
            sms_counters::update(&tx, *id, counter, now).await?;
        }
        tx.commit().await?;
        if !paused.is_empty() {
            tracing::warn!(
                country = country(number),
                "a prefix is paused: its codes are asked for and hardly ever used"
            );
        }
        match refused {
            Some((wait, why)) => Err(self.refused(why, Some(wait), number)),
            None => Ok(true),
        }
    }

    /// `is_in_doubt`: whether too few of the codes are used, so far, that the same address has asked for.
    fn added(&self, count: &Count, counter: Counter, is_in_doubt: &mut bool, now: Timestamp) -> Added {
        let usage = match &count.tripwire {
            None => counter.usage,
            Some(tripwire) => match counter.usage.look(tripwire, self.options.lifetime, now) {
                // That of the prefix comes after that of the prefix and the address.
                Tripped::No(usage) if *is_in_doubt => usage,
                Tripped::No(usage) => {
                    *is_in_doubt = usage.is_in_doubt(tripwire);
                    usage.counted()
                }
                Tripped::Now(usage, wait) => return Added::Paused(Counter { usage, ..counter }, wait),
                Tripped::Before(wait) => return Added::Refused(wait, SmsRefusal::Paused),
            },
        };
        match (Counter { usage, ..counter }).add(&count.bounds, count.amount, now) {
            Ok(counter) => Added::Counted(counter),
            Err(wait) => Added::Refused(wait, count.refusal),
        }
    }

    fn refused(&self, why: SmsRefusal, retry_after: Option<Duration>, number: &PhoneNumber) -> Error {
        self.metrics.refusal(why, number);
        Error::SmsRefused { why, retry_after }
    }
}

/// Notes in the transaction which takes a challenge away that its code was used, if the tripwire watches that. `address`: where
/// it was used; most often that is where it was asked for.
pub(super) async fn note_used(
    tx: &Transaction,
    challenge: &Challenge,
    address: Option<IpAddr>,
) -> Result<(), Error> {
    if !challenge.is_watched {
        return Ok(());
    }
    let number = &challenge.phone_number;
    let of_address = address.map(|address| Counted::PrefixFrom(number, address));
    let all = [Some(Counted::Prefix(number)), of_address];
    let ids: Vec<CounterId> = all.iter().flatten().map(Counted::id).collect();
    Ok(sms_counters::verified(tx, &ids).await?)
}

/// What comes of a message for one of the things that it counts for.
enum Added {
    Counted(Counter),
    Refused(Duration, SmsRefusal),
    /// A prefix is paused from now on, for so long.
    Paused(Counter, Duration),
}
