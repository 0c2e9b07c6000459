//! The one error type of the crate.
//!
//! It is opaque so that causes can be added without breaking callers: what a caller decides on is the
//! [`ErrorKind`] and [`Error::is_retryable`], what a person reads is the message, the context (object, type,
//! source position) and the chain of causes.

use std::error::Error as StdError;
use std::fmt;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller would act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request asks for something that isn't valid (HTTP 400, exit code 2).
    InvalidRequest,
    /// The configuration can't work, such as a line limit above its share of the budget.
    InvalidConfig,
    /// Something named by the caller isn't there: a folder, a bucket, a Group.
    NotFound,
    /// Something that must not exist already does, such as a job folder.
    AlreadyExists,
    /// The source, the store or the operating system refuses access.
    PermissionDenied,
    /// A Group of the cohort can't be read whole, so the scope isn't known.
    CohortUnreadable,
    /// One piece of the source can't be read (to its end); others can.
    Unreadable,
    /// The source as a whole failed.
    Source,
    /// The snapshot is gone and the source isn't, as when a connection breaks: a job reopens the source and goes on.
    SnapshotLost,
    /// The source isn't what it was when the job began, so the job can't go on exactly.
    SourceChanged,
    /// A resource couldn't be understood and the job was told to stop at the first one.
    BadResource,
    /// The object store failed or refused.
    Store,
    /// The disk of a local destination or of the spill folder is full.
    OutOfSpace,
    /// A limit of the engine was passed, such as 256 types a job.
    LimitExceeded,
    /// Too much is asked for at once: the same may be asked for again later.
    Throttled,
    /// The job was cancelled.
    Cancelled,
    /// Another holder has taken the job over: nothing may be completed, aborted or deleted here.
    Fenced,
    /// Nothing was read and nothing became durable for too long.
    Stalled,
    /// The books of the job don't balance.
    Unbalanced,
    /// A fault of this crate.
    Internal,
}

impl ErrorKind {
    /// The kind as a short lower-case phrase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid request",
            Self::InvalidConfig => "invalid configuration",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::CohortUnreadable => "cohort unreadable",
            Self::Unreadable => "unreadable",
            Self::Source => "source failed",
            Self::SnapshotLost => "snapshot lost",
            Self::SourceChanged => "source changed",
            Self::BadResource => "bad resource",
            Self::Store => "object store failed",
            Self::OutOfSpace => "out of space",
            Self::LimitExceeded => "limit exceeded",
            Self::Throttled => "too much at once",
            Self::Cancelled => "cancelled",
            Self::Fenced => "fenced",
            Self::Stalled => "stalled",
            Self::Unbalanced => "books don't balance",
            Self::Internal => "internal error",
        }
    }
}

impl ErrorKind {
    /// What is told of it to those who asked for a job and don't run the server: no place, no path, no secret.
    #[must_use]
    pub const fn public_text(self) -> &'static str {
        match self {
            Self::InvalidRequest => "the request can not be done",
            Self::InvalidConfig => "the server is not set up for this export",
            Self::NotFound => "something that the export needs is not there",
            Self::AlreadyExists => "something is in the way of the output",
            Self::PermissionDenied => "the source or the destination refuses access",
            Self::CohortUnreadable => "the Group can not be read whole",
            Self::Unreadable | Self::Source | Self::SnapshotLost => "the source failed",
            Self::SourceChanged => "the source has changed since the export began",
            Self::BadResource => "a resource could not be understood",
            Self::Store => "the destination failed or refused",
            Self::OutOfSpace => "the destination is full",
            Self::LimitExceeded => "a limit of the server was passed",
            Self::Throttled => "too much was asked for at once",
            Self::Cancelled => "the export was cancelled",
            Self::Fenced => "another server has taken the export over",
            Self::Stalled => "nothing moved for too long",
            Self::Unbalanced => "the books of the export do not balance",
            Self::Internal => "the server failed",
        }
    }

    /// Whether a job that failed for this reason may be resumed: the same job can't fail for it again by its own nature.
    #[must_use]
    pub const fn may_be_resumed(self) -> bool {
        match self {
            Self::NotFound
            | Self::PermissionDenied
            | Self::Unreadable
            | Self::Source
            | Self::SnapshotLost
            | Self::Store
            | Self::OutOfSpace
            | Self::Stalled
            | Self::Internal => true,
            Self::InvalidRequest
            | Self::InvalidConfig
            | Self::AlreadyExists
            | Self::CohortUnreadable
            | Self::BadResource
            | Self::LimitExceeded
            | Self::SourceChanged
            | Self::Throttled
            | Self::Cancelled
            | Self::Fenced
            | Self::Unbalanced => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with its kind, a message, context and cause.
///
/// `Display` is one line with the context; the alternate form `{:#}` adds the chain of causes.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    retryable: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error that a retry won't mend.
    #[cold]
    #[inline(never)]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), retryable: false, source: None }))
    }

    /// Adds a named fact, such as the object or the position in the source.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Creates the error that a cancelled wait returns.
    #[cold]
    #[inline(never)]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the job was cancelled")
    }

    /// Turns an operating system error into one that names the thing it happened to.
    #[cold]
    #[inline(never)]
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::OutOfSpace,
            _ => ErrorKind::Store,
        };
        Self::new(kind, what).caused_by(error)
    }

    /// The same error under another kind, for a caller who knows better what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without context and causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The named facts, in the order in which they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The causes in words, outermost first. Many errors repeat their cause in their own text: what was said is left out.
    fn causes(&self) -> Vec<String> {
        let mut said = vec![self.0.message.clone()];
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.iter().any(|before| before.contains(&text)) {
                said.push(text);
            }
            cause = error.source();
        }
        said.split_off(1)
    }

    /// Tells whether this is the answer of a cancelled wait.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ErrorKind::Cancelled
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut separator = " (";
        for (name, value) in &self.0.context {
            write!(f, "{separator}{name}: {value}")?;
            separator = ", ";
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if f.alternate() {
            for cause in self.causes() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind)?;
        for cause in self.causes() {
            write!(f, "\n  caused by: {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_thing_the_place_and_the_cause() {
        let error = Error::new(ErrorKind::Unreadable, "the file is truncated")
            .with("file", "Patient.ndjson")
            .with("offset", 12)
            .caused_by(std::io::Error::other("unexpected end"));
        assert_eq!(error.to_string(), "the file is truncated (file: Patient.ndjson, offset: 12)");
        assert_eq!(format!("{error:#}"), "the file is truncated (file: Patient.ndjson, offset: 12): unexpected end");
        assert_eq!(error.kind(), ErrorKind::Unreadable);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_cause_that_its_effect_has_quoted_is_not_said_again() {
        let inner = Error::new(ErrorKind::Store, "no such bucket");
        let outer = Error::new(ErrorKind::Store, "listing failed: no such bucket").caused_by(inner);
        assert_eq!(format!("{outer:#}"), "listing failed: no such bucket");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Error::io("writing out", full).kind(), ErrorKind::OutOfSpace);
    }
}
