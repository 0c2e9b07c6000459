//! The check of an access token.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::algorithm::Algorithm;
use super::claims::{Claims, RawClaims, RequiredClaim};
use super::json::{self, Moment, Present};
use super::key_cache::KeySource;
use super::refusal::Refusal;
use super::seen::Seen;
use crate::error::{Error, ErrorKind, Result};

/// Longest token that is looked at, in bytes, if nothing else is said.
const LONGEST_TOKEN: usize = 16 << 10;

/// Most by which clocks may differ.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Longest name of a caller, in characters.
const MAX_CALLER: usize = 255;

/// What a header may call an access token (RFC 9068 section 2.1, RFC 7519 section 5.1).
const TYPES: [&str; 4] = ["JWT", "application/jwt", "at+jwt", "application/at+jwt"];

/// Checks access tokens of one issuer.
#[derive(Debug)]
pub struct TokenVerifier {
    issuer: String,
    audiences: Vec<String>,
    keys: Arc<KeySource>,
    algorithms: Vec<Algorithm>,
    leeway: i64,
    longest_token: usize,
    required: Vec<RequiredClaim>,
    seen: Option<Seen>,
}

/// The members of a token's first part that are read. Those that say where a key could be had (`jku`, `jwk`, `x5u`, `x5c`)
/// aren't among them: keys are the issuer's, from where the operator says.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default)]
    crit: Present,
    #[serde(default)]
    b64: Present,
    #[serde(default)]
    zip: Present,
    #[serde(default)]
    enc: Present,
}

