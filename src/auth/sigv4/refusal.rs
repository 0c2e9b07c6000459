//! Why a signature is refused.

use std::fmt;

/// Why a request isn't taken as its caller's.
///
/// What it displays is safe for the client: it holds nothing of the request, and doesn't tell an unknown key from a wrong
/// secret.
///
/// Source: IAM User Guide, "Troubleshoot Signature Version 4"; the error names of services with the JSON protocol, as the
/// DynamoDB Developer Guide lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request isn't signed at all.
    Missing,
    /// The signature, or what it is about, isn't written as it must be.
    Incomplete(&'static str),
    /// The key may not be used here: another day, Region or service.
    OutOfScope(&'static str),
    /// The signature was made too long ago.
    Expired,
    /// The signature was made in the future.
    NotYetCurrent,
    /// The body isn't the one that was signed, or isn't signed and must be.
    Payload(&'static str),
    /// Another request or another secret was signed with, or nobody has the key.
    Mismatch,
    /// The session of the credentials is over. For the caller of [`Claimed::verify`], after it succeeded.
    ///
    /// [`Claimed::verify`]: super::Claimed::verify
    TokenExpired,
}

impl Refusal {
    /// The error's name in services of AWS.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::OutOfScope(_) | Self::Expired | Self::NotYetCurrent | Self::Payload(_) | Self::Mismatch => {
                "InvalidSignatureException"
            }
            Self::TokenExpired => "ExpiredTokenException",
        }
    }

    /// The status of a REST answer: 400 for what no signature can be, 403 for the others.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Incomplete(_) => 400,
            _ => 403,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Missing Authentication Token",
            Self::Incomplete(message) | Self::OutOfScope(message) | Self::Payload(message) => message,
            Self::Expired => "Signature expired: the request was signed too long ago",
            Self::NotYetCurrent => "Signature not yet current: the request was signed in the future",
            Self::Mismatch => {
                "The request signature we calculated does not match the signature you provided. Check your AWS access key \
                 and signing method"
            }
            Self::TokenExpired => "The security token included in the request is expired",
        })
    }
}

impl std::error::Error for Refusal {}
