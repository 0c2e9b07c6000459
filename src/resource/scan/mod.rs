//! The scan: one pass over a line that checks it and picks out its facts.
//!
//! There are two ways through a line. The fast one ([`blocks`]) looks at 64 bytes at a time and says yes or "odd": never
//! no. Whatever it doesn't take, broken or only rare, the slow one ([`walk`]) goes through byte by byte; it alone decides
//! what is refused, and says what is wrong and where. So a line is judged alike on every processor.

mod blocks;
mod grammar;
mod labels;
mod references;
#[expect(unsafe_code, reason = "vector instructions")]
mod simd;
mod string;
#[cfg(test)]
mod tests;
mod walk;

use std::borrow::Cow;
use std::sync::Arc;

pub(super) use labels::bears;
pub use references::References;
use walk::{Found, Member, Paths, Walk};

use super::compartment::Compartment;
use super::defect::{Defect, DefectKind};
use super::facts::{Facts, LastUpdated};

/// What the scan of a job's lines is to pick out, besides what it always does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScanPlan {
    /// Whose references are wanted: none, when there is no compartment.
    pub compartment: Option<Arc<Compartment>>,
    /// How much of a line's grammar is checked.
    pub validation: Validation,
}

/// How much of a line is checked before it passes as a resource.
///
/// Both levels check that the line is UTF-8, that its strings end and hold no control characters, that its brackets and
/// braces match, that nothing but blanks surrounds the object, and the form of its `resourceType`; both find the same
/// facts in a line that is valid. [`Structure`](Self::Structure) is faster and leaves the rest of RFC 8259 to whoever
/// reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validation {
    /// The full grammar of RFC 8259.
    #[default]
    Full,
    /// Only what is said above. What stands between strings and brackets may be anything, such as a missing comma,
    /// `nul` or `01`, and a backslash may stand before any character. Some such lines are refused all the same: those
    /// that are looked at more closely for other reasons, such as an escape in a member's name.
    Structure,
}

impl ScanPlan {
    /// The plan that picks out the references of a compartment.
    #[must_use]
    pub fn with_references(compartment: Arc<Compartment>) -> Self {
        Self { compartment: Some(compartment), ..Self::default() }
    }
}

/// Checks that `line` is a resource and picks out its facts.
///
/// The whole line is checked: UTF-8, the grammar of RFC 8259 (any number and lone surrogate escapes are taken) as far as
/// [`Validation`] asks, a JSON object and nothing but blanks around it, not nested deeper than 256, with a
/// `resourceType` of the form `[A-Z][A-Za-z]{1,63}`. Only top-level members count, in any order, however their names are escaped; of
/// duplicates the last, on every level.
///
/// `references` is emptied, then gets the text of every `reference` string at the compartment's paths of this type,
/// in no promised order. A lone surrogate escape becomes U+FFFD in the text of a fact.
///
/// # Errors
/// When the line isn't a resource; `references` is empty then. Of several defects the one that is told is the first
/// of: not UTF-8, the first one of the grammar, the `resourceType`.
pub fn scan<'l>(line: &'l [u8], plan: &ScanPlan, references: &mut References) -> Result<Facts<'l>, Defect> {
    scan_with::<true>(line, plan, references)
}

/// Scans as a processor without vector instructions does, on any: what every other is compared with.
///
/// # Errors
/// As [`scan()`].
#[cfg(any(test, feature = "testing"))]
pub fn scan_portably<'l>(line: &'l [u8], plan: &ScanPlan, references: &mut References) -> Result<Facts<'l>, Defect> {
    scan_with::<false>(line, plan, references)
}

#[inline]
fn scan_with<'l, const VECTORS: bool>(
    line: &'l [u8],
    plan: &ScanPlan,
    references: &mut References,
) -> Result<Facts<'l>, Defect> {
    references.clear();
    let facts = facts_of::<VECTORS>(line, plan, references);
    if facts.is_err() {
        references.clear();
    }
    facts
}

fn facts_of<'l, const VECTORS: bool>(
    line: &'l [u8],
    plan: &ScanPlan,
    references: &mut References,
) -> Result<Facts<'l>, Defect> {
    let compartment = plan.compartment.as_deref();
    let fast = match plan.validation {
        Validation::Full => fast_facts::<true, VECTORS>(line, compartment, references),
        Validation::Structure => fast_facts::<false, VECTORS>(line, compartment, references),
    };
    match fast {
        Fast::Facts(facts) => Ok(facts),
        Fast::Odd => {
            references.clear();
            walked_facts(line, compartment, references).map(|facts| Facts { slow: true, ..facts })
        }
        Fast::NoKernel => walked_facts(line, compartment, references),
    }
}

