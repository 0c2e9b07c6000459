//! Whether anybody is asked who he is.

use std::sync::Arc;

use serde_json::Value;

use crate::auth::{Authenticator, Authorizer};

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody, to everything: for servers that only their own machine reaches.
    #[default]
    Open,
    /// Those who are known, to what they may do.
    Guarded(Guard),
}

/// Who is known, and what they may do.
#[derive(Clone, Debug)]
pub struct Guard {
    /// What knows callers; the first that is meant by a request decides who it is. A host that has known its callers by
    /// itself puts a [`Caller`](crate::auth::Caller) into the request's extensions, and none of these is asked.
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    /// What says what they may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// What `/.well-known/smart-configuration` of each data store says: where clients have their tokens from.
    pub smart_configuration: Option<Value>,
}

impl Access {
    /// The guard, if there is one.
    pub(super) const fn guard(&self) -> Option<&Guard> {
        match self {
            Self::Open => None,
            Self::Guarded(guard) => Some(guard),
        }
    }
}
