//! The labelled phone numbers: inputs with the answer of Google's libphonenumber, which this service must
//! give too.
//!
//! `tests/data/phone_numbers.tsv` has a header and seven columns: category (how the input was made), input,
//! region, E.164 form, line type, region code (`-` in these three when the number may not be taken), and
//! whether the E.164 form is read as itself again (`stable`) or there is none or it is not (`folds`). All
//! inputs lie inside the door.

use phone_identity::domain::phone::Region;

/// One labelled input.
pub(crate) struct Row {
    pub(crate) category: &'static str,
    pub(crate) input: &'static str,
    /// The region column: a region code, nothing, or `ZZ`, which also means no region.
    pub(crate) region: &'static str,
    /// The result of libphonenumber for a registration.
    pub(crate) taken: Option<Taken>,
    /// Whether the input has an E.164 form that is parsed as itself.
    pub(crate) stable: bool,
}

/// The type of a valid number.
#[derive(Debug, PartialEq)]
pub(crate) struct Taken {
    pub(crate) e164: String,
    /// `snake_case`, as the rest of the project writes it.
    pub(crate) line_type: String,
    pub(crate) region_code: String,
}

impl Row {
    /// The default region to read the input with.
    pub(crate) fn default_region(&self) -> Option<Region> {
        match self.region {
            "" | "ZZ" => None,
            code => Some(
                code.parse()
                    .expect("the file names regions of libphonenumber only"),
            ),
        }
    }
}

/// All rows of the file.
pub(crate) fn rows() -> Vec<Row> {
    include_str!("../data/phone_numbers.tsv")
        .lines()
        .skip(1)
        .map(row)
        .collect()
}

fn row(line: &'static str) -> Row {
    let columns: Vec<&str> = line.split('\t').collect();
    let [category, input, region, e164, line_type, region_code, again] = columns[..] else {
        panic!("seven columns expected: {line:?}");
    };
    let taken = (e164 != "-").then(|| Taken {
        e164: e164.to_owned(),
        line_type: line_type.to_lowercase(),
        region_code: region_code.to_owned(),
    });
    Row {
        category,
        input,
        region,
        taken,
        stable: again == "stable",
    }
}
