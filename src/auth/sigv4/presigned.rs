//! Presigned URLs.

use crate::fhir::Instant;

use super::authorization::{ALGORITHM, Authorization};
use super::credential::Stamp;
use super::query::{Query, SIGNING};
use super::{Head, Refusal, headers};

/// Seven days: how long a presigned URL may hold, by AWS.
const EXPIRES_MAX_SECONDS: i64 = 604_800;

/// What the parameters of a presigned URL hold, as they are written.
pub(super) struct Presigned<'a> {
    pub(super) authorization: Authorization<'a>,
    pub(super) date: &'a str,
    pub(super) expires_seconds: i64,
    pub(super) session_token: Option<&'a str>,
    pub(super) content_sha256: Option<&'a str>,
}

/// Takes the parameters of a presigned URL.
///
/// # Errors
/// When the algorithm is another, a parameter is missing or misspelt, or a header says the same as one.
pub(super) fn read<'a>(head: &Head<'_>, query: &'a Query<'_>) -> Result<Presigned<'a>, Refusal> {
    if !query.spells(&SIGNING) {
        return Err(Refusal::Incomplete("A query parameter X-Amz-... is in another case or not text"));
    }
    for name in ["x-amz-date", "x-amz-security-token"] {
        if headers::value(head, name)?.is_some() {
            return Err(Refusal::Incomplete("A presigned request gives its date and its token in the query only"));
        }
    }
    let required = |name| {
        query.get(name).ok_or(Refusal::Incomplete(
            "A presigned request requires X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders and -Signature",
        ))
    };
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Refusal::Incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
    }
    Ok(Presigned {
        authorization: Authorization {
            credential: required("X-Amz-Credential")?,
            signed_headers: required("X-Amz-SignedHeaders")?,
            signature: required("X-Amz-Signature")?,
        },
        date: required("X-Amz-Date")?,
        expires_seconds: read_expires(required("X-Amz-Expires")?)?,
        session_token: query.get("X-Amz-Security-Token"),
        content_sha256: query.get("X-Amz-Content-Sha256"),
    })
}

fn read_expires(text: &str) -> Result<i64, Refusal> {
    let is_number = !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|seconds| is_number && (1..=EXPIRES_MAX_SECONDS).contains(seconds));
    seconds.ok_or(Refusal::Incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800"))
}

/// Refuses a presigned URL before its time and after it. The skew is for its start only: its end is what its maker chose.
///
/// # Errors
/// When it is another time.
pub(super) fn check_time(stamp: &Stamp, expires_seconds: i64, skew_seconds: i64, now: &Instant) -> Result<(), Refusal> {
    let now = now.unix_seconds();
    if stamp.unix_seconds > now.saturating_add(skew_seconds) {
        return Err(Refusal::NotYetCurrent);
    }
    if now > stamp.unix_seconds.saturating_add(expires_seconds) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_holds_from_a_second_to_seven_days() {
        assert_eq!(read_expires("1"), Ok(1));
        assert_eq!(read_expires("604800"), Ok(604_800));
        for text in ["", "0", "604801", "-1", "+1", " 1", "1.0", "9999999", "0000001", "1e3"] {
            assert!(read_expires(text).is_err(), "{text}");
        }
    }
}
