//! What is counted.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use fhir_export::resource::{Compartment, Defect, Facts, Lines, References, ScanPlan, Validation, scan, scan_portably};

use super::resources::Hospital;

/// Short lines with many members; long ones of small pieces; one long string; escapes and letters beyond ASCII.
const TYPES: [&str; 4] = ["Observation", "ExplanationOfBenefit", "DocumentReference", "Patient"];

/// Enough lines that no single one matters.
const DATA_BYTES: usize = 128 << 10;

type Scan = for<'l> fn(&'l [u8], &ScanPlan, &mut References) -> Result<Facts<'l>, Defect>;

/// Both ways through a line. What the portable one costs doesn't hang on the processor, but for the search for quotes.
const WAYS: [(&str, Scan); 2] = [("portable", scan_portably), ("vectors", scan)];

const LEVELS: [(&str, bool); 2] = [("system", false), ("patient", true)];

const VALIDATIONS: [(&str, Validation); 2] = [("full", Validation::Full), ("structure", Validation::Structure)];

/// One figure: a way through the lines of a type.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    way: (&'static str, Scan),
    validation: (&'static str, Validation),
    level: (&'static str, bool),
    resource_type: &'static str,
}

impl Row {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_level = |way, validation, level| {
            TYPES.into_iter().map(move |resource_type| Self { way, validation, level, resource_type })
        };
        let of_validation =
            move |way, validation| LEVELS.into_iter().flat_map(move |level| of_level(way, validation, level));
        WAYS.into_iter()
            .flat_map(move |way| VALIDATIONS.into_iter().flat_map(move |validation| of_validation(way, validation)))
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.way.0, self.validation.0, self.level.0, self.resource_type)
    }

    pub(crate) fn data(&self) -> Bytes {
        Hospital::one_type(self.resource_type, DATA_BYTES)
    }

    /// Goes through the data once before what is counted, so that buffers are large enough and the processor is known.
    pub(crate) fn scan(&self, data: &[u8]) -> Result<(), String> {
        let mut plan = ScanPlan::default();
        plan.validation = self.validation.1;
        plan.compartment = self.level.1.then(|| Arc::new(Compartment::r4_patient()));
        let lines: Vec<&[u8]> = Lines::new(data).map(|line| line.resource_of(data)).collect();
        let mut references = References::new();
        let scan = black_box(self.way.1);
        for line in &lines {
            scan(line, &plan, &mut references).map_err(|defect| format!("the data hold resources only: {defect}"))?;
        }
        if scan_lines(&lines, scan, &plan, &mut references) != lines.len() {
            return Err("the second pass says otherwise than the first".into());
        }
        Ok(())
    }
}

/// What is counted; callgrind finds it by its name.
#[inline(never)]
fn scan_lines(lines: &[&[u8]], scan: Scan, plan: &ScanPlan, references: &mut References) -> usize {
    lines.iter().filter(|line| black_box(scan(line, plan, references)).is_ok()).count()
}
