//! Pieces of a snapshot's scan.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::fhir::ResourceType;

/// An independent, ordered piece of a snapshot's scan.
///
/// # Example
/// ```
/// use fhir_export::fhir::ResourceType;
/// use fhir_export::source::Range;
///
/// #[derive(Debug, PartialEq)]
/// struct Query(&'static str);
///
/// let range = Range::new("Patient").of_type(ResourceType::r4("Patient")).carrying(Query("SELECT …"));
/// assert_eq!(range.carried(), Some(&Query("SELECT …")));
/// ```
#[derive(Clone)]
pub struct Range {
    /// A stable name: the same piece has the same name in every plan, such as a file's path.
    pub name: String,
    /// The type of the resources in it as far as the source knows; `None`: mixed or unknown.
    pub resource_type: Option<ResourceType>,
    /// About how many bytes of NDJSON it holds, for progress; `None`: unknown.
    pub size_bytes: Option<u64>,
    carried: Option<Arc<dyn Any + Send + Sync>>,
}

impl Range {
    /// A piece of mixed types and unknown size.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), resource_type: None, size_bytes: None, carried: None }
    }

    /// Declares the type of all resources in it.
    #[must_use]
    pub fn of_type(self, resource_type: impl Into<Option<ResourceType>>) -> Self {
        Self { resource_type: resource_type.into(), ..self }
    }

    /// Says about how many bytes it holds.
    #[must_use]
    pub fn of_size(self, size_bytes: impl Into<Option<u64>>) -> Self {
        Self { size_bytes: size_bytes.into(), ..self }
    }

    /// Lets it carry what its source needs to read it and only a plan knows, such as the query; nobody else looks at it.
    #[must_use]
    pub fn carrying<T: Send + Sync + 'static>(self, carried: T) -> Self {
        Self { carried: Some(Arc::new(carried)), ..self }
    }

    /// What it carries, if it is of this kind.
    #[must_use]
    pub fn carried<T: 'static>(&self) -> Option<&T> {
        self.carried.as_deref()?.downcast_ref()
    }
}

/// What ranges carry isn't compared.
impl PartialEq for Range {
    fn eq(&self, other: &Self) -> bool {
        let of = |range: &Self| (range.name.clone(), range.resource_type.clone(), range.size_bytes);
        of(self) == of(other)
    }
}

impl Eq for Range {}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range")
            .field("name", &self.name)
            .field("resource_type", &self.resource_type)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}
