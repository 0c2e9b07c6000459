//! From object_store's errors to ours.

use object_store::Error as StoreError;

use super::retry::RetryCause;
use crate::error::{Error, ErrorKind};

/// What a failed call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: ErrorKind,
    /// Set if the call may be repeated.
    pub(super) cause: Option<RetryCause>,
    pub(super) reason: String,
}

impl Verdict {
    pub(super) fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, cause: None, reason: reason.into() }
    }

    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn passing(cause: RetryCause, reason: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Store, cause: Some(cause), reason: reason.into() }
    }
}

/// Makes the error of a call that `what` says couldn't be done to the thing at `url`.
#[cold]
#[inline(never)]
pub(super) fn store_error(what: &str, url: impl std::fmt::Display, error: StoreError) -> Error {
    let verdict = judge(&error);
    let ours = Error::new(verdict.kind, format!("{what}: {}", verdict.reason)).with("object", url);
    match verdict.cause {
        Some(cause) => cause.mark_from(ours, error),
        None => ours.caused_by(error),
    }
}

/// Makes the error of an upload that can't be begun: whatever the store says isn't there, it can only be the bucket.
#[cold]
#[inline(never)]
pub(super) fn begin_error(url: impl std::fmt::Display, error: StoreError) -> Error {
    const WHAT: &str = "the upload can't be begun";
    if !is_not_found(&error) {
        return store_error(WHAT, url, error);
    }
    Error::new(ErrorKind::NotFound, format!("{WHAT}: the bucket isn't there")).with("object", url).caused_by(error)
}

/// Whether the error says that there is no such thing.
pub(super) fn is_not_found(error: &StoreError) -> bool {
    judge(error).kind == ErrorKind::NotFound
}

fn judge(error: &StoreError) -> Verdict {
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    if let Some(verdict) = super::answer::judge(error) {
        return verdict;
    }
    match error {
        StoreError::NotFound { .. } => Verdict::new(ErrorKind::NotFound, "there is no such object"),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            Verdict::new(ErrorKind::AlreadyExists, "the object is already there")
        }
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            Verdict::new(ErrorKind::PermissionDenied, "the store refuses access")
        }
        StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => {
            Verdict::new(ErrorKind::Store, "the store can't do this")
        }
        _ => Verdict::new(ErrorKind::Store, "the store failed"),
    }
}
