//! What a signed request claims.

use std::time::Duration;

use subtle::{Choice, ConstantTimeEq as _};

use crate::fhir::Instant;

use super::authorization::{self, Authorization, hex, read_hash};
use super::credential::{Credential, Stamp};
use super::key::{Secret, SigningKey};
use super::path::canonical_paths;
use super::presigned;
use super::query::{self, Query};
use super::{Head, Refusal, headers, sha256};

/// The hash that stands for no hash.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// What a server expects of signatures.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The service in the scope, `healthlake`.
    pub service: &'a str,
    /// The Region in the scope.
    pub region: &'a str,
    /// How far the clocks of caller and server may be apart, inclusive. AWS has five minutes.
    pub max_skew: Duration,
    /// What becomes of requests whose body isn't signed.
    pub unsigned_payload: UnsignedPayload,
}

impl<'a> Expectation<'a> {
    /// What HealthLake expects in a Region: five minutes of skew, every body signed.
    #[must_use]
    pub const fn healthlake(region: &'a str) -> Self {
        Self {
            service: "healthlake",
            region,
            max_skew: Duration::from_mins(5),
            unsigned_payload: UnsignedPayload::Refused,
        }
    }
}

/// What becomes of requests that say `UNSIGNED-PAYLOAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsignedPayload {
    /// They are refused.
    Refused,
    /// A presigned `GET` without a body may say so, others are refused.
    InPresignedGet,
}

/// What a request says of its body.
#[derive(Debug)]
enum Payload {
    /// Nothing: it is signed with the hash that it has.
    Body,
    Hash([u8; 32]),
    Unsigned,
}

/// What a signed request claims: who sent it, and that he did. Not proved before [`verify`](Self::verify) says so.
pub struct Claimed {
    credential: Credential,
    stamp: Stamp,
    session_token: Option<String>,
    signature: [u8; 32],
    payload: Payload,
    is_presigned: bool,
    // All the ways to write the canonical request, each without its last line.
    canonical_heads: Vec<String>,
}

impl std::fmt::Debug for Claimed {
    /// Without the token and the signature.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimed")
            .field("credential", &self.credential)
            .field("stamp", &self.stamp.text)
            .field("is_presigned", &self.is_presigned)
            .finish_non_exhaustive()
    }
}

impl Claimed {
    /// Whether a request claims to be signed: it has a header `Authorization` of AWS, or a parameter of presigned URLs.
    ///
    /// A request that does both, or does one badly, does so too: [`read`](Self::read) refuses it.
    #[must_use]
    pub fn is_in(head: &Head<'_>) -> bool {
        let is_ours = |value: &[u8]| value.trim_ascii_start().get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"AWS4"));
        let mut headers = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        headers.any(|(_, value)| is_ours(value)) || query::looks_presigned(head.query.unwrap_or_default())
    }

    /// Reads what a request claims, and checks all that can be known without a secret and a body.
    ///
    /// The path comes first: one that isn't read alike by everybody is refused whatever else the request holds.
    ///
    /// # Errors
    /// When the request isn't signed, or its signature can't be one that holds here and now.
    pub fn read(head: &Head<'_>, now: &Instant, expected: &Expectation<'_>) -> Result<Self, Refusal> {
        let paths = canonical_paths(head.path)?;
        let query = Query::read(head.query)?;
        headers::check_single(head)?;
        let header = headers::value(head, "authorization")?;
        let draft = match (header, query.is_presigned()) {
            (None, false) => return Err(Refusal::Missing),
            (Some(_), true) => {
                return Err(Refusal::Incomplete("A request is signed by its header or by its query, not by both"));
            }
            (Some(header), false) => Draft::of_header(head, header, now, expected)?,
            (None, true) => Draft::of_query(head, &query, now, expected)?,
        };
        let credential = Credential::read(draft.authorization.credential, &draft.stamp, expected)?;
        let signature = authorization::read_signature(draft.authorization.signature)?;
        let payload = draft.payload(head, expected)?;
        let signed = headers::signed_names(draft.authorization.signed_headers, head)?;
        let lines = headers::canonical(head, &signed)?;
        let method = method(head.method)?;
        let queries = query.canonical();
        let mut canonical_heads = Vec::new();
        for path in &paths {
            for query in &queries {
                canonical_heads.push(format!("{method}\n{path}\n{query}\n{lines}\n"));
            }
        }
        Ok(Self {
            credential,
            stamp: draft.stamp,
            session_token: draft.session_token.map(str::to_owned),
            signature,
            payload,
            is_presigned: draft.is_presigned,
            canonical_heads,
        })
    }

    /// The id of the key that the request claims to be signed with: letters, digits and `_`, 128 at most.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.credential.access_key_id
    }

    /// The signature, 64 hex digits. No other request has it.
    #[must_use]
    pub fn signature(&self) -> String {
        hex(&self.signature)
    }

    /// The token of the session that the request presents.
    #[must_use]
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Whether the signature is in the query.
    #[must_use]
    pub const fn is_presigned(&self) -> bool {
        self.is_presigned
    }

    /// Checks the signature with the secret of [`access_key_id`](Self::access_key_id), and the body by its hash.
    ///
    /// Give no secret if nobody has that key: the same is done, in the same time, and refused in the same words as a wrong
    /// secret.
    ///
    /// # Errors
    /// When the signature isn't that secret's, the token isn't the one that goes with it, or the body is another.
    pub fn verify(&self, secret: Option<&Secret<'_>>, body_sha256: &[u8; 32]) -> Result<(), Refusal> {
        let is_known = Choice::from(u8::from(secret.is_some()));
        let secret = secret.unwrap_or(&Secret::OF_NOBODY);
        let key = SigningKey::new(secret, &self.credential);
        let last_line = match &self.payload {
            Payload::Body => hex(body_sha256),
            Payload::Hash(hash) => hex(hash),
            Payload::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
        };
        let mut is_signed = Choice::from(0);
        for head in &self.canonical_heads {
            let signature = key.sign(&self.credential, &self.stamp, &format!("{head}{last_line}"));
            is_signed |= signature.ct_eq(&self.signature);
        }
        let token = self.session_token.as_deref();
        if !bool::from(is_signed & is_known & secret.has_token(token)) {
            return Err(Refusal::Mismatch);
        }
        match &self.payload {
            Payload::Hash(hash) if hash != body_sha256 => {
                Err(Refusal::Payload("The provided x-amz-content-sha256 does not match what was computed of the body"))
            }
            Payload::Unsigned if *body_sha256 != sha256(b"") => {
                Err(Refusal::Payload("A request with UNSIGNED-PAYLOAD can't have a body"))
            }
            _ => Ok(()),
        }
    }
}

