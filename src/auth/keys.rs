//! Callers who sign with access keys.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::authenticator::{AtHead, Authenticator, Presented, Unauthenticated};
use super::caller::{Caller, Rights};
use super::policy::{Context, Policy};
use super::secret::SecretText;
use super::sigv4::{Claimed, Expectation, Head, Refusal, Secret, sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;

/// A key that the operator gave to somebody.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SecretText,
    /// The token that goes with it, if it is one of a session.
    pub session_token: Option<SecretText>,
    /// When the session ends.
    pub expires: Option<Instant>,
    /// The ARN of whom it belongs to, such as `arn:aws:iam::123456789012:user/nightly`.
    pub principal: String,
    /// What he may do.
    pub policies: Vec<Policy>,
}

/// The access keys of all callers: knows requests that are signed with one.
#[derive(Debug)]
pub struct AccessKeys {
    region: String,
    keys: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    key: AccessKey,
    caller: Caller,
}

impl AccessKeys {
    /// Takes the Region that requests must be signed for, and the keys.
    ///
    /// # Errors
    /// When an id is there twice, a secret is empty, or a principal isn't an ARN with an account.
    pub fn new(region: impl Into<String>, keys: impl IntoIterator<Item = AccessKey>) -> Result<Self> {
        let mut known = HashMap::new();
        for key in keys {
            let refused = |what: &str| Error::new(ErrorKind::InvalidConfig, what).with("key", &key.id);
            if key.id.is_empty() || key.secret.expose().is_empty() {
                return Err(refused("an access key needs an id and a secret"));
            }
            let Some(principal) = principal(&key.principal) else {
                return Err(refused(
                    "a principal is an ARN with an account, such as arn:aws:iam::123456789012:user/me",
                ));
            };
            let rights = Rights::Policies { policies: key.policies.clone().into(), principal: Arc::new(principal) };
            let caller = Caller::new(key.principal.clone(), rights);
            if let Some(Known { key, .. }) = known.insert(key.id.clone(), Known { key, caller }) {
                return Err(Error::new(ErrorKind::InvalidConfig, "an access key is there twice").with("key", key.id));
            }
        }
        Ok(Self { region: region.into(), keys: known })
    }
}

impl AccessKeys {
    fn claimed(&self, presented: &Presented<'_>) -> std::result::Result<Claimed, Unauthenticated> {
        let expectation = Expectation::healthlake(&self.region);
        Claimed::read(&head(presented), presented.now, &expectation).map_err(|refusal| refused(refusal, "?"))
    }
}

/// What conditions learn from an ARN of IAM or STS.
fn principal(arn: &str) -> Option<Context> {
    let mut parts = arn.splitn(6, ':');
    let (prefix, _, service, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (account, resource) = (parts.next()?, parts.next()?);
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    if prefix != "arn" || !matches!(service, "iam" | "sts") || !is_account || resource.contains(['*', '?']) {
        return None;
    }
    let user = resource.strip_prefix("user/").and_then(|path| path.rsplit('/').next());
    Some(Context {
        principal_arn: Some(arn.to_owned()),
        principal_account: Some(account.to_owned()),
        user_name: user.map(str::to_owned),
        ..Context::default()
    })
}

#[async_trait]
impl Authenticator for AccessKeys {
    fn is_meant(&self, presented: &Presented<'_>) -> bool {
        Claimed::is_in(&head(presented))
    }

    /// Signatures hold with the body only, but not for a key that nobody has, nor at another time or place.
    async fn at_head(&self, presented: &Presented<'_>) -> std::result::Result<AtHead, Unauthenticated> {
        let claimed = self.claimed(presented)?;
        let id = claimed.access_key_id();
        match self.keys.contains_key(id) {
            true => Ok(AtHead::NeedsBody),
            false => Err(refused(Refusal::Mismatch, id)),
        }
    }

    async fn authenticate(&self, presented: &Presented<'_>) -> std::result::Result<Caller, Unauthenticated> {
        let claimed = self.claimed(presented)?;
        let known = self.keys.get(claimed.access_key_id());
        let secret = known.map(|Known { key, .. }| Secret {
            access_key: key.secret.expose(),
            session_token: key.session_token.as_ref().map(SecretText::expose),
        });
        let id = claimed.access_key_id();
        claimed.verify(secret.as_ref(), &sha256(presented.body)).map_err(|refusal| refused(refusal, id))?;
        let Some(Known { key, caller }) = known else { return Err(refused(Refusal::Mismatch, id)) };
        let is_over = |end: &Instant| (end.unix_seconds(), end.nanos()) <= (presented.now.unix_seconds(), 0);
        if key.expires.as_ref().is_some_and(is_over) {
            return Err(refused(Refusal::TokenExpired, id));
        }
        // Who has overheard it can send it once more, while it is young; it starts nothing then.
        Ok(caller.clone().with_request_id(claimed.signature()))
    }
}

const fn head<'a>(presented: &Presented<'a>) -> Head<'a> {
    Head { method: presented.method, path: presented.path, query: presented.query, headers: presented.headers }
}

fn refused(refusal: Refusal, key: &str) -> Unauthenticated {
    Unauthenticated {
        name: refusal.name(),
        status: refusal.status(),
        message: refusal.to_string(),
        challenge: None,
        reason: format!("a signature with the key {key}: {refusal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> AccessKey {
        AccessKey {
            id: "NIGHTLY".to_owned(),
            secret: secret.into(),
            session_token: Some("a-token".into()),
            expires: None,
            principal: "arn:aws:iam::111122223333:user/nightly".to_owned(),
            policies: Vec::new(),
        }
    }

    #[test]
    fn no_secret_of_a_key_is_printed() {
        let key = key("a-secret");
        let keys = AccessKeys::new("eu-west-1", [key.clone()]).unwrap();
        for printed in [format!("{key:?}"), format!("{key:#?}"), format!("{keys:?}"), format!("{keys:#?}")] {
            assert!(printed.contains("NIGHTLY") && printed.contains("SecretText(..)"), "{printed}");
            assert!(!printed.contains("a-secret") && !printed.contains("a-token"), "{printed}");
        }
        let twice = AccessKeys::new("eu-west-1", [key.clone(), key]).unwrap_err();
        assert!(!format!("{twice} {twice:?}").contains("a-secret"), "{twice:?}");
    }

    #[test]
    fn a_key_needs_a_secret() {
        let refused = AccessKeys::new("eu-west-1", [key("")]).unwrap_err();
        assert!(refused.to_string().contains("an access key needs an id and a secret"), "{refused}");
    }
}