impl TokenVerifier {
    /// Takes the issuer, as `iss` names it, the names by which `aud` may mean this server, and the issuer's keys.
    ///
    /// A data store's endpoint is its audience (HealthLake contract section 7.2). A slash at the end makes no difference.
    ///
    /// Without more settings: RS384 and ES384, 30 s between clocks, 16 KiB a token, no more claims than every token has,
    /// and a token may be used until it expires.
    ///
    /// # Errors
    /// When a name is empty, or there is no audience: such a check would let through what it is there to stop.
    pub fn new(
        issuer: impl Into<String>,
        audiences: impl IntoIterator<Item = impl Into<String>>,
        keys: Arc<KeySource>,
    ) -> Result<Self> {
        let audiences: Vec<String> = audiences.into_iter().map(|name| without_slash(&name.into()).to_owned()).collect();
        let issuer = issuer.into();
        if issuer.is_empty() || audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(invalid("tokens need an issuer and an audience that aren't empty"));
        }
        Ok(Self {
            issuer,
            audiences,
            keys,
            algorithms: Algorithm::SMART.to_vec(),
            leeway: 30,
            longest_token: LONGEST_TOKEN,
            required: Vec::new(),
            seen: None,
        })
    }

    /// Allows these algorithms and no others.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Result<Self> {
        self.algorithms = algorithms.into_iter().collect();
        if self.algorithms.is_empty() { Err(invalid("tokens need an algorithm")) } else { Ok(self) }
    }

    /// Sets by how much the issuer's clock may differ from ours, in whole seconds.
    ///
    /// # Errors
    /// When it is above 5 minutes.
    pub fn with_leeway(mut self, leeway: Duration) -> Result<Self> {
        if leeway > MAX_LEEWAY {
            return Err(invalid("clocks may differ by 5 minutes at most"));
        }
        self.leeway = i64::try_from(leeway.as_secs()).unwrap_or(0);
        Ok(self)
    }

    /// Sets the longest token that is looked at, in bytes.
    #[must_use]
    pub const fn with_longest_token(mut self, bytes: usize) -> Self {
        self.longest_token = bytes;
        self
    }

    /// Demands claims besides those that every token has.
    #[must_use]
    pub fn with_required_claims(mut self, claims: impl IntoIterator<Item = RequiredClaim>) -> Self {
        self.required = claims.into_iter().collect();
        self
    }

    /// Lets each token be used once: it must have an id. Clients that poll then need a token for each request.
    #[must_use]
    pub fn with_one_time_tokens(mut self, seen: Seen) -> Self {
        self.seen = Some(seen);
        self
    }

    /// The keys that tokens are checked with.
    #[must_use]
    pub const fn keys(&self) -> &Arc<KeySource> {
        &self.keys
    }

    /// Checks a token. The time is that of the caller's clock.
    ///
    /// # Errors
    /// Why it isn't taken.
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    pub async fn verify(&self, token: &str, now_unix_seconds: i64) -> Result<Claims, Refusal> {
        if token.len() > self.longest_token {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed("form"))?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed("form"))?;
        if claims.contains('.') {
            return Err(Refusal::Malformed("form"));
        }
        let header: Header = part(header).ok_or(Refusal::Malformed("header"))?;
        let algorithm = self.algorithm(&header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed("signature"))?;
        let keys = self.keys.keys_for(header.kid.as_deref(), algorithm, now_unix_seconds).await?;
        let key = keys.find(header.kid.as_deref(), algorithm)?;
        if !key.verifies(algorithm, message.as_bytes(), &signature) {
            return Err(Refusal::Signature);
        }
        let claims: RawClaims = part(claims).ok_or(Refusal::Malformed("claims"))?;
        self.check(claims, now_unix_seconds)
    }

    fn algorithm(&self, header: &Header) -> Result<Algorithm, Refusal> {
        if header.crit.0 || header.b64.0 || header.zip.0 || header.enc.0 {
            return Err(Refusal::Critical);
        }
        let is_ours = |typ: &String| TYPES.iter().any(|one| one.eq_ignore_ascii_case(typ));
        if !header.typ.as_ref().is_none_or(is_ours) {
            return Err(Refusal::Type);
        }
        let allowed = Algorithm::from_name(&header.alg).filter(|algorithm| self.algorithms.contains(algorithm));
        allowed.ok_or(Refusal::Algorithm)
    }

    fn check(&self, claims: RawClaims, now: i64) -> Result<Claims, Refusal> {
        if let Some(missing) = self.required.iter().find(|claim| !claims.has(**claim)) {
            return Err(Refusal::MissingClaim(missing.name()));
        }
        if claims.is_authorized.is_some_and(|authorized| !authorized.0) {
            return Err(Refusal::NotAuthorized);
        }
        let expires = self.check_times(&claims, now)?;
        let issuer = claims.iss.ok_or(Refusal::MissingClaim("iss"))?;
        if issuer != self.issuer {
            return Err(Refusal::Issuer);
        }
        let audiences = claims.aud.ok_or(Refusal::MissingClaim("aud"))?.0;
        if !audiences.iter().any(|name| self.audiences.iter().any(|own| own == without_slash(name))) {
            return Err(Refusal::Audience);
        }
        let scope = claims.scope.ok_or(Refusal::MissingClaim("scope"))?.0.join(" ");
        let caller = claims.client_id.or(claims.sub).ok_or(Refusal::MissingClaim("sub"))?;
        if caller.is_empty() || caller.chars().count() > MAX_CALLER || caller.chars().any(char::is_control) {
            return Err(Refusal::Caller);
        }
        // Last: a token that is refused for another reason isn't used up.
        if let Some(seen) = &self.seen {
            let id = claims.jti.as_deref().ok_or(Refusal::MissingClaim("jti"))?;
            seen.use_up(&issuer, id, expires.saturating_add(self.leeway), now)?;
        }
        Ok(Claims { issuer, caller, id: claims.jti, expires, scope })
    }

    /// Gives the moment at which it expires.
    fn check_times(&self, claims: &RawClaims, now: i64) -> Result<i64, Refusal> {
        let Moment(expires) = claims.exp.ok_or(Refusal::MissingClaim("exp"))?;
        if now >= expires.saturating_add(self.leeway) {
            return Err(Refusal::Expired);
        }
        let soonest = now.saturating_add(self.leeway);
        if claims.nbf.is_some_and(|Moment(begins)| begins > soonest || begins > expires) {
            return Err(Refusal::NotYetValid);
        }
        if claims.iat.is_some_and(|Moment(issued)| issued > soonest || issued > expires) {
            return Err(Refusal::IssuedAt);
        }
        Ok(expires)
    }
}

/// Takes the token out of the value of a header `Authorization`; nothing if it holds none, as that of a client that has no
/// token (Bulk Data IG, row B19).
#[must_use]
pub fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

fn part<T: serde::de::DeserializeOwned>(encoded: &str) -> Option<T> {
    json::object(&URL_SAFE_NO_PAD.decode(encoded).ok()?)
}

fn without_slash(name: &str) -> &str {
    name.strip_suffix('/').unwrap_or(name)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
