//! Keys: what a set may hold, and how it is kept up to date.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::forge::{SigningKey, encode, key_set};
use super::super::{FetchKeys, FetchedKeys, KeyFile, KeyPatience, KeySet, KeySource, KeyUrl, Refusal, TokenVerifier};
use super::{ISSUER, NOW, P256, P384, RSA, STORE, STRANGE_P384, but, claims};
use crate::error::{Error, ErrorKind, Result};

fn changed(key: &SigningKey, name: &str, value: impl Into<Value>) -> Value {
    let mut jwk = key.jwk();
    jwk[name] = value.into();
    jwk
}

fn lacking(key: &SigningKey, name: &str) -> Value {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

#[test]
fn which_keys_of_a_set_are_used() {
    let modulus = |bits: usize| {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] >>= bits.div_ceil(8) * 8 - bits;
        encode(bytes)
    };
    let padded = {
        let bytes = [vec![0], vec![0xff; 256]].concat();
        encode(bytes)
    };
    #[rustfmt::skip]
    let rows = vec![
        ("RSA", RSA.jwk(), true),
        ("P-384", P384.jwk(), true),
        ("P-256", P256.jwk(), true),
        ("no id", lacking(&RSA, "kid"), true),
        ("no algorithm", lacking(&RSA, "alg"), true),
        ("no use", lacking(&RSA, "use"), true),
        ("for checking", changed(&RSA, "key_ops", json!(["verify"])), true),
        ("certificates beside", changed(&RSA, "x5c", json!(["MIIB"])), true),
        ("members that aren't ours", changed(&RSA, "issued", json!({"by": 1})), true),
        ("a nought in front of the modulus", changed(&RSA, "n", padded), true),
        ("2048 bits", changed(&RSA, "n", modulus(2048)), true),
        ("8192 bits", changed(&RSA, "n", modulus(8192)), true),
        ("2047 bits", changed(&RSA, "n", modulus(2047)), false),
        ("1024 bits", changed(&RSA, "n", modulus(1024)), false),
        ("512 bits", changed(&RSA, "n", modulus(512)), false),
        ("8193 bits", changed(&RSA, "n", modulus(8193)), false),
        ("a modulus of noughts", changed(&RSA, "n", encode([0; 256])), false),
        ("an empty modulus", changed(&RSA, "n", ""), false),
        ("a modulus that isn't base64url", changed(&RSA, "n", "+/=="), false),
        ("a modulus that is a number", changed(&RSA, "n", 35), false),
        ("no modulus", lacking(&RSA, "n"), false),
        ("no exponent", lacking(&RSA, "e"), false),
        ("an exponent of 1", changed(&RSA, "e", encode([1])), false),
        ("an even exponent", changed(&RSA, "e", encode([1, 0, 0])), false),
        ("an empty exponent", changed(&RSA, "e", ""), false),
        ("a long exponent", changed(&RSA, "e", encode([1; 9])), false),
        ("for encryption", changed(&RSA, "use", "enc"), false),
        ("for signing", changed(&RSA, "key_ops", json!(["sign"])), false),
        ("operations that are no array", changed(&RSA, "key_ops", "verify"), false),
        ("for PSS", changed(&RSA, "alg", "PS384"), false),
        ("for HMAC", changed(&RSA, "alg", "HS256"), false),
        ("for none", changed(&RSA, "alg", "none"), false),
        ("for ES384, though RSA", changed(&RSA, "alg", "ES384"), false),
        ("for ES256, though P-384", changed(&P384, "alg", "ES256"), false),
        ("an id that is a number", changed(&RSA, "kid", 1), false),
        ("another curve", changed(&P384, "crv", "P-521"), false),
        ("the curve of bitcoin", changed(&P384, "crv", "secp256k1"), false),
        ("no curve", lacking(&P384, "crv"), false),
        ("a short point", changed(&P384, "x", encode([1; 47])), false),
        ("a long point", changed(&P384, "y", encode([1; 49])), false),
        ("half a point", lacking(&P384, "y"), false),
        ("Ed25519", json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 32])}), false),
        ("a kind of the future", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}), false),
        ("no kind", lacking(&RSA, "kty"), false),
        ("no object", json!("key"), false),
        ("an array", json!([]), false),
        ("null", Value::Null, false),
    ];
    for (name, jwk, used) in rows {
        let set = KeySet::from_json(json!({"keys": [jwk]}).to_string().as_bytes());
        let set = set.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((set.len(), set.left_out().len()), (usize::from(used), usize::from(!used)), "{name}");
    }
    // One that can't be used spoils no other.
    let set = json!({"keys": [lacking(&RSA, "n"), P384.jwk()]}).to_string();
    assert_eq!(KeySet::from_json(set.as_bytes()).unwrap().len(), 1);
}

