//! Secrets, and what is signed with them.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::authorization::{ALGORITHM, hex};
use super::credential::{Credential, Stamp, TERMINATOR};

/// The secret of an access key, as [`Claimed::verify`](super::Claimed::verify) needs it.
#[derive(Clone, Copy)]
pub struct Secret<'a> {
    /// The secret access key.
    pub access_key: &'a str,
    /// The token of the session, for temporary credentials.
    pub session_token: Option<&'a str>,
}

impl Secret<'_> {
    /// As long as a secret of AWS is, for keys that nobody has. Nothing that it signs is accepted.
    pub(super) const OF_NOBODY: Self =
        Self { access_key: "////////////////////////////////////////", session_token: None };

    /// Whether a request presents the token that goes with the secret.
    pub(super) fn has_token(&self, presented: Option<&str>) -> Choice {
        let equal = presented.unwrap_or_default().as_bytes().ct_eq(self.session_token.unwrap_or_default().as_bytes());
        equal & Choice::from(u8::from(presented.is_some() == self.session_token.is_some()))
    }
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The key of one day, Region and service.
pub(super) struct SigningKey([u8; 32]);

impl SigningKey {
    pub(super) fn new(secret: &Secret<'_>, credential: &Credential) -> Self {
        let first = format!("AWS4{}", secret.access_key);
        let day = keyed_hash(first.as_bytes(), &credential.day);
        let region = keyed_hash(&day, &credential.region);
        let service = keyed_hash(&region, &credential.service);
        Self(keyed_hash(&service, TERMINATOR))
    }

    /// The signature of a canonical request.
    pub(super) fn sign(&self, credential: &Credential, stamp: &Stamp, canonical_request: &str) -> [u8; 32] {
        let Credential { day, region, service, .. } = credential;
        let hash = hex(&Sha256::digest(canonical_request));
        let stamp = &stamp.text;
        keyed_hash(&self.0, &format!("{ALGORITHM}\n{stamp}\n{day}/{region}/{service}/{TERMINATOR}\n{hash}"))
    }
}

fn keyed_hash(key: &[u8], text: &str) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}
