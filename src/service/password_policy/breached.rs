//! Breached-password index: interpolation search in the Have I Been Pwned download of SHA-1 hashes, ordered by hash.
//!
//! The file has about 40 GB, so none of it stays in memory. The hashes are evenly distributed: interpolation finds a
//! line with a few reads of one block. The reads run on the blocking threads of the runtime, with a limit on their
//! number.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use crate::domain::password::Password;

/// Bytes of one read: about 90 lines, and more than twice the longest line.
const BLOCK: u64 = 4096;

/// Maximum number of blocks that one search reads. Bisection alone needs 24 for 40 GB.
const MAX_READS: u32 = 96;

/// Every third read bisects, so that unevenly distributed hashes take at most three times as many reads as bisection.
const BISECT_EVERY: u32 = 3;

/// Number of blocks across the file that the start reads to check its form and order.
const PROBES: u64 = 64;

/// Maximum number of concurrent searches. Further searches wait.
const CONCURRENT_SEARCHES: usize = 8;

/// Hexadecimal digits of a SHA-1 hash.
const HASH_LENGTH: usize = 40;

/// Reason for which the file of breached passwords cannot be searched.
#[derive(Debug, Error)]
pub enum BreachedFileError {
    /// The file cannot be opened or read.
    #[error("the file of --breached-passwords-file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The file is empty or is not a regular file.
    #[error("the file of --breached-passwords-file is empty or is not a file")]
    Empty,
    /// The file is not the download ordered by hash.
    #[error(
        "the file of --breached-passwords-file does not have lines HASH:COUNT with SHA-1 hashes in ascending order: \
         byte {0}"
    )]
    Form(u64),
    /// The reading task failed.
    #[error("the search for a breached password failed: {0}")]
    Task(#[from] JoinError),
}

/// The hashes of breached passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BreachedPasswords {
    index: Arc<Index>,
    searches: Arc<Semaphore>,
}

impl BreachedPasswords {
    /// Opens the download and checks its form in [`PROBES`] blocks. Blocks the thread.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or has another form.
    pub(super) fn open(path: &Path) -> Result<Self, BreachedFileError> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let index = Index {
            file,
            length: metadata.len(),
        };
        if !metadata.is_file() || index.length == 0 {
            return Err(BreachedFileError::Empty);
        }
        index.probe()?;
        Ok(Self {
            index: Arc::new(index),
            searches: Arc::new(Semaphore::new(CONCURRENT_SEARCHES)),
        })
    }

    /// Returns whether the password is breached: whether the file has the SHA-1 hash of its normalised bytes.
    ///
    /// # Errors
    /// The file can no longer be read, or has another form.
    pub(super) async fn has(&self, password: &Password) -> Result<bool, BreachedFileError> {
        let hash = hash_of(password.expose_bytes());
        // The semaphore is never closed. The search owns the permit, since it continues if the caller goes away.
        let permit = self.searches.clone().acquire_owned().await.ok();
        let index = self.index.clone();
        let search = spawn_blocking(move || {
            let found = index.has(&hash);
            drop(permit);
            found
        });
        search.await?
    }
}

/// Returns the hash in the form of the file.
fn hash_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(HASH_LENGTH);
    for byte in Sha1::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[derive(Debug)]
struct Index {
    file: File,
    length: u64,
}

/// A line: its start, its end after the line feed, and its hash.
struct Line {
    start: u64,
    end: u64,
    hash: String,
}

/// The remaining part of the file in whole lines, and the neighbouring hashes as numbers.
#[derive(Clone, Copy)]
struct Rest {
    start: u64,
    end: u64,
    above: u64,
    below: u64,
}

