//! Counters by the values of labels, for metrics of codes and messages: by country, never by number.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits;

/// Values of labels. There are as many of the last as countries, and few of the others.
pub(crate) type Labels<const N: usize> = [String; N];

/// A count for each combination of values.
#[derive(Debug)]
pub(super) struct LabelCounts<const N: usize>(Mutex<BTreeMap<Labels<N>, u64>>);

impl<const N: usize> Default for LabelCounts<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<const N: usize> LabelCounts<N> {
    /// Adds one.
    pub(super) fn add(&self, labels: [&str; N]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(labels.map(str::to_owned)).or_default() += 1;
    }

    /// All counts.
    pub(super) fn all(&self) -> Vec<(Labels<N>, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(labels, count)| (labels.clone(), *count))
            .collect()
    }
}

/// The country of a number, as a label. `None`: the number is unknown.
pub(super) fn country(number: Option<&PhoneNumber>) -> String {
    number.map_or_else(|| "unknown".to_owned(), sms_limits::country)
}
