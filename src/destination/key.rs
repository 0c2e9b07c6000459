//! Keys of objects, relative to the destination's prefix.

use std::fmt;

/// The key of an object below the destination's prefix: segments joined by `/`, none of them empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Takes a key; `None` if a segment is empty, `.` or `..`, or holds a control character or a backslash.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Option<Self> {
        let key = key.into();
        let safe = |segment: &str| {
            !matches!(segment, "" | "." | "..") && !segment.chars().any(|c| c.is_control() || c == '\\')
        };
        key.split('/').all(safe).then_some(Self(key))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_inside_its_prefix() {
        assert!(ObjectKey::new("ds-FHIR_EXPORT-1/Patient/Patient-1-0-0.ndjson").is_some());
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\\b", "a\nb"] {
            assert!(ObjectKey::new(bad).is_none(), "{bad:?}");
        }
    }
}
