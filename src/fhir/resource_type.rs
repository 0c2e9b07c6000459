//! Names of resource types.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::r4_types::R4_TYPES;

/// Longest name that is taken for a resource type, in bytes.
const MAX_BYTES: usize = 64;

/// The name of a resource type: `[A-Z][A-Za-z]{1,63}`, known to R4 or not.
///
/// Because nothing else fits, a name is safe as part of an object key.
#[derive(Clone)]
pub struct ResourceType(Repr);

#[derive(Clone)]
enum Repr {
    R4(u8),
    Other(Arc<str>),
}

impl ResourceType {
    /// Takes a name of the allowed form.
    ///
    /// # Errors
    /// When `name` isn't of the form `[A-Z][A-Za-z]{1,63}`.
    pub fn new(name: &str) -> Result<Self, ResourceTypeError> {
        if let Some(known) = Self::r4(name) {
            return Ok(known);
        }
        if !is_type_name(name.as_bytes()) {
            return Err(ResourceTypeError);
        }
        Ok(Self(Repr::Other(Arc::from(name))))
    }

    /// Takes a name only if it is one of R4's 146 concrete types.
    #[must_use]
    pub fn r4(name: &str) -> Option<Self> {
        let index = R4_TYPES.binary_search(&name).ok()?;
        u8::try_from(index).ok().map(|index| Self(Repr::R4(index)))
    }

    /// All concrete types of R4, in byte order of their names.
    pub fn all_r4() -> impl Iterator<Item = Self> {
        (0u8..).zip(R4_TYPES).map(|(index, _)| Self(Repr::R4(index)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::R4(index) => R4_TYPES.get(usize::from(*index)).copied().unwrap_or_default(),
            Repr::Other(name) => name,
        }
    }

    /// Tells whether R4 defines the type.
    #[must_use]
    pub const fn is_r4(&self) -> bool {
        matches!(self.0, Repr::R4(_))
    }
}

fn is_type_name(name: &[u8]) -> bool {
    let Some((first, rest)) = name.split_first() else { return false };
    first.is_ascii_uppercase() && (2..=MAX_BYTES).contains(&name.len()) && rest.iter().all(u8::is_ascii_alphabetic)
}

impl PartialEq for ResourceType {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::R4(a), Repr::R4(b)) => a == b,
            (Repr::Other(a), Repr::Other(b)) => a == b,
            (Repr::R4(_), Repr::Other(_)) | (Repr::Other(_), Repr::R4(_)) => false,
        }
    }
}

impl Eq for ResourceType {}

impl Hash for ResourceType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for ResourceType {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for ResourceType {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that can't be a resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceTypeError;

impl fmt::Display for ResourceTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource type is one upper-case letter and 1 to 63 more letters")
    }
}

impl std::error::Error for ResourceTypeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_146_types_of_r4_are_known_and_sorted() {
        assert!(R4_TYPES.is_sorted());
        assert_eq!(ResourceType::all_r4().count(), 146);
        for resource_type in ResourceType::all_r4() {
            assert_eq!(ResourceType::new(resource_type.as_str()), Ok(resource_type));
        }
    }

    #[test]
    fn an_unknown_name_of_the_right_form_is_a_type_all_the_same() {
        let own = ResourceType::new("HospitalThing").unwrap();
        assert!(!own.is_r4());
        assert_eq!(own.as_str(), "HospitalThing");
    }

    #[test]
    fn names_that_could_leave_the_job_folder_are_refused() {
        let long = "A".repeat(65);
        for bad in ["", "A", "patient", "Pa/tient", "../Patient", "Patient ", "Pätient", "P1", &long] {
            assert_eq!(ResourceType::new(bad), Err(ResourceTypeError), "{bad:?}");
        }
        assert!(ResourceType::new(&"A".repeat(64)).is_ok());
    }
}
