//! The list of common passwords: a sorted text, compiled in and searched in place. So it needs no time at the start and
//! no additional memory.

use std::cmp::Ordering;

/// Folded entries, one a line, in byte order. `scripts/common-passwords.py` generates them.
pub(super) const ENTRIES: &str = include_str!("common.txt");

/// Whether the list contains this entry. A binary search of about 20 steps.
pub(super) fn has(entry: &str) -> bool {
    let entry = entry.as_bytes();
    let mut rest = ENTRIES.as_bytes();
    while !rest.is_empty() {
        let (before, after) = rest.split_at(rest.len() / 2);
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let end = after
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(after.len());
        let end = before.len() + end;
        let line = rest.get(start..end).unwrap_or_default();
        rest = match line.cmp(entry) {
            Ordering::Equal => return true,
            Ordering::Less => rest.get(end + 1..).unwrap_or_default(),
            Ordering::Greater => rest.get(..start).unwrap_or_default(),
        };
    }
    false
}
