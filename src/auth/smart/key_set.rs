//! Public keys of an issuer: a JSON Web Key Set (RFC 7517).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyKind};
use super::json;
use super::refusal::Refusal;
use crate::error::{Error, ErrorKind, Result};

/// Longest document, in bytes.
pub(super) const MAX_BYTES: usize = 256 << 10;

/// Most keys of a document.
const MAX_KEYS: usize = 100;

/// Shortest and longest modulus of an RSA key, in bits: what the cryptography takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest exponent of an RSA key, in bytes.
const MAX_EXPONENT_BYTES: usize = 8;

/// Members of a key that only its owner may know (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The keys that signatures of one issuer are checked with.
///
/// A key is left out if it can't check any signature that we take: another kind or curve, an RSA key below 2048 bits, one
/// for encryption, one that can't be read. RFC 7517 section 5 asks for that, so that an issuer can publish new kinds.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: Vec<&'static str>,
}

#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    kind: KeyKind,
    /// The one algorithm that it is for, where it says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// Why a key isn't taken.
enum Unfit {
    /// It can't check what we check.
    LeftOut(&'static str),
    /// It should never have been published: the document is refused.
    Secret,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// When it isn't one, is above 256 KiB or 100 keys, or holds a private or a shared key: whoever has seen it could sign.
    pub fn from_json(document: &[u8]) -> Result<Self> {
        let refused = |message: &str| Error::new(ErrorKind::InvalidConfig, message);
        if document.len() > MAX_BYTES {
            return Err(refused("the key set is longer than 256 KiB"));
        }
        let Document { keys } = json::object(document)
            .ok_or_else(|| refused("the key set isn't a JSON object with an array \"keys\" (RFC 7517)"))?;
        if keys.len() > MAX_KEYS {
            return Err(refused("the key set has more than 100 keys"));
        }
        let mut set = Self::default();
        for key in &keys {
            match Key::read(key) {
                Ok(key) => set.keys.push(key),
                Err(Unfit::LeftOut(why)) => set.left_out.push(why),
                Err(Unfit::Secret) => {
                    return Err(refused("the key set holds a private or a shared key: only public keys belong there"));
                }
            }
        }
        Ok(set)
    }

    /// How many keys can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Why keys were left out, one reason for each.
    #[must_use]
    pub fn left_out(&self) -> &[&'static str] {
        &self.left_out
    }

    /// Finds the key that a token was signed with.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Refusal> {
        let mut fit = self.keys.iter().filter(|key| key.fits(algorithm) && (id.is_none() || key.id.as_deref() == id));
        match (fit.next(), fit.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
            (None, _) if id.is_some() && self.keys.iter().any(|key| key.id.as_deref() == id) => Err(Refusal::KeyKind),
            (None, _) => Err(Refusal::UnknownKey),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|key| (&key.id, key.kind)).collect();
        f.debug_struct("KeySet").field("keys", &ids).field("left_out", &self.left_out).finish()
    }
}

impl Key {
    fn read(key: &Value) -> Result<Self, Unfit> {
        let members = key.as_object().ok_or(Unfit::LeftOut("it isn't an object"))?;
        if SECRET_MEMBERS.iter().any(|name| members.contains_key(*name)) {
            return Err(Unfit::Secret);
        }
        is_for_signatures(members)?;
        let only = match text(members, "alg")? {
            Some(name) => Some(Algorithm::from_name(name).ok_or(Unfit::LeftOut("its algorithm isn't one of ours"))?),
            None => None,
        };
        let id = text(members, "kid")?.map(str::to_owned);
        let (kind, key) = match text(members, "kty")? {
            Some("RSA") => (KeyKind::Rsa, rsa(members)?),
            Some("EC") => elliptic(members)?,
            _ => return Err(Unfit::LeftOut("it is neither of RSA nor of an elliptic curve")),
        };
        if only.is_some_and(|algorithm| algorithm.key_kind() != kind) {
            return Err(Unfit::LeftOut("its algorithm is for keys of another kind"));
        }
        Ok(Self { id, kind, only, key })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_kind() && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether a signature is this key's over the message.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &Vec<u8>) -> bool {
        self.fits(algorithm) && algorithm.verifies(&self.key, message, signature)
    }
}

fn is_for_signatures(members: &Map<String, Value>) -> Result<(), Unfit> {
    if text(members, "use")?.is_some_and(|used| used != "sig") {
        return Err(Unfit::LeftOut("it isn't for signatures"));
    }
    let verifies = match members.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
        Some(_) => false,
    };
    if verifies { Ok(()) } else { Err(Unfit::LeftOut("it isn't for checking signatures")) }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Unfit> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Unfit::LeftOut("a member of it isn't a text")),
    }
}

fn number(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Unfit> {
    let digits = text(members, name)?.ok_or(Unfit::LeftOut("a number of it is missing"))?;
    URL_SAFE_NO_PAD.decode(digits).map_err(|_| Unfit::LeftOut("a number of it isn't in base64url"))
}

fn rsa(members: &Map<String, Value>) -> Result<DecodingKey, Unfit> {
    let (modulus, exponent) = (number(members, "n")?, number(members, "e")?);
    // Some issuers write the sign's zero in front, which RFC 7518 section 6.3.1.1 forbids.
    let modulus = modulus.iter().position(|byte| *byte != 0).and_then(|first| modulus.get(first..)).unwrap_or_default();
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&(modulus.len() * 8).saturating_sub(zeros)) {
        return Err(Unfit::LeftOut("its modulus isn't of 2048 to 8192 bits"));
    }
    let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
        return Err(Unfit::LeftOut("its exponent is none"));
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, &exponent))
}

fn elliptic(members: &Map<String, Value>) -> Result<(KeyKind, DecodingKey), Unfit> {
    let (kind, length) = match text(members, "crv")? {
        Some("P-256") => (KeyKind::P256, 32),
        Some("P-384") => (KeyKind::P384, 48),
        _ => return Err(Unfit::LeftOut("its curve is neither P-256 nor P-384")),
    };
    let (x, y) = (number(members, "x")?, number(members, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Unfit::LeftOut("its point isn't of its curve's length"));
    }
    // A point without compression (SEC 1 section 2.3.3). Whether it lies on the curve is seen at the first signature.
    let point = [&[4][..], &x, &y].concat();
    Ok((kind, DecodingKey::from_ec_der(&point)))
}
