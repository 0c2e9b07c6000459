//! The keys of conditions, and what a request has for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fhir::Instant;

/// What is known of a request, for the conditions of policies. A key without a value isn't in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// `aws:SourceIp`. An IPv4 address within IPv6 is taken for itself.
    pub source_ip: Option<IpAddr>,
    /// `aws:SecureTransport`.
    pub secure_transport: Option<bool>,
    /// `aws:CurrentTime` and `aws:EpochTime`.
    pub now: Option<Instant>,
    /// `aws:PrincipalArn`.
    pub principal_arn: Option<String>,
    /// `aws:PrincipalAccount`.
    pub principal_account: Option<String>,
    /// `aws:userid`.
    pub user_id: Option<String>,
    /// `aws:username`.
    pub user_name: Option<String>,
    /// `aws:UserAgent`.
    pub user_agent: Option<String>,
    /// `aws:RequestedRegion`.
    pub requested_region: Option<String>,
    /// `aws:MultiFactorAuthPresent`.
    pub multi_factor_auth_present: Option<bool>,
    /// `iam:PassedToService`.
    pub passed_to_service: Option<String>,
    /// `iam:AssociatedResourceArn`.
    pub associated_resource_arn: Option<String>,
    /// `aws:ResourceTag/…`, by what follows the slash. Names are found in any case.
    pub resource_tags: BTreeMap<String, String>,
    /// `aws:PrincipalTag/…`, by what follows the slash. Names are found in any case.
    pub principal_tags: BTreeMap<String, String>,
}

/// A key that conditions may ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    SourceIp,
    SecureTransport,
    CurrentTime,
    EpochTime,
    PrincipalArn,
    PrincipalAccount,
    UserId,
    UserName,
    UserAgent,
    RequestedRegion,
    MultiFactorAuthPresent,
    PassedToService,
    AssociatedResourceArn,
    ResourceTag(String),
    PrincipalTag(String),
}

/// What the values of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Arn,
    Flag,
    Address,
    Time,
}

/// A value that a request has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Flag(bool),
    Address(IpAddr),
    Time(&'a Instant),
}

impl Key {
    /// The key of a name in any case; `None` if it isn't known.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let tag = |prefix| name.strip_prefix(prefix).filter(|tag| !tag.is_empty()).map(str::to_owned);
        Some(match name.as_str() {
            "aws:sourceip" => Self::SourceIp,
            "aws:securetransport" => Self::SecureTransport,
            "aws:currenttime" => Self::CurrentTime,
            "aws:epochtime" => Self::EpochTime,
            "aws:principalarn" => Self::PrincipalArn,
            "aws:principalaccount" => Self::PrincipalAccount,
            "aws:userid" => Self::UserId,
            "aws:username" => Self::UserName,
            "aws:useragent" => Self::UserAgent,
            "aws:requestedregion" => Self::RequestedRegion,
            "aws:multifactorauthpresent" => Self::MultiFactorAuthPresent,
            "iam:passedtoservice" => Self::PassedToService,
            "iam:associatedresourcearn" => Self::AssociatedResourceArn,
            _ => tag("aws:resourcetag/")
                .map(Self::ResourceTag)
                .or_else(|| tag("aws:principaltag/").map(Self::PrincipalTag))?,
        })
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::PrincipalAccount
            | Self::UserId
            | Self::UserName
            | Self::UserAgent
            | Self::RequestedRegion
            | Self::PassedToService
            | Self::ResourceTag(_)
            | Self::PrincipalTag(_) => Kind::Text,
            Self::PrincipalArn | Self::AssociatedResourceArn => Kind::Arn,
            Self::SecureTransport | Self::MultiFactorAuthPresent => Kind::Flag,
            Self::SourceIp => Kind::Address,
            Self::CurrentTime | Self::EpochTime => Kind::Time,
        }
    }

    /// What a request has for the key.
    pub(super) fn value<'a>(&self, context: &'a Context) -> Option<Value<'a>> {
        match self {
            Self::SourceIp => context.source_ip.map(Value::Address),
            Self::SecureTransport => context.secure_transport.map(Value::Flag),
            Self::MultiFactorAuthPresent => context.multi_factor_auth_present.map(Value::Flag),
            Self::CurrentTime | Self::EpochTime => context.now.as_ref().map(Value::Time),
            _ => self.text(context).map(Value::Text),
        }
    }

    /// What a request has for a key of kind text or ARN.
    pub(super) fn text<'a>(&self, context: &'a Context) -> Option<&'a str> {
        match self {
            Self::PrincipalArn => context.principal_arn.as_deref(),
            Self::PrincipalAccount => context.principal_account.as_deref(),
            Self::UserId => context.user_id.as_deref(),
            Self::UserName => context.user_name.as_deref(),
            Self::UserAgent => context.user_agent.as_deref(),
            Self::RequestedRegion => context.requested_region.as_deref(),
            Self::PassedToService => context.passed_to_service.as_deref(),
            Self::AssociatedResourceArn => context.associated_resource_arn.as_deref(),
            Self::ResourceTag(name) => tag(&context.resource_tags, name),
            Self::PrincipalTag(name) => tag(&context.principal_tags, name),
            Self::SourceIp
            | Self::SecureTransport
            | Self::CurrentTime
            | Self::EpochTime
            | Self::MultiFactorAuthPresent => None,
        }
    }
}

fn tag<'a>(tags: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    tags.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