impl Index {
    fn has(&self, hash: &str) -> Result<bool, BreachedFileError> {
        let wanted = number(hash);
        let mut rest = Rest {
            start: 0,
            end: self.length,
            above: 0,
            below: u64::MAX,
        };
        for read in 1..=MAX_READS {
            if rest.start >= rest.end {
                return Ok(false);
            }
            let middle = if read % BISECT_EVERY == 0 {
                rest.start + (rest.end - rest.start) / 2
            } else {
                rest.position_of(wanted)
            };
            let lines = self.lines_around(middle, rest.start, rest.end)?;
            let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
                return Err(BreachedFileError::Form(middle));
            };
            if hash < first.hash.as_str() {
                rest.end = first.start;
                rest.below = number(&first.hash);
            } else if hash > last.hash.as_str() {
                rest.start = last.end;
                rest.above = number(&last.hash);
            } else {
                return Ok(lines.iter().any(|line| line.hash == hash));
            }
        }
        // Only a file that is out of order needs so many reads.
        Err(BreachedFileError::Form(rest.start))
    }

    /// Returns the whole lines of a block around `middle`, which lies between the starts of two lines. The result is
    /// not empty if the lines have the right form.
    fn lines_around(&self, middle: u64, start: u64, end: u64) -> Result<Vec<Line>, BreachedFileError> {
        let from = middle.saturating_sub(BLOCK / 2).max(start);
        let to = from.saturating_add(BLOCK).min(end);
        let mut block = vec![0; usize::try_from(to - from).unwrap_or_default()];
        self.file.read_exact_at(&mut block, from)?;
        let mut lines = Vec::new();
        let mut position = from;
        for (number, text) in block.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let begins = position;
            position += u64::try_from(text.len()).unwrap_or_default();
            let is_cut_off =
                (number == 0 && begins != start) || (!text.ends_with(b"\n") && position != self.length);
            if is_cut_off {
                continue;
            }
            lines.push(Line {
                start: begins,
                end: position,
                hash: hash_in(text).ok_or(BreachedFileError::Form(begins))?,
            });
        }
        Ok(lines)
    }

    /// Checks lines across the whole file.
    fn probe(&self) -> Result<(), BreachedFileError> {
        let mut last: Option<Line> = None;
        for probe in 0..=PROBES {
            let middle = u64::try_from(u128::from(self.length) * u128::from(probe) / u128::from(PROBES));
            let middle = middle.unwrap_or(self.length);
            let lines = self.lines_around(middle.min(self.length.saturating_sub(1)), 0, self.length)?;
            if lines.is_empty() {
                return Err(BreachedFileError::Form(middle));
            }
            for line in lines {
                let is_ordered = last
                    .as_ref()
                    .is_none_or(|last| line.start <= last.start || line.hash > last.hash);
                if !is_ordered {
                    return Err(BreachedFileError::Form(line.start));
                }
                if last.as_ref().is_none_or(|last| line.start > last.start) {
                    last = Some(line);
                }
            }
        }
        Ok(())
    }
}

impl Rest {
    /// Returns the position of a hash if the hashes are evenly distributed.
    fn position_of(&self, wanted: u64) -> u64 {
        let span = u128::from(self.below.saturating_sub(self.above)).max(1);
        let offset = u128::from(wanted.saturating_sub(self.above)).min(span);
        let length = u128::from(self.end - self.start);
        let position = u64::try_from(length * offset / span).unwrap_or_default();
        (self.start + position).min(self.end - 1)
    }
}

/// Returns the hash of a line `HASH:COUNT` in upper case.
fn hash_in(line: &[u8]) -> Option<String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (hash, count) = line.split_at_checked(HASH_LENGTH)?;
    let digits = count.strip_prefix(b":")?;
    let is_count = !digits.is_empty() && digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit);
    let is_hash = hash.iter().all(u8::is_ascii_hexdigit);
    (is_hash && is_count).then(|| String::from_utf8_lossy(hash).to_ascii_uppercase())
}

