//! The report: a table of ratios with their limits.

use std::fmt;
use std::time::Duration;

use crate::driver::NEVER;

/// Says what is being done, and what was measured.
pub(crate) fn say(words: &str) {
    eprintln!("==> {words}");
}

/// The limit of a value.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At least this to hold, and what to reach for.
    AtLeast(f64, f64),
    /// At most this to hold, and what to reach for.
    AtMost(f64, f64),
}

impl Bar {
    fn verdict(self, value: f64) -> &'static str {
        let (holds, reaches) = match self {
            Self::AtLeast(bar, reach) => (value >= bar, value >= reach),
            Self::AtMost(bar, reach) => (value <= bar, value <= reach),
        };
        match (holds, reaches) {
            (_, true) => "holds, and reaches",
            (true, false) => "holds",
            (false, false) => "DOES NOT HOLD",
        }
    }
}

/// The unit of a value.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Ratio,
    Bytes,
    Mib,
    Milliseconds,
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Self::Ratio if value >= 10.0 => format!("{value:.1}"),
            Self::Ratio => format!("{value:.3}"),
            Self::Bytes => format!("{value:.0} B"),
            Self::Mib => format!("{value:.1} MiB"),
            Self::Milliseconds => format!("{value:.1} ms"),
        }
    }

    fn format_bar(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value}"),
            Self::Bytes => format!("{value} B"),
            Self::Mib => format!("{value} MiB"),
            Self::Milliseconds => format!("{value} ms"),
        }
    }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    /// The medians, in words.
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(crate) bar: Bar,
    /// The report shows it without a limit.
    pub(crate) is_information: bool,
    pub(crate) notes: Vec<String>,
}

enum Entry {
    Measured(Row),
    NotRun { name: String, why: String },
    Failed { name: String, why: String },
}

/// All rows, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    entries: Vec<Entry>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        say(&format!("{}: {}", row.name, row.unit.format(row.value)));
        self.entries.push(Entry::Measured(row));
    }

    pub(crate) fn not_run(&mut self, name: &str, why: impl Into<String>) {
        let (name, why) = (name.to_owned(), why.into());
        say(&format!("{name}: not run: {why}"));
        self.entries.push(Entry::NotRun { name, why });
    }

    pub(crate) fn failed(&mut self, name: &str, why: impl Into<String>) {
        let (name, why) = (name.to_owned(), why.into());
        say(&format!("{name}: FAILED: {why}"));
        self.entries.push(Entry::Failed { name, why });
    }

    /// Whether a row could not be measured properly.
    pub(crate) fn has_failed(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Failed { .. }))
    }
}

/// As Markdown, with columns that line up, so that it can be read on a terminal, too.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = vec![["Row", "A", "B", "Value", "Bar", "Reach for", "Verdict"].map(str::to_owned)];
        let mut notes = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Measured(row) => {
                    table.push(cells(row));
                    notes.extend(row.notes.iter().map(|note| (&row.name, note.clone())));
                }
                Entry::NotRun { name, why } => {
                    table.push(without_value(name, "not run"));
                    notes.push((name, format!("not run: {why}")));
                }
                Entry::Failed { name, why } => {
                    table.push(without_value(name, "FAILED"));
                    notes.push((name, format!("FAILED: {why}")));
                }
            }
        }
        let widths: [usize; 7] = std::array::from_fn(|column| {
            table
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        });
        for (number, row) in table.iter().enumerate() {
            write!(f, "|")?;
            for (cell, width) in row.iter().zip(widths) {
                write!(f, " {cell:width$} |")?;
            }
            writeln!(f)?;
            if number == 0 {
                writeln!(
                    f,
                    "|{}",
                    widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat()
                )?;
            }
        }
        writeln!(f)?;
        for (name, note) in notes {
            writeln!(f, "- `{name}`: {note}")?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let (sign, bar, reach) = match row.bar {
        Bar::AtLeast(bar, reach) => ("≥", bar, reach),
        Bar::AtMost(bar, reach) => ("≤", bar, reach),
    };
    let verdict = row.bar.verdict(row.value);
    [
        format!("`{}`", row.name),
        row.a.clone(),
        row.b.clone(),
        row.unit.format(row.value),
        format!("{sign} {}", row.unit.format_bar(bar)),
        format!("{sign} {}", row.unit.format_bar(reach)),
        if row.is_information {
            format!("({verdict})")
        } else {
            verdict.to_owned()
        },
    ]
}

fn without_value(name: &str, verdict: &str) -> [String; 7] {
    let nothing = String::new;
    [
        format!("`{name}`"),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        verdict.to_owned(),
    ]
}

/// `52,310/s`, or `143.2/s` where it is few.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 1000.0 {
        return format!("{per_second:.1}/s");
    }
    let digits = format!("{per_second:.0}");
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    format!("{thousands},{rest}/s")
}

/// `812 µs`, `43.2 ms` or `never`.
pub(crate) fn time(time: Duration) -> String {
    // A median may be between two rounds.
    if time >= NEVER / 2 {
        "never".to_owned()
    } else if time < Duration::from_millis(10) {
        format!("{:.0} µs", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}
