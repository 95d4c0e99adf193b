//! The list of common passwords: a sorted text file, searched where the program has it, so that it takes no time at the
//! start and no memory beside the program's.

use std::cmp::Ordering;

/// Folded entries, one a line, in the order of their bytes. Made by `scripts/common-passwords.py`.
pub(super) const ENTRIES: &str = include_str!("common.txt");

/// Whether the list has this entry. Binary search: about 20 steps.
pub(super) fn has(entry: &str) -> bool {
    let entry = entry.as_bytes();
    let mut rest = ENTRIES.as_bytes();
    while !rest.is_empty() {
        let (before, after) = rest.split_at(rest.len() / 2);
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |place| place + 1);
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
