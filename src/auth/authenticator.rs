//! How a caller is known.

use std::fmt;

use async_trait::async_trait;

use super::caller::Caller;
use crate::fhir::Instant;

/// Knows callers by what their requests present.
#[async_trait]
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Whether the head of a request presents what this one looks at. Nothing is checked yet.
    fn is_meant(&self, presented: &Presented<'_>) -> bool;

    /// What the head alone tells, before any of the body is read; [`body`](Presented::body) is empty.
    ///
    /// Who can't become known whatever his body holds is to be refused here: else he holds a place that others need for as
    /// long as his body may take. By default the body is needed.
    ///
    /// # Errors
    /// Why the caller can't become known.
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    async fn at_head(&self, _presented: &Presented<'_>) -> Result<AtHead, Unauthenticated> {
        Ok(AtHead::NeedsBody)
    }

    /// Who calls. It is asked only where it [`is_meant`](Self::is_meant), and must refuse what it isn't sure of.
    ///
    /// # Errors
    /// Why the caller isn't known.
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Caller, Unauthenticated>;
}

/// What the head of a request tells of its caller.
#[derive(Clone, Debug)]
pub enum AtHead {
    /// Who calls: the body doesn't matter.
    Known(Caller),
    /// Nothing yet: the whole request is to be looked at by [`authenticate`](Authenticator::authenticate).
    NeedsBody,
}

/// What a request presents.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its escapes, as it came.
    pub path: &'a str,
    /// The query with its escapes, as it came.
    pub query: Option<&'a str>,
    /// All headers in order, their names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
    /// The data store that it is about; `None`: all, or one that the body names.
    pub datastore: Option<&'a str>,
    /// Now.
    pub now: &'a Instant,
}

impl fmt::Debug for Presented<'_> {
    /// Headers, query and body hold signatures, tokens and what was asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Presented<'a> {
    /// The values of a header.
    pub fn header<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.headers.iter().filter(move |(own, _)| *own == name).map(|(_, value)| *value)
    }
}

/// A caller who isn't known, and why.
#[derive(Clone, Debug)]
pub struct Unauthenticated {
    /// The name of the error with services of AWS.
    pub name: &'static str,
    /// The HTTP status: 401, 403, 400, or 503 if it can't be found out now.
    pub status: u16,
    /// What the client may read.
    pub message: String,
    /// The header `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// Why, for the log.
    pub reason: String,
}

impl Unauthenticated {
    /// A request that presents nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            name: "MissingAuthenticationTokenException",
            status: 401,
            message: "the request has neither a signature nor a token".to_owned(),
            challenge: Some("Bearer".to_owned()),
            reason: "nothing was presented".to_owned(),
        }
    }
}
