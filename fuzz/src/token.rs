//! Tokens, their keys and their scopes. The first byte says which of them the rest is.

use std::sync::{Arc, LazyLock};

use fhir_export::auth::smart::{KeySet, KeySource, Readable, TokenVerifier, bearer_token};
use fhir_export::fhir::ResourceType;
use serde_json::Value;

use super::wait_for;

#[allow(dead_code, clippy::duplicate_mod, reason = "it is borrowed, as by others")]
#[path = "../../src/auth/smart/forge.rs"]
mod forge;

const NOW: i64 = 1_700_000_000;
const ISSUER: &str = "https://issuer.example";
const STORE: &str = "https://export.example/r4";

/// A key of this process: no input can be signed with it.
static KEY: LazyLock<forge::SigningKey> = LazyLock::new(|| forge::SigningKey::es384("key"));

static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let keys = KeySet::from_json(forge::key_set(&[&KEY]).to_string().as_bytes()).expect("a set of one key");
    TokenVerifier::new(ISSUER, [STORE], Arc::new(KeySource::fixed(keys))).expect("an issuer and an audience")
});

pub fn token(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'k' => keys(rest),
        b's' => std::str::from_utf8(rest).map_or((), scope),
        b'c' => signed(rest),
        _ => std::str::from_utf8(rest).map_or((), unsigned),
    }
}

/// Whatever it is, it isn't ours.
fn unsigned(text: &str) {
    let taken = bearer_token(text).unwrap_or(text);
    assert!(wait_for(VERIFIER.verify(taken, NOW)).is_err(), "{text}");
}

/// A header and claims, with a line feed between and our signature behind.
fn signed(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = data.split_at(cut);
    let claims = claims.get(1..).unwrap_or_default();
    let token = KEY.sign_message(&format!("{}.{}", forge::encode(header), forge::encode(claims)));
    let Ok(taken) = wait_for(VERIFIER.verify(&token, NOW)) else { return };
    let header: Value = serde_json::from_slice(header).expect("what was taken is JSON");
    let claims: Value = serde_json::from_slice(claims).expect("what was taken is JSON");
    assert!(header["alg"] == "ES384" && header.get("crit").is_none());
    assert!(header["kid"] == "key" || header["kid"].is_null());
    assert!(taken.issuer() == ISSUER && claims["iss"] == ISSUER);
    let is_ours = |name: &Value| name.as_str().is_some_and(|name| name.strip_suffix('/').unwrap_or(name) == STORE);
    assert!(is_ours(&claims["aud"]) || claims["aud"].as_array().is_some_and(|names| names.iter().any(is_ours)));
    assert!(claims["exp"].as_f64().is_some_and(|end| end > (NOW - 30) as f64));
    assert!(claims["nbf"].as_f64().is_none_or(|begin| begin < (NOW + 31) as f64));
    assert!(!taken.caller().is_empty() && !taken.caller().contains(char::is_control));
}

/// What grants everything says so in one scope or two.
fn scope(text: &str) {
    let Ok(readable) = Readable::from_scope(text) else { return };
    let some = ResourceType::all_r4().filter(|one| readable.contains(one)).count();
    assert!(some > 0, "{text}");
    assert!(text.split(' ').any(|scope| scope.starts_with("system/")), "{text}");
    assert!(some < 146 || text.contains("system/*.") || text.len() > 1000, "{text}");
}

fn keys(data: &[u8]) {
    let Ok(set) = KeySet::from_json(data) else { return };
    let document: Value = serde_json::from_slice(data).expect("what was taken is JSON");
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(set.len() + set.left_out().len()));
    let verifier = TokenVerifier::new(ISSUER, [STORE], Arc::new(KeySource::fixed(set))).expect("as above");
    let claims = serde_json::json!({"iss": ISSUER, "aud": STORE, "sub": "x", "scope": "", "exp": NOW + 1});
    assert!(wait_for(verifier.verify(&KEY.token(&claims), NOW)).is_err());
}
