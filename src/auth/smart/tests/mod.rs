//! Attacks, and what must happen.

mod keys;
mod tokens;

use std::sync::{Arc, LazyLock};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::forge::{SigningKey, key_set};
use super::{KeySet, KeySource, TokenVerifier};

const NOW: i64 = 1_700_000_000;
const ISSUER: &str = "https://issuer.example";
const STORE: &str = "https://export.example/datastore/0123/r4/";

/// RSA keys take long to make: all tests have these.
static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa", Algorithm::RS384));
static STRANGE_RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa", Algorithm::RS384));
static P384: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es384("p384"));
static STRANGE_P384: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es384("p384"));
static P256: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es256("p256"));

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "the-client", "aud": STORE, "scope": "system/*.rs",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 290, "jti": "1",
    })
}

/// The claims with one of another value, or without it.
fn but(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn source(keys: &Value) -> Arc<KeySource> {
    Arc::new(KeySource::fixed(KeySet::from_json(keys.to_string().as_bytes()).unwrap()))
}

fn verifier_with(keys: &Value) -> TokenVerifier {
    TokenVerifier::new(ISSUER, [STORE], source(keys)).unwrap()
}

fn verifier() -> TokenVerifier {
    verifier_with(&key_set(&[&RSA, &P384, &P256]))
}
