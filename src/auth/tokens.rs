//! Callers who present a token of SMART on FHIR.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::authenticator::{AtHead, Authenticator, Presented, Unauthenticated};
use super::caller::{Caller, Rights};
use super::smart::{TokenVerifier, bearer_token};

/// What checks the tokens of each data store. One for a data store isn't taken at another: its audience is the one's
/// endpoint.
#[derive(Debug, Default)]
pub struct BearerTokens(BTreeMap<String, TokenVerifier>);

impl BearerTokens {
    /// Takes what checks the tokens of each data store, by its id.
    pub fn new(verifiers: impl IntoIterator<Item = (String, TokenVerifier)>) -> Self {
        Self(verifiers.into_iter().collect())
    }
}

#[async_trait]
impl Authenticator for BearerTokens {
    fn is_meant(&self, presented: &Presented<'_>) -> bool {
        presented
            .header("authorization")
            .any(|value| std::str::from_utf8(value).is_ok_and(|v| bearer_token(v).is_some()))
    }

    /// A token says it all.
    async fn at_head(&self, presented: &Presented<'_>) -> Result<AtHead, Unauthenticated> {
        self.authenticate(presented).await.map(AtHead::Known)
    }

    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Caller, Unauthenticated> {
        let mut headers = presented.header("authorization");
        let (Some(header), None) = (headers.next(), headers.next()) else {
            return Err(refused(401, "a request has one header Authorization", None, "several headers Authorization"));
        };
        let Some(token) = std::str::from_utf8(header).ok().and_then(bearer_token) else {
            return Err(Unauthenticated::nobody());
        };
        let Some(verifier) = presented.datastore.and_then(|id| self.0.get(id)) else {
            let message = "tokens are taken at the endpoints of data stores only";
            return Err(refused(401, message, Some("Bearer error=\"invalid_token\"".to_owned()), message));
        };
        match verifier.verify(token, presented.now.unix_seconds()).await {
            Ok(claims) => {
                let rights = claims.readable().map_or(Rights::NoScope, Rights::Scopes);
                // Two issuers may have clients of one name.
                Ok(Caller::new(format!("{} {}", claims.issuer(), claims.caller()), rights))
            }
            Err(refusal) => {
                let reason = format!("a token: {refusal}");
                Err(refused(refusal.status(), refusal.description(), Some(refusal.www_authenticate()), &reason))
            }
        }
    }
}

fn refused(status: u16, message: &str, challenge: Option<String>, reason: &str) -> Unauthenticated {
    let name = if status == 503 { "ThrottlingException" } else { "AccessDeniedException" };
    Unauthenticated { name, status, message: message.to_owned(), challenge, reason: reason.to_owned() }
}