#[test]
fn which_documents_are_no_set_of_keys() {
    let secret = "a private or a shared key";
    let form = "isn't a JSON object";
    let set = |jwk: Value| json!({"keys": [jwk]}).to_string();
    let many: Vec<Value> = (0..101).map(|_| P384.jwk()).collect();
    #[rustfmt::skip]
    let rows = vec![
        ("a private key of RSA", set(changed(&RSA, "d", "AQAB")), secret),
        ("a factor of a modulus", set(changed(&RSA, "p", "AQAB")), secret),
        ("a private key of P-384", set(changed(&P384, "d", "AQAB")), secret),
        ("a shared key", set(json!({"kty": "oct", "k": "AQAB"})), secret),
        ("a private key of a kind that isn't used", set(json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"})), secret),
        ("nothing", String::new(), form),
        ("a page", "<!doctype html><title>Sign in</title>".to_owned(), form),
        ("an array", json!([P384.jwk()]).to_string(), form),
        ("one key alone", P384.jwk().to_string(), form),
        ("keys that are an object", json!({"keys": {"a": P384.jwk()}}).to_string(), form),
        ("keys twice", r#"{"keys":[],"keys":[]}"#.to_owned(), form),
        ("something behind", r#"{"keys":[]} x"#.to_owned(), form),
        ("deep", format!("{{\"keys\":{}{}}}", "[".repeat(9999), "]".repeat(9999)), form),
        ("a private key in PEM", P384.private_pem.clone(), form),
        ("many keys", json!({"keys": many}).to_string(), "more than 100 keys"),
        ("long", format!("{{\"keys\":[]{}}}", " ".repeat(256 << 10)), "longer than 256 KiB"),
    ];
    for (name, document, why) in rows {
        let error = KeySet::from_json(document.as_bytes()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(why), "{name}: {error}");
        assert!(!format!("{error:?}").contains("AQAB"), "{name}");
    }
}

#[tokio::test]
async fn a_point_that_is_not_on_the_curve_checks_nothing() {
    let keys = json!({"keys": [changed(&P384, "x", encode([7; 48]))]});
    let refused = super::verifier_with(&keys).verify(&P384.token(&claims()), NOW).await;
    assert_eq!(refused, Err(Refusal::Signature));
}

/// A place that answers what it is told to, and counts.
#[derive(Clone, Debug, Default)]
struct Told {
    answers: Arc<Mutex<VecDeque<Result<FetchedKeys, ()>>>>,
    asked: Arc<AtomicUsize>,
    /// While somebody holds it, no answer comes.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Told {
    fn answering(answers: impl IntoIterator<Item = Option<Value>>) -> Self {
        let fetched = |keys: Value| FetchedKeys { document: keys.to_string().into_bytes(), max_age: None };
        let answers = answers.into_iter().map(|keys| keys.map(fetched).ok_or(())).collect();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn verifier(&self) -> TokenVerifier {
        let keys = Arc::new(KeySource::new(self.clone(), KeyPatience::default()));
        TokenVerifier::new(ISSUER, [STORE], keys).unwrap()
    }
}

#[async_trait::async_trait]
impl FetchKeys for Told {
    async fn fetch(&self) -> Result<FetchedKeys> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().await);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Err(()));
        answer.map_err(|()| Error::new(ErrorKind::Source, "out of order"))
    }
}

/// A token that is valid at a later time.
fn token_at(key: &SigningKey, now: i64) -> String {
    let mut claims = but("exp", now + 100);
    claims["nbf"] = json!(now);
    claims["iat"] = json!(now);
    key.token(&claims)
}

#[tokio::test]
async fn a_new_key_is_seen_and_an_old_one_is_gone() {
    let new = SigningKey::es384("new");
    let told = Told::answering([Some(key_set(&[&P384])), Some(key_set(&[&P384, &new])), Some(key_set(&[&new]))]);
    let verifier = told.verifier();
    assert!(verifier.verify(&token_at(&P384, NOW), NOW).await.is_ok());
    assert!(verifier.verify(&token_at(&P384, NOW + 200), NOW + 200).await.is_ok());
    assert_eq!(told.asked(), 1);
    // A key that isn't known is looked for.
    assert!(verifier.verify(&token_at(&new, NOW + 200), NOW + 200).await.is_ok());
    assert!(verifier.verify(&token_at(&P384, NOW + 499), NOW + 499).await.is_ok());
    assert_eq!(told.asked(), 2);
    // What the issuer has taken back isn't used once the set is fetched again.
    assert_eq!(verifier.verify(&token_at(&P384, NOW + 500), NOW + 500).await, Err(Refusal::UnknownKey));
    assert!(verifier.verify(&token_at(&new, NOW + 500), NOW + 500).await.is_ok());
    assert_eq!(told.asked(), 3);
}

#[tokio::test]
async fn invented_key_ids_do_not_make_us_hammer_the_issuer() {
    let told = Told::answering((0..100).map(|_| Some(key_set(&[&P384]))));
    let verifier = told.verifier();
    for second in 0..60 {
        for stranger in 0..5 {
            let mut header = STRANGE_P384.header();
            header["kid"] = json!(format!("{second} {stranger}"));
            let token = STRANGE_P384.sign(&header, &claims());
            assert_eq!(verifier.verify(&token, NOW + second).await, Err(Refusal::UnknownKey));
        }
    }
    assert_eq!(told.asked(), 6);
}

#[tokio::test]
async fn old_keys_are_used_for_a_bounded_time_while_the_issuer_is_down() {
    let told = Told::answering([Some(key_set(&[&P384]))]);
    let verifier = told.verifier();
    for later in [0, 299, 300, 600, 3899] {
        assert!(verifier.verify(&token_at(&P384, NOW + later), NOW + later).await.is_ok(), "{later}");
    }
    assert_eq!(told.asked(), 4);
    let refused = verifier.verify(&token_at(&P384, NOW + 3900), NOW + 3900).await;
    assert_eq!(refused, Err(Refusal::KeysUnavailable));
    // A broken document is no better than none, and an answer mends it all.
    told.answers.lock().unwrap().extend([
        Ok(FetchedKeys { document: b"<html>".to_vec(), max_age: None }),
        Ok(FetchedKeys { document: key_set(&[&P384]).to_string().into_bytes(), max_age: None }),
    ]);
    let refused = verifier.verify(&token_at(&P384, NOW + 3910), NOW + 3910).await;
    assert_eq!(refused, Err(Refusal::KeysUnavailable));
    assert!(verifier.verify(&token_at(&P384, NOW + 3920), NOW + 3920).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_takes_all_keys_back_is_believed() {
    let told = Told::answering([Some(key_set(&[&P384])), Some(json!({"keys": []}))]);
    let verifier = told.verifier();
    assert!(verifier.verify(&token_at(&P384, NOW), NOW).await.is_ok());
    assert_eq!(verifier.verify(&token_at(&P384, NOW + 300), NOW + 300).await, Err(Refusal::UnknownKey));
}

#[tokio::test]
async fn keys_are_kept_no_longer_than_their_giver_says() {
    let told = Told::default();
    for max_age in [60, 0, 86_400] {
        let document = key_set(&[&P384]).to_string().into_bytes();
        let max_age = Some(Duration::from_secs(max_age));
        told.answers.lock().unwrap().push_back(Ok(FetchedKeys { document, max_age }));
    }
    let verifier = told.verifier();
    // For a minute; then until the next fetch may be made; then for five minutes, whatever is said.
    for (later, asked) in [(0, 1), (59, 1), (60, 2), (69, 2), (70, 3), (369, 3), (370, 4)] {
        assert!(verifier.verify(&token_at(&P384, NOW + later), NOW + later).await.is_ok());
        assert_eq!(told.asked(), asked, "after {later} s");
    }
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let told = Told::answering([Some(key_set(&[&P384]))]);
    let verifier = told.verifier();
    let token = P384.token(&claims());
    let closed = told.gate.lock().await;
    let all = futures::future::join_all((0..50).map(|_| verifier.verify(&token, NOW)));
    let (taken, ()) = futures::join!(all, async {
        tokio::task::yield_now().await;
        drop(closed);
    });
    assert!(taken.iter().all(Result::is_ok));
    assert_eq!(told.asked(), 1);
}

#[tokio::test]
async fn what_is_known_does_not_wait_for_an_issuer_that_hangs() {
    let told = Told::answering([Some(key_set(&[&P384])), None]);
    let verifier = told.verifier();
    assert!(verifier.verify(&token_at(&P384, NOW), NOW).await.is_ok());
    let closed = told.gate.lock().await;
    let token = token_at(&P384, NOW + 300);
    let first = verifier.verify(&token, NOW + 300);
    tokio::pin!(first);
    assert!(futures::poll!(&mut first).is_pending());
    assert!(verifier.verify(&token, NOW + 300).await.is_ok());
    drop(closed);
    assert!(first.await.is_ok());
}

#[tokio::test]
async fn a_check_that_is_dropped_while_it_fetches_leaves_no_lock_behind() {
    let told = Told::answering([Some(key_set(&[&P384]))]);
    let verifier = told.verifier();
    let token = P384.token(&claims());
    let closed = told.gate.lock().await;
    {
        let dropped = verifier.verify(&token, NOW);
        tokio::pin!(dropped);
        assert!(futures::poll!(&mut dropped).is_pending());
    }
    drop(closed);
    assert_eq!(verifier.verify(&token, NOW + 1).await, Err(Refusal::KeysUnavailable));
    assert!(verifier.verify(&token, NOW + 10).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_never_answers_is_given_up() {
    let told = Told::answering([Some(key_set(&[&P384]))]);
    let _closed = told.gate.lock().await;
    let refused = told.verifier().verify(&P384.token(&claims()), NOW).await;
    assert_eq!(refused, Err(Refusal::KeysUnavailable));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_keys() {
    let told = Told::answering([Some(key_set(&[&P384])), Some(key_set(&[&RSA]))]);
    let verifier = told.verifier();
    assert!(verifier.verify(&token_at(&P384, NOW), NOW).await.is_ok());
    // Threads that read the clock a moment before another don't count as that.
    assert!(verifier.verify(&token_at(&P384, NOW - 1), NOW - 1).await.is_ok());
    assert_eq!(told.asked(), 1);
    let before = NOW - 100_000;
    assert_eq!(verifier.verify(&token_at(&P384, before), before).await, Err(Refusal::UnknownKey));
    assert_eq!(told.asked(), 2);
}

#[tokio::test]
async fn a_server_that_starts_without_keys_says_so() {
    let check = async |told: Told| KeySource::new(told, KeyPatience::default()).check(NOW).await;
    assert_eq!(check(Told::answering([Some(key_set(&[&P384, &RSA]))])).await.unwrap(), 2);
    let error = check(Told::answering([None])).await.unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
    let small = json!({"keys": [changed(&RSA, "n", encode([255; 128]))]});
    let error = check(Told::answering([Some(small)])).await.unwrap_err();
    assert!(error.to_string().contains("its modulus isn't of 2048 to 8192 bits"), "{error}");
}

#[tokio::test]
async fn a_file_of_keys_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys = Arc::new(KeySource::new(KeyFile::new(&path), KeyPatience::default()));
    let error = keys.check(NOW).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let verifier = TokenVerifier::new(ISSUER, [STORE], keys).unwrap();
    std::fs::write(&path, key_set(&[&P384]).to_string()).unwrap();
    assert!(verifier.verify(&token_at(&P384, NOW + 10), NOW + 10).await.is_ok());
    std::fs::write(&path, key_set(&[&RSA]).to_string()).unwrap();
    assert!(verifier.verify(&token_at(&RSA, NOW + 20), NOW + 20).await.is_ok());
    assert_eq!(verifier.verify(&token_at(&P384, NOW + 20), NOW + 20).await, Err(Refusal::UnknownKey));
    std::fs::write(&path, vec![b' '; 1 << 20]).unwrap();
    let long = KeySource::new(KeyFile::new(&path), KeyPatience::default()).check(NOW).await.unwrap_err();
    assert!(long.to_string().contains("longer than 256 KiB"), "{long}");
}

/// Answers one request with these bytes, and then keeps the connection open if told to.
async fn answers_with(answer: Vec<u8>, stays: bool) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a server of a test, which ends with it")]
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = connection.read(&mut request).await.unwrap();
        request.truncate(length);
        // The client hangs up on what is too long.
        let _sent = connection.write_all(&answer).await;
        if stays {
            std::future::pending::<()>().await;
        }
        request
    });
    (url, server)
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn keys_are_fetched_from_a_url() {
    let set = key_set(&[&P384]).to_string();
    let head = "200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=7";
    let (url, server) = answers_with(http(head, set.as_bytes()), false).await;
    let fetched = KeyUrl::new(&url).unwrap().fetch().await.unwrap();
    assert_eq!((fetched.document, fetched.max_age), (set.into_bytes(), Some(Duration::from_secs(7))));
    let request = String::from_utf8(server.await.unwrap()).unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /jwks.json http/1.1\r\n") && request.contains("accept: application/json\r\n"));
    assert!(!request.contains("authorization") && !request.contains("cookie"));
}

#[tokio::test]
async fn answers_that_are_no_keys() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("302 Found\r\nLocation: http://{}/jwks.json", target.local_addr().unwrap());
    let set = key_set(&[&P384]).to_string().into_bytes();
    let endless = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), {
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
        chunk.repeat(160)
    }]
    .concat();
    #[rustfmt::skip]
    let rows = vec![
        ("a redirect", http(&elsewhere, &set), "doesn't answer 200"),
        ("a redirect for good", http("308 Permanent Redirect\r\nLocation: /", &set), "doesn't answer 200"),
        ("keys with another status", http("203 Non-Authoritative", &set), "doesn't answer 200"),
        ("a failure", http("500 Oh", b"{}"), "doesn't answer 200"),
        ("nothing", http("204 No Content", b""), "doesn't answer 200"),
        ("a page", http("200 OK\r\nContent-Type: text/html", b"<html>Sign in</html>"), "isn't a JSON object"),
        ("10 MB", http("200 OK", &vec![b' '; 10_000_000]), "longer than 256 KiB"),
        ("10 MB in pieces", endless, "longer than 256 KiB"),
        ("half an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":[".to_vec(), "broke off"),
        ("no HTTP", b"SSH-2.0-x\r\n".to_vec(), "can't be fetched"),
        ("nothing at all", Vec::new(), "can't be fetched"),
    ];
    for (name, answer, why) in rows {
        let (url, server) = answers_with(answer, false).await;
        let keys = KeySource::new(KeyUrl::new(&url).unwrap(), KeyPatience::default());
        let error = keys.check(NOW).await.unwrap_err();
        assert!(error.to_string().contains(why), "{name}: {error}");
        server.await.unwrap();
    }
    assert!(futures::poll!(Box::pin(target.accept())).is_pending(), "a redirect was followed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_is_given_up() {
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":[".to_vec();
    for answer in [Vec::new(), begun] {
        let (url, server) = answers_with(answer, true).await;
        let began = tokio::time::Instant::now();
        let keys = KeySource::new(KeyUrl::new(&url).unwrap(), KeyPatience::default());
        assert!(keys.check(NOW).await.unwrap_err().is_retryable());
        assert!(began.elapsed() <= Duration::from_millis(5100));
        server.abort();
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_read_as_keys(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(KeySet::from_json(&bytes).is_err());
    }

    #[test]
    fn keys_of_any_members_are_read_without_panic(
        members in prop::collection::vec((
            prop::sample::select(vec!["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]),
            prop_oneof![
                Just(json!("RSA")), Just(json!("EC")), Just(json!("P-384")), Just(json!("AQAB")), Just(json!(["verify"])),
                Just(Value::Null), any::<u8>().prop_map(Value::from),
            ],
        ), 0..8),
    ) {
        let jwk: Value = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let set = KeySet::from_json(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        prop_assert!(set.is_empty());
    }
}
