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
    request_id: Option<String>,
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

impl Rights {
    /// What a caller needs who is refused for what he brought, in the words of `WWW-Authenticate`.
    #[cfg(feature = "http")]
    pub(crate) const fn challenge(&self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "auth")]
            Self::Scopes(_) | Self::NoScope => Some("Bearer error=\"insufficient_scope\""),
            _ => None,
        }
    }
}

impl Caller {
    /// A caller by what tells him from all others: an ARN, or the issuer and the client of a token.
    ///
    /// Jobs keep it: who started a job is known again by it.
    #[must_use]
    pub fn new(name: impl Into<String>, rights: Rights) -> Self {
        Self { name: name.into(), rights, request_id: None }
    }

    /// The same, whose request is one of its kind: what tells it from all others that he has sent or will send.
    ///
    /// An export that is asked for again by the same request isn't started twice. 1 to 64 letters, digits and hyphens.
    #[must_use]
    pub fn with_request_id(self, id: impl Into<String>) -> Self {
        Self { request_id: Some(id.into()), ..self }
    }

    /// What tells his request from all others, if anything does.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
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
