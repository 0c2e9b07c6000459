//! What a caller may do: one place to ask.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

use super::action::Action;
use super::caller::Caller;
use crate::request::{ExportRequest, TypeSelection};

/// Says what callers may do. A host brings its own, or takes [`OwnRights`](super::OwnRights).
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// Whether a caller may do something. What isn't certain is to be denied.
    ///
    /// Who starts an export is asked for twice: without the request before it is read, and with it.
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    async fn decide(&self, question: &Question<'_>) -> Decision;
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// What.
    pub action: Action,
    /// The ARN of the data store or role it is done to, `*` for what is done to none.
    pub resource: &'a str,
    /// The export that he starts, once it is read.
    pub request: Option<&'a ExportRequest>,
    /// Where he calls from, if the host says so.
    pub source_ip: Option<IpAddr>,
    /// Whether the request came by TLS.
    pub is_tls: bool,
    /// What his program calls itself.
    pub user_agent: Option<&'a str>,
    /// The Region of the data store.
    pub region: &'a str,
}

/// An answer.
#[derive(Clone, Debug)]
#[must_use]
pub enum Decision {
    /// He may, as far as the grant goes.
    Allow(Grant),
    /// He may not.
    Deny(Denial),
}

/// How far an allowance goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Types that may be exported.
    pub types: TypeSelection,
    /// Whose jobs may be seen, cancelled and downloaded.
    pub jobs: JobsOf,
}

/// Whose jobs somebody may see, cancel and download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobsOf {
    /// His own. Those of others aren't there for him.
    Caller,
    /// Everybody's: he has the right on the data store.
    Everybody,
}

/// A denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why, for the log.
    pub reason: String,
    /// What the caller may read.
    pub message: String,
}

impl Denial {
    /// A denial in the usual words.
    #[must_use]
    pub fn of(action: Action, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: format!("the caller isn't allowed to perform {action}") }
    }
}
