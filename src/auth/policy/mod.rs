//! Policies of IAM: what they say, and what follows from it.
//!
//! [`Policy::parse`] reads an identity policy, [`evaluate()`] decides a [`Request`] by several of them. An explicit `Deny`
//! always wins, nothing is allowed that no statement allows, and order never matters.
//!
//! A statement applies if its action, its resource and its conditions match. What isn't understood fails closed:
//!
//! | in the statement | an `Allow` | a `Deny` with that action |
//! | --- | --- | --- |
//! | an operator that isn't listed below, also with `ForAllValues:` or `ForAnyValue:` before it | never applies | applies, if its resource matches |
//! | a condition key that isn't listed below | never applies | applies, if its resource matches |
//! | an operator that isn't for keys of that kind, or a value that isn't one of that kind | never applies | applies, if its resource matches |
//! | a policy variable that isn't a listed key of kind text or ARN | never applies | applies, whatever its resource if the variable is there |
//! | a variable that the request has no value for, and no default | doesn't match by that value | matches by that value |
//!
//! | operators, also with `IfExists` | keys of kind | negated |
//! | --- | --- | --- |
//! | `StringEquals`, `StringEqualsIgnoreCase`, `StringLike` | text, ARN | `StringNotEquals`, `StringNotEqualsIgnoreCase`, `StringNotLike` |
//! | `ArnEquals`, `ArnLike`, which are the same | ARN | `ArnNotEquals`, `ArnNotLike` |
//! | `Bool` | flag | |
//! | `IpAddress` | address | `NotIpAddress` |
//! | `DateEquals`, `DateLessThan`, `DateLessThanEquals`, `DateGreaterThan`, `DateGreaterThanEquals` | time | `DateNotEquals` |
//! | `Null`, not with `IfExists` | all | |
//!
//! Values of one key are alternatives, and for a negated operator none may match. Keys, and operators, must all hold. A key
//! that the request doesn't have matches no operator, but every negated one and every one with `IfExists`.
//!
//! | kind | keys, in any case |
//! | --- | --- |
//! | text | `aws:PrincipalAccount`, `aws:userid`, `aws:username`, `aws:UserAgent`, `aws:RequestedRegion`, `aws:ResourceTag/…`, `aws:PrincipalTag/…`, `iam:PassedToService` |
//! | ARN | `aws:PrincipalArn`, `iam:AssociatedResourceArn` |
//! | flag | `aws:SecureTransport`, `aws:MultiFactorAuthPresent` |
//! | address | `aws:SourceIp` |
//! | time | `aws:CurrentTime`, `aws:EpochTime` |
//!
//! In a resource, `*` stays within its part of the ARN, unless it is the part's last character; `?` always does. A resource
//! that matches only if they reach further is taken for a match by a `Deny`, and for none by an `Allow`.
//!
//! Sources: IAM User Guide, "Grammar of the IAM JSON policy language", "IAM JSON policy elements", "Policy evaluation
//! logic"; Service Authorization Reference, "AWS HealthLake".

mod condition;
mod context;
mod document;
mod evaluate;
mod json;
mod network;
mod pattern;
mod statement;
mod template;
#[cfg(test)]
mod tests;

pub use context::Context;
pub use document::Policy;
pub use evaluate::{Request, Verdict, evaluate};

/// What a part of a statement says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    No,
    /// It can't be told: an `Allow` takes it for no, a `Deny` for yes.
    Unknown,
    Yes,
}

impl Answer {
    const fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }

    /// Whether one of the answers is yes.
    fn any(answers: impl Iterator<Item = Self>) -> Self {
        answers.max().unwrap_or(Self::No)
    }

    /// Whether all answers are yes.
    fn all(answers: impl Iterator<Item = Self>) -> Self {
        answers.min().unwrap_or(Self::Yes)
    }
}