/// What came of the fast way.
#[derive(Debug)]
enum Fast<'l> {
    Facts(Facts<'l>),
    /// The line is broken, or written in a way that is too rare to be looked at there.
    Odd,
    /// Without vector instructions the other way is the faster one.
    NoKernel,
}

/// Goes through the line by blocks.
#[inline]
fn fast_facts<'l, const FULL: bool, const VECTORS: bool>(
    line: &'l [u8],
    compartment: Option<&Compartment>,
    references: &mut References,
) -> Fast<'l> {
    let References { texts, scratch } = references;
    let bytes = without_blanks(line);
    if bytes.first() != Some(&b'{') {
        return Fast::Odd;
    }
    let task = blocks::Line::<'_, '_, FULL> { bytes, compartment, scratch: &mut *scratch, texts: &mut *texts };
    let outcome = match if VECTORS { simd::with_vectors(task) } else { Err(task) } {
        Ok(outcome) => outcome,
        // There is no other way that checks the structure only.
        Err(task) if !FULL => simd::Task::run(task, simd::Portable),
        Err(_) => return Fast::NoKernel,
    };
    outcome
        .ok()
        .and_then(|outcome| facts_by_blocks::<VECTORS>(bytes, &outcome, compartment, references))
        .map_or(Fast::Odd, Fast::Facts)
}

/// Makes facts of what the fast way found, once the line is known to be text.
#[inline]
fn facts_by_blocks<'l, const VECTORS: bool>(
    bytes: &'l [u8],
    outcome: &blocks::Outcome,
    compartment: Option<&Compartment>,
    references: &mut References,
) -> Option<Facts<'l>> {
    let line = if VECTORS { simd::text(bytes)? } else { str::from_utf8(bytes).ok()? };
    let References { texts, scratch } = references;
    texts.push_rest(line);
    if let (Some(compartment), Some(root)) = (compartment, outcome.early) {
        Walk::run_early(line, (compartment, root), scratch, texts).ok()?;
        texts.forget_dropped();
    }
    facts(line, outcome.found, false).ok()
}

/// A line usually comes without blanks around it.
#[inline]
fn without_blanks(mut line: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = line {
        line = rest;
    }
    line
}

fn walked_facts<'l>(
    line: &'l [u8],
    compartment: Option<&Compartment>,
    references: &mut References,
) -> Result<Facts<'l>, Defect> {
    let line =
        std::str::from_utf8(line).map_err(|error| Defect { kind: DefectKind::Utf8, offset: error.valid_up_to() })?;
    let References { texts, scratch } = references;
    let paths = compartment.map_or(Paths::None, Paths::Of);
    let mut walk = Walk::new(line, paths, scratch, texts);
    let found = walk.run()?;
    let slow = walk.has_to_walk_again();
    if slow {
        let root = walk.root_of_found_type();
        texts.clear();
        if let (Some(compartment), Some(root)) = (compartment, root) {
            Walk::new(line, Paths::From(compartment, root), scratch, texts).run()?;
        }
    }
    texts.forget_dropped();
    facts(line, found, slow)
}

fn facts(line: &str, found: Found, slow: bool) -> Result<Facts<'_>, Defect> {
    Ok(Facts {
        resource_type: resource_type(found.resource_type, line)?,
        id: text(found.id, line),
        last_updated: match found.last_updated {
            Member::Missing => LastUpdated::Missing,
            Member::NotText => LastUpdated::NotText,
            Member::Text(span) => LastUpdated::Text(span.text(line)),
        },
        meta: if found.meta_at == 0 { "" } else { line.get(found.meta_at..).unwrap_or_default() },
        slow,
    })
}

fn resource_type(found: Member, line: &str) -> Result<Cow<'_, str>, Defect> {
    let Member::Text(span) = found else { return Err(Defect { kind: DefectKind::NoResourceType, offset: 0 }) };
    let name = span.text(line);
    if !is_type_name(name.as_bytes()) {
        return Err(Defect { kind: DefectKind::BadResourceType, offset: span.start });
    }
    Ok(name)
}

/// Whether this is `[A-Z][A-Za-z]{1,63}`, as [`ResourceType`](crate::fhir::ResourceType) takes it.
///
/// Asked here again because making one of a name unknown to R4 allocates.
fn is_type_name(name: &[u8]) -> bool {
    let Some((first, rest)) = name.split_first() else { return false };
    first.is_ascii_uppercase() && (1..=63).contains(&rest.len()) && rest.iter().all(u8::is_ascii_alphabetic)
}

fn text(found: Member, line: &str) -> Option<Cow<'_, str>> {
    match found {
        Member::Text(span) => Some(span.text(line)),
        Member::Missing | Member::NotText => None,
    }
}
