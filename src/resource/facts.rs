//! What the scan learns of one resource.

use std::borrow::Cow;

use super::scan::bears;
use crate::fhir::Labels;

/// What the scan learned of one resource, besides its references.
///
/// Texts are borrowed from the line unless they were written with escapes. Of duplicate keys the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts<'l> {
    /// The resource's type: `[A-Z][A-Za-z]{1,63}`, known to R4 or not.
    pub resource_type: Cow<'l, str>,
    /// The `id`, if there is one and it is a string.
    pub id: Option<Cow<'l, str>>,
    /// `meta.lastUpdated`.
    pub last_updated: LastUpdated<'l>,
    /// The line from the value of `meta` on; empty if there is none. It is gone through again only if labels are asked for.
    pub(super) meta: &'l str,
    /// Whether the line had to be gone through byte by byte, or twice: because a name or its type is written with
    /// escapes, a member that counts comes twice, it is nested deeper than 62 levels, or its type comes after very many
    /// other members. The facts are the same; it only took longer.
    pub slow: bool,
}

impl Facts<'_> {
    /// Whether `meta.security` and `meta.tag` hold a coding for each of the labels. A `meta`, list or coding that isn't
    /// of the form that FHIR gives it holds none.
    #[must_use]
    pub fn bears(&self, labels: &Labels) -> bool {
        bears(self.meta, labels)
    }
}

/// `meta.lastUpdated` as the resource has it, not parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LastUpdated<'l> {
    /// There is no `meta`, or no `lastUpdated` in it.
    #[default]
    Missing,
    /// A string, an instant or not.
    Text(Cow<'l, str>),
    /// `meta` isn't an object, or `lastUpdated` isn't a string: malformed if a time filter is set.
    NotText,
}

impl LastUpdated<'_> {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Missing | Self::NotText => None,
        }
    }
}
