//! Why a line isn't a resource.

use std::fmt;

/// What is wrong with a line, and where. It holds nothing of the line's content, so it may be reported as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// What is wrong.
    pub kind: DefectKind,
    /// Where, in bytes from the start of what was scanned.
    pub offset: usize,
}

/// The ways in which a line fails to be a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DefectKind {
    /// The line isn't UTF-8. Looked for before anything else.
    Utf8,
    /// The first byte that isn't blank opens no JSON object.
    NotAnObject,
    /// RFC 8259 is broken, in the way that the text says.
    Grammar(&'static str),
    /// A control character stands unescaped in a string.
    ControlCharacter,
    /// Objects and arrays are nested deeper than 256 levels, the resource itself being the first.
    TooDeep,
    /// The line ends within the object.
    Truncated,
    /// Something other than blanks follows the object.
    TrailingBytes,
    /// The object has no `resourceType`, or one that isn't a string.
    NoResourceType,
    /// The `resourceType` isn't of the form `[A-Z][A-Za-z]{1,63}`.
    BadResourceType,
}

impl DefectKind {
    /// The kind as a short lower-case phrase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "not UTF-8",
            Self::NotAnObject => "not a JSON object",
            Self::Grammar(reason) => reason,
            Self::ControlCharacter => "control character in a string",
            Self::TooDeep => "nested deeper than 256 levels",
            Self::Truncated => "ends within the object",
            Self::TrailingBytes => "more bytes after the object",
            Self::NoResourceType => "no resourceType",
            Self::BadResourceType => "resourceType is not one upper-case letter and 1 to 63 more letters",
        }
    }
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grammar(reason) => write!(f, "not valid JSON: {reason}"),
            other => f.write_str(other.as_str()),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.kind, self.offset)
    }
}

impl std::error::Error for Defect {}
