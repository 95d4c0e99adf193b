//! Common-password check: a compiled-in blocklist, and the patterns by which attackers vary its entries (NIST SP
//! 800-63B, section 5.1.1.2).
//!
//! The work has a fixed maximum for any input, so that a check takes microseconds: [`MAX_STEM`] limits the length of a
//! look-up, and [`MAX_EXTENSION`] limits the number of stems. `docs/decisions/0002-common-passwords.md` has the sources
//! and the figures.

mod fold;
mod list;
mod patterns;

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

use patterns::{Keys, is_date, is_year, period};

/// Maximum length of a stem, in characters. No entry of the list is longer.
const MAX_STEM: usize = 24;

/// Maximum number of digits and signs at each end of the letters that can stand for letters, as in `$unshine` or
/// `hell0`.
const MAX_EXTENSION: usize = 3;

/// Maximum number of unpredictable characters around a common stem: attackers soon try all ten thousand numbers of four
/// digits.
const MAX_UNPREDICTABLE: usize = 4;

/// Maximum length of a unit whose repetition is always common, in characters.
const MAX_UNIT: usize = 4;

/// Whether a whole password is one of those that attackers try first: a listed password, name or word; a repetition, a
/// sequence, a keyboard run or a date; or one of them between a few digits and signs.
pub(super) fn is_common(password: &str) -> bool {
    let characters = fold::folded(password);
    let keys = Keys::of(&characters);
    let text = FoldedText {
        characters: &characters,
        keys: &keys,
    };
    let whole = 0..characters.len();
    if text.is_stem(&whole) {
        return true;
    }
    let Some(core) = text.core() else {
        return false;
    };
    let has_letters = text
        .slice(&core)
        .iter()
        .any(|character| character.is_alphabetic());
    // Digits beside digits are one number, which only counts as a whole.
    let is_apart = |around: &Range<usize>| has_letters || !text.has_digits(around);
    let starts = text.starts(&core).into_iter().map(|start| (start, 0..start));
    let ends = text.ends(&core).into_iter().map(|end| (end, end..whole.end));
    let costs = |around: &Range<usize>| is_apart(around).then(|| text.cost(around)).flatten();
    let starts: Vec<(usize, usize)> = starts
        .filter_map(|(start, before)| Some((start, costs(&before)?)))
        .collect();
    let ends: Vec<(usize, usize)> = ends
        .filter_map(|(end, after)| Some((end, costs(&after)?)))
        .collect();
    let pairs = starts
        .iter()
        .flat_map(|start| ends.iter().map(move |end| (start, end)));
    pairs.into_iter().any(|((start, before), (end, after))| {
        let (stem, unpredictable) = (*start..*end, before + after);
        unpredictable <= MAX_UNPREDICTABLE
            && (stem.len() + unpredictable <= MAX_UNPREDICTABLE || text.is_stem(&stem))
    })
}

/// Whether a list entry is in the folded form in which the check looks it up, for the test of the list.
#[cfg(test)]
fn is_folded(entry: &str) -> bool {
    let folded: String = fold::folded(entry).iter().collect();
    folded == entry
}

/// A folded password and the keys that type it.
struct FoldedText<'a> {
    characters: &'a [char],
    keys: &'a Keys,
}

impl FoldedText<'_> {
    fn slice(&self, range: &Range<usize>) -> &[char] {
        self.characters.get(range.clone()).unwrap_or_default()
    }

    /// The range from the first to the last letter; without letters, from the first to the last digit.
    fn core(&self) -> Option<Range<usize>> {
        let between = |is_core: fn(&char) -> bool| {
            let start = self.characters.iter().position(is_core)?;
            let end = self.characters.iter().rposition(is_core)?;
            Some(start..end + 1)
        };
        between(|character| character.is_alphabetic()).or_else(|| between(|character| character.is_numeric()))
    }

    /// Possible starts of a stem: the start of the core, up to [`MAX_EXTENSION`] characters before it, and the start of
    /// the password, since entries such as `2278124q` have many digits before their letters.
    fn starts(&self, core: &Range<usize>) -> Vec<usize> {
        let near = core.start.saturating_sub(MAX_EXTENSION);
        let first = (near > 0).then_some(0);
        first.into_iter().chain(near..=core.start).collect()
    }

    /// Possible ends of a stem: the end of the core, and up to [`MAX_EXTENSION`] characters after it.
    fn ends(&self, core: &Range<usize>) -> Vec<usize> {
        (core.end..=(core.end + MAX_EXTENSION).min(self.characters.len())).collect()
    }

    fn has_digits(&self, range: &Range<usize>) -> bool {
        self.slice(range).iter().any(|character| character.is_numeric())
    }

    /// Number of unpredictable characters on one side of a stem, beside a predictable part at one of its ends. `None`:
    /// more than [`MAX_UNPREDICTABLE`].
    fn cost(&self, range: &Range<usize>) -> Option<usize> {
        (0..=range.len().min(MAX_UNPREDICTABLE)).find(|cost| {
            let parts = [range.start + cost..range.end, range.start..range.end - cost];
            *cost == range.len() || parts.iter().any(|part| self.is_predictable(part))
        })
    }

    fn is_predictable(&self, range: &Range<usize>) -> bool {
        let characters = self.slice(range);
        is_year(characters)
            || is_date(characters)
            || (characters.len() > 2 && period(characters) <= 1)
            || self.keys.is_run(range, characters)
    }

    /// Whether attackers try this stem first, alone or with other characters around it.
    fn is_stem(&self, range: &Range<usize>) -> bool {
        let characters = self.slice(range);
        if self.keys.is_run(range, characters) || is_date(characters) {
            return true;
        }
        let unit = period(characters);
        if 2 * unit <= characters.len() {
            let start = range.start;
            return unit <= MAX_UNIT || self.is_listed(&(start..start + unit));
        }
        self.is_listed(range)
    }

    /// Whether the list contains this, forwards or backwards, in one of its spellings.
    fn is_listed(&self, range: &Range<usize>) -> bool {
        let characters = self.slice(range);
        if characters.len() > MAX_STEM {
            return false;
        }
        let mut words = [String::new(), String::new()].map(|mut word| {
            // A growing string would leave copies in memory.
            word.reserve(char::MAX_LEN_UTF8 * characters.len());
            Zeroizing::new(word)
        });
        let [forwards, backwards] = &mut words;
        forwards.extend(characters);
        backwards.extend(characters.iter().rev());
        let [forwards, backwards] = words;
        list::has(&forwards)
            || list::has(&backwards)
            || fold::spellings(&forwards).any(|spelling| list::has(&spelling))
            || fold::read_as_letters(&backwards).is_some_and(|spelling| list::has(&spelling))
    }
}

#[cfg(test)]
mod tests;
