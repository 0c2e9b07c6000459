//! The scan: one pass over a line that checks it and picks out its facts.

mod grammar;
mod references;
mod string;
#[cfg(test)]
mod tests;
mod walk;

use std::borrow::Cow;
use std::sync::Arc;

pub use references::References;
use walk::{Member, Paths, Walk};

use super::compartment::Compartment;
use super::defect::{Defect, DefectKind};
use super::facts::{Facts, LastUpdated};

/// What the scan of a job's lines is to pick out, besides what it always does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScanPlan {
    /// Whose references are wanted: none, when there is no compartment.
    pub compartment: Option<Arc<Compartment>>,
}

impl ScanPlan {
    /// The plan that picks out the references of a compartment.
    #[must_use]
    pub fn with_references(compartment: Arc<Compartment>) -> Self {
        Self { compartment: Some(compartment) }
    }
}

/// Checks that `line` is a resource and picks out its facts.
///
/// The whole line is checked: UTF-8, the full grammar of RFC 8259 (any number and lone surrogate escapes are taken), a
/// JSON object and nothing but blanks around it, not nested deeper than 256, with a `resourceType` of the form
/// `[A-Z][A-Za-z]{1,63}`. Only top-level members count, in any order, however their names are escaped; of
/// duplicates the last, on every level.
///
/// `references` is emptied, then gets the text of every `reference` string at the compartment's paths of this type,
/// in no promised order. A lone surrogate escape becomes U+FFFD in the text of a fact.
///
/// # Errors
/// When the line isn't a resource; `references` is empty then. Of several defects the one that is told is the first
/// of: not UTF-8, the first one of the grammar, the `resourceType`.
pub fn scan<'l>(line: &'l [u8], plan: &ScanPlan, references: &mut References) -> Result<Facts<'l>, Defect> {
    references.clear();
    let facts = facts_of(line, plan.compartment.as_deref(), references);
    if facts.is_err() {
        references.clear();
    }
    facts
}

fn facts_of<'l>(
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
    Ok(Facts {
        resource_type: resource_type(found.resource_type, line)?,
        id: text(found.id, line),
        last_updated: match found.last_updated {
            Member::Missing => LastUpdated::Missing,
            Member::NotText => LastUpdated::NotText,
            Member::Text(span) => LastUpdated::Text(span.text(line)),
        },
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
