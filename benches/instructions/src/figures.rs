//! The recorded figures: a file beside the program's sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/figures.tsv");

/// The line that names the compiler begins so.
const COMPILER: &str = "# compiler: ";

/// What was counted for a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) bytes: usize,
    pub(crate) instructions: u64,
}

impl Counted {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn percent_over(&self, recorded: &Self) -> f64 {
        (self.instructions as f64 / recorded.instructions as f64 - 1.0) * 100.0
    }
}

/// Counts by row, and the compiler that made what was counted.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) compiler: String,
    pub(crate) rows: BTreeMap<String, Counted>,
}

impl Figures {
    pub(crate) fn new(compiler: &str) -> Self {
        Self { compiler: compiler.to_owned(), rows: BTreeMap::new() }
    }

    pub(crate) fn read() -> Result<Self, String> {
        let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let mut figures = Self::new("");
        for line in text.lines() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                compiler.clone_into(&mut figures.compiler);
            } else if !line.starts_with('#') {
                let (name, counted) = row(line).ok_or_else(|| format!("{FILE}: this is no row: {line}"))?;
                figures.rows.insert(name, counted);
            }
        }
        Ok(figures)
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let mut text =
            String::from("# Instructions of the scan; src/main.rs says how they are counted and recorded.\n");
        // Writing to a string doesn't fail.
        let _written = writeln!(text, "{COMPILER}{}", self.compiler);
        text.push_str("# way/validation/level/type\tbytes of data\tinstructions\n");
        for (name, counted) in &self.rows {
            let _written = writeln!(text, "{name}\t{}\t{}", counted.bytes, counted.instructions);
        }
        fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))
    }
}

fn row(line: &str) -> Option<(String, Counted)> {
    let mut fields = line.split('\t');
    let name = fields.next()?.to_owned();
    let counted = Counted { bytes: fields.next()?.parse().ok()?, instructions: fields.next()?.parse().ok()? };
    fields.next().is_none().then_some((name, counted))
}

/// The `1.95.0` of `rustc 1.95.0 (59807616e 2026-04-14)`.
pub(crate) fn version(compiler: &str) -> &str {
    compiler.split(' ').nth(1).unwrap_or(compiler)
}
