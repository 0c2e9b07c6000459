//! What a token says, once it has been checked.

use std::fmt;

use serde::Deserialize;

use super::json::{Moment, Texts, Yes};
use super::scopes::{NoExportScope, Readable};

/// A claim that an operator may demand besides `iss`, `aud`, `exp`, `scope` and a name of the caller, which every token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequiredClaim {
    /// `nbf`: from when it is valid.
    NotBefore,
    /// `iat`: when it was issued.
    IssuedAt,
    /// `isAuthorized`, which must be true.
    IsAuthorized,
    /// `jti`: its id.
    Id,
}

impl RequiredClaim {
    /// What HealthLake demands: with those of every token, `nbf`, `exp`, `isAuthorized`, `aud` and `scope` (contract section
    /// 7.2).
    pub const HEALTHLAKE: [Self; 2] = [Self::NotBefore, Self::IsAuthorized];

    /// The name in the token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotBefore => "nbf",
            Self::IssuedAt => "iat",
            Self::IsAuthorized => "isAuthorized",
            Self::Id => "jti",
        }
    }
}

/// The members of a token's second part that are read.
#[derive(Debug, Deserialize)]
pub(super) struct RawClaims {
    pub(super) iss: Option<String>,
    pub(super) sub: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) aud: Option<Texts>,
    pub(super) exp: Option<Moment>,
    pub(super) nbf: Option<Moment>,
    pub(super) iat: Option<Moment>,
    pub(super) jti: Option<String>,
    pub(super) scope: Option<Texts>,
    #[serde(rename = "isAuthorized")]
    pub(super) is_authorized: Option<Yes>,
}

impl RawClaims {
    pub(super) const fn has(&self, claim: RequiredClaim) -> bool {
        match claim {
            RequiredClaim::NotBefore => self.nbf.is_some(),
            RequiredClaim::IssuedAt => self.iat.is_some(),
            RequiredClaim::IsAuthorized => self.is_authorized.is_some(),
            RequiredClaim::Id => self.jti.is_some(),
        }
    }
}

/// What a token says, once it has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    pub(super) issuer: String,
    pub(super) caller: String,
    pub(super) id: Option<String>,
    pub(super) expires: i64,
    pub(super) scope: String,
}

impl Claims {
    /// Who made the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The client that the token was made for: `client_id`, or without one `sub`, which is the client's id too for a backend
    /// service. At most 255 characters, none of them a control character. It is a name among those of one issuer.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.caller
    }

    /// The id of the token, if it has one: what the issuer wrote, of any length and with any characters.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// When the token ends, in seconds since 1970.
    #[must_use]
    pub const fn expires_unix_seconds(&self) -> i64 {
        self.expires
    }

    /// The scopes, as they stand in the token.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The types that the token may export.
    ///
    /// # Errors
    /// When there is none.
    pub fn readable(&self) -> Result<Readable, NoExportScope> {
        Readable::from_scope(&self.scope)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("issuer", &self.issuer)
            .field("caller", &self.caller)
            .field("expires", &self.expires)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