/// A method as it stands in a canonical request.
fn method(text: &str) -> Result<&str, Refusal> {
    let is_method = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if is_method { Ok(text) } else { Err(Refusal::Incomplete("The method must be written in capitals")) }
}

/// What one of the two forms gives.
struct Draft<'a> {
    authorization: Authorization<'a>,
    stamp: Stamp,
    session_token: Option<&'a str>,
    content_sha256: Option<&'a str>,
    is_presigned: bool,
}

impl<'a> Draft<'a> {
    fn of_header(head: &Head<'a>, header: &'a str, now: &Instant, expected: &Expectation<'_>) -> Result<Self, Refusal> {
        let authorization = authorization::read(header)?;
        let Some(date) = headers::value(head, "x-amz-date")? else {
            return Err(Refusal::Incomplete("Authorization requires a header x-amz-date"));
        };
        let stamp = Stamp::read(date)?;
        let skew = skew_seconds(expected);
        if stamp.unix_seconds < now.unix_seconds().saturating_sub(skew) {
            return Err(Refusal::Expired);
        }
        if stamp.unix_seconds > now.unix_seconds().saturating_add(skew) {
            return Err(Refusal::NotYetCurrent);
        }
        Ok(Self {
            authorization,
            stamp,
            session_token: headers::value(head, "x-amz-security-token")?,
            content_sha256: headers::value(head, "x-amz-content-sha256")?,
            is_presigned: false,
        })
    }

    fn of_query(
        head: &Head<'a>,
        query: &'a Query<'_>,
        now: &Instant,
        expected: &Expectation<'_>,
    ) -> Result<Self, Refusal> {
        let presigned = presigned::read(head, query)?;
        let stamp = Stamp::read(presigned.date)?;
        presigned::check_time(&stamp, presigned.expires_seconds, skew_seconds(expected), now)?;
        let in_header = headers::value(head, "x-amz-content-sha256")?;
        if in_header.is_some() && presigned.content_sha256.is_some() {
            return Err(Refusal::Incomplete("The hash of the body is given by a header and by the query"));
        }
        Ok(Self {
            authorization: presigned.authorization,
            stamp,
            session_token: presigned.session_token,
            content_sha256: in_header.or(presigned.content_sha256),
            is_presigned: true,
        })
    }

    /// What the request says of its body.
    fn payload(&self, head: &Head<'_>, expected: &Expectation<'_>) -> Result<Payload, Refusal> {
        let Some(text) = self.content_sha256 else { return Ok(Payload::Body) };
        if text == UNSIGNED_PAYLOAD {
            let is_allowed = expected.unsigned_payload == UnsignedPayload::InPresignedGet;
            return if is_allowed && self.is_presigned && head.method == "GET" {
                Ok(Payload::Unsigned)
            } else {
                Err(Refusal::Payload("The body of this request must be signed"))
            };
        }
        read_hash(text).map(Payload::Hash).ok_or(Refusal::Payload(
            "x-amz-content-sha256 must be the hash of the body: 64 lower-case hex digits. Bodies signed in chunks aren't \
             accepted",
        ))
    }
}

fn skew_seconds(expected: &Expectation<'_>) -> i64 {
    i64::try_from(expected.max_skew.as_secs()).unwrap_or(i64::MAX)
}
