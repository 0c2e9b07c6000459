//! An issuer's keys, and whatever one could sign with them. For tests: of the module, and of the whole by its path.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA384, RsaKeySize};
use serde_json::{Value, json};

/// A key that was made a moment ago and is gone with the process.
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// What only its owner may know, in PKCS #8 PEM.
    pub(crate) private_pem: String,
    /// The same without what only its owner may know, in PEM.
    pub(crate) public_pem: String,
}

impl SigningKey {
    pub(crate) fn es384(id: &str) -> Self {
        Self::elliptic(id, Algorithm::ES384, &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
    }

    pub(crate) fn es256(id: &str) -> Self {
        Self::elliptic(id, Algorithm::ES256, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    fn elliptic(id: &str, algorithm: Algorithm, pair: &KeyPair) -> Self {
        Self::from_pair(id, algorithm, EncodingKey::from_ec_der(pair.serialized_der()), pair)
    }

    /// With a modulus of 2048 bits.
    pub(crate) fn rsa(id: &str, algorithm: Algorithm) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA384, RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::from_pair(id, algorithm, key, &pair)
    }

    fn from_pair(id: &str, algorithm: Algorithm, key: EncodingKey, pair: &KeyPair) -> Self {
        let (private_pem, public_pem) = (pair.serialize_pem(), pair.public_key_pem());
        Self { id: id.to_owned(), algorithm, key, private_pem, public_pem }
    }

    pub(crate) fn algorithm_name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    /// The public key as an issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(&jwk).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm_name(), "typ": "JWT", "kid": self.id})
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs what needn't be JSON.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        self.sign_message(&format!("{}.{}", encode(header), encode(claims)))
    }

    /// Signs what needn't be two parts.
    pub(crate) fn sign_message(&self, message: &str) -> String {
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

pub(crate) fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

pub(crate) fn key_set(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

/// A signature with a secret that both sides know, as if the public key were one.
pub(crate) fn sign_with_secret(algorithm: Algorithm, header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), algorithm).unwrap();
    format!("{message}.{signature}")
}
