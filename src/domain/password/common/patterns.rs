//! Patterns that attackers generate: repetitions, sequences, keyboard runs and dates.

use std::iter;
use std::ops::Range;

use secrecy::zeroize::Zeroizing;

/// The unshifted rows of the keyboards: QWERTY (also Turkish Q), and ЙЦУКЕН. The list contains the rows of the Turkish
/// F keyboard.
const KEYBOARDS: [[&str; 4]; 2] = [
    ["1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"],
    ["1234567890-=", "йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю."],
];

/// The shifted characters of the digit keys on QWERTY.
const SHIFTED_DIGITS: &str = "!@#$%^&*()_+";

/// Minimum average length of the pieces of a sequence, in characters.
const MIN_PIECE: usize = 3;

/// Maximum step between the code points of a sequence: `abc`, `2468`, `97531`.
const MAX_STEP: i32 = 5;

/// Years of birth, and current years.
const YEARS: Range<u32> = 1900..2100;

/// Row and column of a key.
type KeyPosition = (i32, i32);

/// The positions of the characters of a text on each keyboard.
pub(super) struct Keys([Zeroizing<Vec<Option<KeyPosition>>>; KEYBOARDS.len()]);

impl Keys {
    pub(super) fn of(characters: &[char]) -> Self {
        Self(KEYBOARDS.map(|keyboard| {
            let keys = characters.iter().map(|character| key(&keyboard, *character));
            Zeroizing::new(keys.collect())
        }))
    }

    /// Whether `characters`, which are this range of the text, consist of few sequences or keyboard runs, such as
    /// `abcd1234`, `1qaz2wsx` and `йцукенгш`, or of two interleaved ones, such as `1q2w3e4r`.
    pub(super) fn is_run(&self, range: &Range<usize>, characters: &[char]) -> bool {
        let length = characters.len();
        if length < MIN_PIECE {
            return false;
        }
        let pieces = |step: usize, first: usize| {
            let places = move || (first..length).step_by(step);
            let codes = places().map(|place| characters.get(place).map(|character| code(*character)));
            let by_code = count_pieces(codes, |step| step.1.abs() <= MAX_STEP);
            let by_keys = self.0.iter().map(|keys| {
                let keys = places().map(|place| keys.get(range.start + place).copied().flatten());
                count_pieces(keys, |(rows, columns)| rows.abs() <= 1 && columns.abs() <= 1)
            });
            iter::once(by_code).chain(by_keys).min().unwrap_or(length)
        };
        pieces(1, 0) * MIN_PIECE <= length
            || (length >= 2 * MIN_PIECE && pieces(2, 0) == 1 && pieces(2, 1) == 1)
    }
}

fn key(keyboard: &[&str; 4], character: char) -> Option<KeyPosition> {
    let column = |row: &str| {
        row.chars()
            .position(|key| key == character)
            .and_then(|at| i32::try_from(at).ok())
    };
    let found = keyboard
        .iter()
        .zip(0..)
        .find_map(|(row, number)| Some((number, column(row)?)));
    found.or_else(|| Some((0, column(SHIFTED_DIGITS)?)))
}

fn code(character: char) -> KeyPosition {
    (0, i32::try_from(u32::from(character)).unwrap_or(i32::MAX))
}

/// Number of pieces with a constant step. A character without a key is a piece.
fn count_pieces(
    keys: impl Iterator<Item = Option<KeyPosition>>,
    is_small: impl Fn(KeyPosition) -> bool,
) -> usize {
    let mut pieces = 0;
    let mut last: Option<KeyPosition> = None;
    let mut step: Option<KeyPosition> = None;
    for key in keys {
        let next = match (last, key) {
            (Some(last), Some(key)) => Some((key.0 - last.0, key.1 - last.1)),
            _ => None,
        };
        let next = next.filter(|next| is_small(*next));
        let continues = next.is_some() && (step.is_none() || step == next) && last.is_some();
        if continues {
            step = next;
        } else {
            pieces += 1;
            step = None;
        }
        last = key;
    }
    pieces
}

/// The length of the shortest unit that the text repeats. The last repetition can be incomplete.
pub(super) fn period(characters: &[char]) -> usize {
    // The failure function of the Knuth-Morris-Pratt algorithm.
    let mut borders: Vec<usize> = vec![0; characters.len()];
    for index in 1..characters.len() {
        let character = characters.get(index);
        let mut border = borders.get(index - 1).copied().unwrap_or_default();
        while border > 0 && characters.get(border) != character {
            border = borders.get(border - 1).copied().unwrap_or_default();
        }
        if characters.get(border) == character {
            border += 1;
        }
        if let Some(found) = borders.get_mut(index) {
            *found = border;
        }
    }
    characters.len() - borders.last().copied().unwrap_or_default()
}

/// Whether this is a year.
pub(super) fn is_year(characters: &[char]) -> bool {
    characters.len() == 4 && number(characters).is_some_and(|year| YEARS.contains(&year))
}

/// Whether this is a date: `31121990`, `19901231`, `311290`, `31.12.1990`, `1990-12-31`.
pub(super) fn is_date(characters: &[char]) -> bool {
    let is_separator = |character: &char| matches!(character, '.' | '-' | '/' | '_' | ' ');
    let parts: Vec<&[char]> = characters.split(is_separator).take(4).collect();
    match parts.as_slice() {
        [one, two, three] => {
            [one, two, three].iter().all(|part| part.len() <= 4) && is_date_of(one, two, three)
        }
        [digits] if digits.len() == 8 => {
            let [begins, ends] = [digits.split_at(4), digits.split_at(4)];
            let (day, month) = begins.0.split_at(2);
            let (other_month, other_day) = ends.1.split_at(2);
            is_date_of(day, month, begins.1) || is_date_of(ends.0, other_month, other_day)
        }
        [digits] if digits.len() == 6 => {
            let (one, rest) = digits.split_at(2);
            let (two, three) = rest.split_at(2);
            is_date_of(one, two, three)
        }
        _ => false,
    }
}

/// Whether these are a day, a month and a year in one of the usual orders.
fn is_date_of(one: &[char], two: &[char], three: &[char]) -> bool {
    let is_day = |part| number(part).is_some_and(|day| (1..=31).contains(&day)) && part.len() <= 2;
    let is_month = |part| number(part).is_some_and(|month| (1..=12).contains(&month)) && part.len() <= 2;
    let is_year = |part: &[char]| is_year(part) || (part.len() == 2 && number(part).is_some());
    (is_year(three) && ((is_day(one) && is_month(two)) || (is_month(one) && is_day(two))))
        || (is_year(one) && is_month(two) && is_day(three))
}

/// The value of one to four digits. `None`: other lengths or characters.
fn number(digits: &[char]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |number, digit| Some(10 * number + digit.to_digit(10)?))
}