/// The first 64 bits of a hash.
fn number(hash: &str) -> u64 {
    let first = hash.get(..16).unwrap_or_default();
    u64::from_str_radix(first, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;

    fn file(text: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn password(number: usize) -> String {
        format!("synthetic password {number}")
    }

    /// Returns the sorted hashes of `count` passwords, and lines of several lengths in the same order.
    fn synthetic(count: usize, ending: &str) -> (Vec<String>, String) {
        let mut hashes: Vec<String> = (0..count)
            .map(|number| hash_of(password(number).as_bytes()))
            .collect();
        hashes.sort();
        let lines = hashes
            .iter()
            .enumerate()
            .map(|(number, hash)| format!("{hash}:{}", 10_u64.pow(u32::try_from(number % 9).unwrap())));
        let text = lines.collect::<Vec<_>>().join(ending);
        (hashes, text)
    }

    /// The expected value is `printf password | sha1sum` of coreutils.
    #[test]
    fn a_hash_equals_that_of_sha1sum() {
        assert_eq!(hash_of(b"password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
        assert_eq!(
            number("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8"),
            0x5BAA_61E4_C9B9_3F3F
        );
    }

    #[test]
    fn every_line_is_found_and_no_other() {
        for (ending, last) in [("\n", "\n"), ("\r\n", "\r\n"), ("\n", ""), ("\r\n", "")] {
            for count in [1, 2, 80, 90, 2_000] {
                let (hashes, text) = synthetic(count, ending);
                let file = file(format!("{text}{last}").as_bytes());
                let index = BreachedPasswords::open(file.path()).unwrap().index;
                for hash in &hashes {
                    assert!(index.has(hash).unwrap(), "{hash} of {count}");
                }
                for number in count..count + 200 {
                    let absent = hash_of(password(number).as_bytes());
                    assert!(!index.has(&absent).unwrap(), "{absent} of {count}");
                }
                let (lowest, highest) = ("0".repeat(HASH_LENGTH), "F".repeat(HASH_LENGTH));
                assert!(!index.has(&lowest).unwrap() && !index.has(&highest).unwrap());
            }
        }
    }

    /// No download has such hashes. Interpolation alone would read the file block by block.
    #[test]
    fn unevenly_distributed_hashes_are_found() {
        let line = |number: u64| format!("{:040X}:1\n", u128::from(number));
        let text: String = (1..20_000).map(line).collect();
        let file = file(text.as_bytes());
        let index = BreachedPasswords::open(file.path()).unwrap().index;
        for number in [1, 2, 77, 9_999, 19_999] {
            assert!(index.has(&line(number)[..HASH_LENGTH]).unwrap(), "{number}");
        }
        assert!(!index.has(&line(20_000)[..HASH_LENGTH]).unwrap());
    }

    #[test]
    fn a_file_of_another_form_is_rejected_at_the_start() {
        let (hashes, text) = synthetic(2_000, "\n");
        let reversed: String = hashes.iter().rev().map(|hash| format!("{hash}:1\n")).collect();
        let middle = text.len() / 2;
        let damaged = format!("{}\nnot a hash\n{}", &text[..middle], &text[middle..]);
        for text in [
            "\n",
            "password\n",
            "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8\n",
            &reversed,
            &damaged,
            &hashes.join("\n"),
        ] {
            let outcome = BreachedPasswords::open(file(text.as_bytes()).path());
            assert!(matches!(outcome, Err(BreachedFileError::Form(_))), "{outcome:?}");
        }
        let empty = BreachedPasswords::open(file(b"").path());
        assert!(matches!(empty, Err(BreachedFileError::Empty)), "{empty:?}");
        let folder = tempfile::tempdir().unwrap();
        let missing = BreachedPasswords::open(&folder.path().join("missing"));
        assert!(matches!(missing, Err(BreachedFileError::Read(_))), "{missing:?}");
        let folder = BreachedPasswords::open(folder.path());
        assert!(matches!(folder, Err(BreachedFileError::Empty)), "{folder:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_truncated_later_is_an_error() {
        let (_, text) = synthetic(2_000, "\n");
        let file = file(text.as_bytes());
        let breached = BreachedPasswords::open(file.path()).unwrap();
        let found = breached.has(&Password::parse(&password(7)).unwrap()).await;
        assert!(matches!(found, Ok(true)), "{found:?}");
        file.as_file().set_len(0).unwrap();
        let cut_off = breached.has(&Password::parse(&password(7)).unwrap()).await;
        assert!(matches!(cut_off, Err(BreachedFileError::Read(_))), "{cut_off:?}");
    }
}
