//! Labelled counters for the metrics of codes and messages: by country, never by phone number.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits;

/// Values of the labels. The last label has as many values as there are countries; the others have few.
pub(crate) type Labels<const N: usize> = [String; N];

/// A counter for each combination of label values.
#[derive(Debug)]
pub(super) struct LabelCounts<const N: usize>(Mutex<BTreeMap<Labels<N>, u64>>);

impl<const N: usize> Default for LabelCounts<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<const N: usize> LabelCounts<N> {
    /// Increments a counter.
    pub(super) fn add(&self, labels: [&str; N]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(labels.map(str::to_owned)).or_default() += 1;
    }

    /// Returns all counters.
    pub(super) fn all(&self) -> Vec<(Labels<N>, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(labels, count)| (labels.clone(), *count))
            .collect()
    }
}

/// Returns the country of a number as a label value. `None`: the number is unknown.
pub(super) fn country(number: Option<&PhoneNumber>) -> String {
    number.map_or_else(|| "unknown".to_owned(), sms_limits::country)
}
