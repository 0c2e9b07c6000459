//! What a request says of the key that it is signed with, and when it was signed.

use crate::fhir::Instant;

use super::{Expectation, Refusal};

/// The last part of every scope.
pub(super) const TERMINATOR: &str = "aws4_request";

/// IAM's limit for the length of an access key id.
const KEY_ID_MAX_CHARS: usize = 128;

/// A time as signers write it, `20150830T123600Z`.
#[derive(Debug)]
pub(super) struct Stamp {
    pub(super) text: String,
    pub(super) unix_seconds: i64,
}

impl Stamp {
    /// Reads a time.
    ///
    /// # Errors
    /// When it isn't one.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        const REFUSED: Refusal = Refusal::Incomplete("The date must be written YYYYMMDD'T'HHMMSS'Z'");
        let [y1, y2, y3, y4, m1, m2, d1, d2, b'T', h1, h2, n1, n2, s1, s2, b'Z'] = *text.as_bytes() else {
            return Err(REFUSED);
        };
        let bytes = [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'];
        let instant = std::str::from_utf8(&bytes).ok().and_then(|text| Instant::parse(text).ok()).ok_or(REFUSED)?;
        Ok(Self { text: text.to_owned(), unix_seconds: instant.unix_seconds() })
    }

    /// The day, `20150830`.
    pub(super) fn day(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }
}

/// The id of a key, and the scope that its signature holds in.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) access_key_id: String,
    pub(super) day: String,
    pub(super) region: String,
    pub(super) service: String,
}

impl Credential {
    /// Reads `AKIDEXAMPLE/20150830/us-east-1/service/aws4_request`.
    ///
    /// # Errors
    /// When it isn't that, or the scope isn't the expected one.
    pub(super) fn read(text: &str, stamp: &Stamp, expected: &Expectation<'_>) -> Result<Self, Refusal> {
        let parts: Vec<&str> = text.split('/').collect();
        let [access_key_id, day, region, service, terminator] = parts.as_slice() else {
            return Err(Refusal::Incomplete(
                "Credential must have five parts with slashes between: key/YYYYMMDD/region/service/aws4_request",
            ));
        };
        let is_key_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if access_key_id.is_empty() || access_key_id.len() > KEY_ID_MAX_CHARS || !access_key_id.bytes().all(is_key_byte)
        {
            return Err(Refusal::Incomplete("Credential must begin with an access key id"));
        }
        let fault = if *terminator != TERMINATOR {
            Some("Credential should be scoped with a valid terminator: aws4_request")
        } else if *day != stamp.day() {
            Some("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
        } else if *region != expected.region {
            Some("Credential should be scoped to a valid Region")
        } else if *service != expected.service {
            Some("Credential should be scoped to correct service")
        } else {
            None
        };
        match fault {
            Some(message) => Err(Refusal::OutOfScope(message)),
            None => Ok(Self {
                access_key_id: (*access_key_id).to_owned(),
                day: (*day).to_owned(),
                region: (*region).to_owned(),
                service: (*service).to_owned(),
            }),
        }
    }
}
