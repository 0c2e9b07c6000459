//! Signatures of AWS, version 4, as the server that receives them checks them.
//!
//! [`Claimed::read`] takes what a request claims from its head, and refuses what could never hold before a body is read.
//! [`Claimed::verify`] then compares the signature, in constant time, with the one that the caller's secret gives.
//! Both forms are known: the header `Authorization`, and the parameters `X-Amz-…` of a presigned URL.
//!
//! What is stricter than the rules of AWS, so that nothing which matters is left unsigned:
//! - A path with empty segments (but for one slash at the end), dot segments, escaped slashes or per cent signs,
//!   backslashes, control characters or broken escapes is refused. AWS has signers normalise some of these, and two
//!   servers seldom agree how.
//! - Every header `x-amz-…` must be signed; `host`, the date, the token and the hash of the body must be there once.
//! - `UNSIGNED-PAYLOAD` is for presigned `GET` only, where the route allows it, and then there is no body. Bodies signed
//!   in chunks (`STREAMING-…`) are refused.
//! - A time is given by `x-amz-date` only, not by `date`.
//!
//! What is more lenient: signers of the wild write the canonical path in three ways and the canonical query in two.
//! All are tried; `path` and `query` say why no request can pass for another by that.
//!
//! Source: IAM User Guide, "Create a signed AWS API request" and "Troubleshoot Signature Version 4".

mod authorization;
mod claimed;
mod credential;
mod headers;
mod key;
mod path;
mod presigned;
mod query;
mod refusal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

pub use claimed::{Claimed, Expectation, UnsignedPayload};
pub use key::Secret;
pub use refusal::Refusal;

/// The head of a request as it came.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method, in capitals as it came.
    pub method: &'a str,
    /// The path with its escapes as they came, without the query.
    pub path: &'a str,
    /// The query with its escapes as they came, without the question mark.
    pub query: Option<&'a str>,
    /// All headers in order, names in lower case. `host` is among them, with HTTP/2's `:authority` for a value if need be.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl std::fmt::Debug for Head<'_> {
    /// Headers and query hold signatures and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// The hash of a body that [`Claimed::verify`] asks for.
#[must_use]
pub fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}
