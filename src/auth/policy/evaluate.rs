//! What follows from policies.

use std::fmt;

use super::context::Context;
use super::document::Policy;
use super::statement::Effect;

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The action, `healthlake:StartFHIRExportJobWithPost`.
    pub action: &'a str,
    /// The ARN of the resource.
    pub resource: &'a str,
    /// What else is known of the request.
    pub context: &'a Context,
}

/// What policies say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// A statement allows it, and none denies it.
    Allowed,
    /// A statement denies it.
    DeniedExplicitly {
        /// The policy, by its place among those asked, from 0.
        policy: usize,
        /// The statement, by its place in the policy, from 0.
        statement: usize,
        /// The statement's own name.
        sid: Option<String>,
    },
    /// No statement allows it.
    DeniedImplicitly,
}

impl Verdict {
    /// Whether the request is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

impl fmt::Display for Verdict {
    /// For the log: counts from 1, as a person does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::DeniedExplicitly { policy, statement, sid } => {
                write!(
                    f,
                    "denied by statement {} of policy {}",
                    statement.saturating_add(1),
                    policy.saturating_add(1)
                )?;
                sid.as_ref().map_or(Ok(()), |sid| write!(f, " ({sid})"))
            }
            Self::DeniedImplicitly => f.write_str("allowed by no statement"),
        }
    }
}

/// What the policies of a caller say to his request.
pub fn evaluate(policies: &[Policy], request: &Request<'_>) -> Verdict {
    let mut verdict = Verdict::DeniedImplicitly;
    for (place, policy) in policies.iter().enumerate() {
        for (number, statement) in policy.statements().iter().enumerate() {
            // One that allows is of no interest any more, once another has.
            if statement.effect == Effect::Allow && verdict.is_allowed() {
                continue;
            }
            if !statement.applies(request.action, request.resource, request.context) {
                continue;
            }
            match statement.effect {
                Effect::Allow => verdict = Verdict::Allowed,
                Effect::Deny => {
                    let sid = statement.sid.clone();
                    return Verdict::DeniedExplicitly { policy: place, statement: number, sid };
                }
            }
        }
    }
    verdict
}
