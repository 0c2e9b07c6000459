//! Who calls.

#[cfg(feature = "auth")]
use std::sync::Arc;

#[cfg(feature = "auth")]
use super::policy::{Context, Policy};
#[cfg(feature = "auth")]
use super::smart::Readable;

/// Somebody whom an [`Authenticator`](super::Authenticator) knows.
#[derive(Clone, Debug)]
pub struct Caller {
    name: String,
    rights: Rights,
}

/// What a caller brought that says what he may do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rights {
    /// Nothing: the authorizer knows by his name.
    ByName,
    /// The policies of his key. `principal` is what conditions learn of him.
    #[cfg(feature = "auth")]
    Policies {
        /// His policies.
        policies: Arc<[Policy]>,
        /// What conditions learn of him.
        principal: Arc<Context>,
    },
    /// The scopes of his token.
    #[cfg(feature = "auth")]
    Scopes(Readable),
    /// A token without any scope that lets him export.
    #[cfg(feature = "auth")]
    NoScope,
}

impl Caller {
    /// A caller by what tells him from all others: an ARN, or the issuer and the client of a token.
    ///
    /// Jobs keep it: who started a job is known again by it.
    #[must_use]
    pub fn new(name: impl Into<String>, rights: Rights) -> Self {
        Self { name: name.into(), rights }
    }

    /// What tells him from all others.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What says what he may do.
    #[must_use]
    pub const fn rights(&self) -> &Rights {
        &self.rights
    }
}
