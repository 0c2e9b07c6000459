//! An embedder's own rule.

use std::fmt;

use crate::fhir::ResourceType;

/// Leaves resources out by a rule of the embedder's own, such as consent; they are counted as excluded (policy).
///
/// It is asked last, of resources that would be written, from several threads at once.
///
/// # Example
/// ```
/// use fhir_export::filter::{Candidate, Policy};
///
/// #[derive(Debug)]
/// struct NoNotes;
///
/// impl Policy for NoNotes {
///     fn keep(&self, candidate: &Candidate<'_>) -> bool {
///         candidate.resource_type.as_str() != "DocumentReference"
///     }
/// }
/// ```
pub trait Policy: fmt::Debug + Send + Sync {
    /// Whether the resource may leave the building.
    fn keep(&self, candidate: &Candidate<'_>) -> bool;
}

/// A resource that would be written.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Its type.
    pub resource_type: &'a ResourceType,
    /// Its id, if it has one.
    pub id: Option<&'a str>,
    /// Its bytes, a JSON object.
    pub body: &'a [u8],
}

impl fmt::Debug for Candidate<'_> {
    /// Shows type and size only: what is in the body belongs in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("resource_type", self.resource_type)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
