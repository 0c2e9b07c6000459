//! Why a token isn't taken.

use std::fmt;

/// Why a token isn't taken.
///
/// `Display` is for the log. What a client may read is [`description`](Self::description).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is longer than the limit.
    TooLong,
    /// It isn't three parts in base64url with a JSON object in the first two, or a member is of the wrong kind or there twice.
    Malformed(&'static str),
    /// The header names an algorithm that isn't allowed.
    Algorithm,
    /// The header says that it is something else than an access token.
    Type,
    /// The header has something that must be understood, and isn't.
    Critical,
    /// No key has the id that the header names; without an id, there is no key of the right kind.
    UnknownKey,
    /// Several keys could be meant.
    AmbiguousKey,
    /// The key that the header names isn't for the algorithm that the header names.
    KeyKind,
    /// The signature isn't that of the key over this token.
    Signature,
    /// A claim that must be there isn't.
    MissingClaim(&'static str),
    /// Another issuer made it.
    Issuer,
    /// It is for another server.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time hasn't begun.
    NotYetValid,
    /// It was issued in the future, or after its own end.
    IssuedAt,
    /// `isAuthorized` isn't true.
    NotAuthorized,
    /// The caller's name is empty, too long, or has characters that can't be shown.
    Caller,
    /// It was used before, and may be used once only.
    Replayed,
    /// More one-time tokens are alive than are remembered.
    TooManySeen,
    /// The keys of the issuer can't be had.
    KeysUnavailable,
}

impl Refusal {
    /// The status of the answer: 401, or 503 when it isn't the token's fault.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::KeysUnavailable | Self::TooManySeen => 503,
            _ => 401,
        }
    }

    /// What the client may be told.
    ///
    /// All that is found before the signature is good has the same words: who has no token of the issuer learns nothing.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        match self {
            Self::TooLong
            | Self::Malformed(_)
            | Self::Algorithm
            | Self::Type
            | Self::Critical
            | Self::UnknownKey
            | Self::AmbiguousKey
            | Self::KeyKind
            | Self::Signature => "the token can not be verified",
            Self::MissingClaim(_) => "the token lacks a claim",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another server",
            Self::Expired => "the token has expired",
            Self::NotYetValid | Self::IssuedAt => "the token is not valid yet",
            Self::NotAuthorized => "the token does not authorize",
            Self::Caller => "the token names no caller",
            Self::Replayed => "the token was used before",
            Self::TooManySeen | Self::KeysUnavailable => "tokens can not be checked at the moment",
        }
    }

    /// The value of the header `WWW-Authenticate` (RFC 6750 section 3).
    #[must_use]
    pub fn www_authenticate(&self) -> String {
        format!("Bearer error=\"invalid_token\", error_description=\"{}\"", self.description())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is longer than the limit",
            Self::Malformed(what) => return write!(f, "the token's {what} can't be read"),
            Self::Algorithm => "the token's algorithm isn't allowed",
            Self::Type => "the token's type isn't that of an access token",
            Self::Critical => "the token's header has something that isn't understood",
            Self::UnknownKey => "no key of the issuer is the token's",
            Self::AmbiguousKey => "several keys of the issuer could be the token's",
            Self::KeyKind => "the token's key isn't for its algorithm",
            Self::Signature => "the token's signature is wrong",
            Self::MissingClaim(name) => return write!(f, "the token has no claim {name}"),
            Self::Issuer => "the token's issuer is another",
            Self::Audience => "the token's audience is another",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token isn't valid yet",
            Self::IssuedAt => "the token's iat is in the future or after its exp",
            Self::NotAuthorized => "the token's isAuthorized isn't true",
            Self::Caller => "the token's caller has no name that can be shown",
            Self::Replayed => "the token was used before",
            Self::TooManySeen => "more one-time tokens are alive than are remembered",
            Self::KeysUnavailable => "the keys of the issuer can't be had",
        })
    }
}

impl std::error::Error for Refusal {}
