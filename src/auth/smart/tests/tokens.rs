//! Tokens.

use std::time::Duration;

use jsonwebtoken::Algorithm as Signed;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::forge::{SigningKey, encode, key_set, sign_with_secret};
use super::super::{Algorithm, Refusal, RequiredClaim, Seen, TokenVerifier, bearer_token};
use super::{
    ISSUER, NOW, P256, P384, RSA, STORE, STRANGE_P384, STRANGE_RSA, but, claims, source, verifier, verifier_with,
    without,
};

type Row = (&'static str, String, Result<(), Refusal>);

async fn check(verifier: &TokenVerifier, rows: Vec<Row>) {
    let mut faults = Vec::new();
    for (name, token, expected) in rows {
        let found = verifier.verify(&token, NOW).await.map(|_| ());
        if found != expected {
            faults.push(format!("{name}: {found:?} in place of {expected:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn header_with(name: &str, value: impl Into<Value>) -> Value {
    let mut header = P384.header();
    header[name] = value.into();
    header
}

fn with_header(name: &str, value: impl Into<Value>) -> String {
    P384.sign(&header_with(name, value), &claims())
}

#[tokio::test]
async fn tokens_that_are_taken() {
    let mut no_kid = P384.header();
    no_kid.as_object_mut().unwrap().remove("kid");
    let mut no_type = P384.header();
    no_type.as_object_mut().unwrap().remove("typ");
    let mut by_client_id = without("sub");
    by_client_id["client_id"] = json!("the-client");
    let own_key = STRANGE_P384.jwk();
    let mut just_expired = but("exp", NOW - 29);
    just_expired["iat"] = json!(NOW - 300);
    just_expired["nbf"] = json!(NOW - 300);
    #[rustfmt::skip]
    let rows = vec![
        ("RS384", RSA.token(&claims()), Ok(())),
        ("ES384", P384.token(&claims()), Ok(())),
        ("no type", P384.sign(&no_type, &claims()), Ok(())),
        ("the type of RFC 9068", with_header("typ", "at+jwt"), Ok(())),
        ("the long type of RFC 9068", with_header("typ", "application/at+jwt"), Ok(())),
        ("a type in small letters", with_header("typ", "jwt"), Ok(())),
        ("no key id, and one key of the kind", P384.sign(&no_kid, &claims()), Ok(())),
        ("an audience among others", P384.token(&but("aud", json!(["x", STORE]))), Ok(())),
        ("an audience without its last slash", P384.token(&but("aud", STORE.trim_end_matches('/'))), Ok(())),
        ("scopes as an array", P384.token(&but("scope", json!(["openid", "system/*.rs"]))), Ok(())),
        ("scopes that export nothing are no fault of the token", P384.token(&but("scope", "openid")), Ok(())),
        ("a time with a fraction", P384.token(&but("exp", 1_700_000_290.5)), Ok(())),
        ("expired within what clocks may differ by", P384.token(&just_expired), Ok(())),
        ("not yet valid, within the same", P384.token(&but("nbf", NOW + 30)), Ok(())),
        ("issued in the future, within the same", P384.token(&but("iat", NOW + 30)), Ok(())),
        ("no nbf", P384.token(&without("nbf")), Ok(())),
        ("no iat", P384.token(&without("iat")), Ok(())),
        ("no id", P384.token(&without("jti")), Ok(())),
        ("the caller by client_id", P384.token(&by_client_id), Ok(())),
        ("claims that aren't ours", P384.token(&but("cnf", json!({"x": [1, {"y": null}]}))), Ok(())),
        ("isAuthorized", P384.token(&but("isAuthorized", true)), Ok(())),
        ("isAuthorized as HealthLake's sample has it", P384.token(&but("isAuthorized", "true")), Ok(())),
        ("a URL of keys, which isn't followed", with_header("jku", "http://169.254.169.254/"), Ok(())),
        ("a URL of certificates, which isn't followed", with_header("x5u", "http://169.254.169.254/"), Ok(())),
        ("a key of its own, which isn't used", with_header("jwk", own_key), Ok(())),
    ];
    check(&verifier(), rows).await;
}

#[tokio::test]
async fn tokens_of_a_wrong_form_are_refused() {
    let good = P384.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let form = || Err(Refusal::Malformed("form"));
    let in_header = || Err(Refusal::Malformed("header"));
    let in_claims = || Err(Refusal::Malformed("claims"));
    let in_signature = || Err(Refusal::Malformed("signature"));
    let text = |header: &str| P384.sign_text(header, &claims().to_string());
    let body_text = |claims: &str| P384.sign_text(&P384.header().to_string(), claims);
    let claims_text = claims().to_string();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    #[rustfmt::skip]
    let rows = vec![
        ("nothing", String::new(), form()),
        ("a word", "token".to_owned(), form()),
        ("one part", header.to_owned(), form()),
        ("two parts", message.to_owned(), form()),
        ("four parts", P384.sign_message(&format!("{message}.{body}")), form()),
        ("five parts, as what is encrypted has", format!("{header}.{body}.{signature}.{body}.{signature}"), form()),
        ("dots", "..".to_owned(), in_header()),
        ("no header", format!(".{body}.{signature}"), in_header()),
        ("no claims", P384.sign_message(&format!("{header}.")), in_claims()),
        ("no signature", format!("{message}."), Err(Refusal::Signature)),
        ("a blank in front", format!(" {good}"), in_header()),
        ("a blank behind", format!("{good} "), in_signature()),
        ("a line feed behind", format!("{good}\n"), in_signature()),
        ("a NUL behind", format!("{good}\0"), in_signature()),
        ("padding", format!("{good}="), in_signature()),
        ("the other base64", format!("{message}.{}", "+/".repeat(64)), in_signature()),
        ("a header that is no JSON", text("RS384"), in_header()),
        ("a header that is an array of its members", text(r#"["ES384","JWT","p384"]"#), in_header()),
        ("a header that is a text", text(r#""ES384""#), in_header()),
        ("a header that is null", text("null"), in_header()),
        ("a header without algorithm", text(r#"{"kid":"p384"}"#), in_header()),
        ("an algorithm that is a number", text(r#"{"alg":384,"kid":"p384"}"#), in_header()),
        ("an algorithm that is null", text(r#"{"alg":null,"kid":"p384"}"#), in_header()),
        ("two algorithms", text(r#"{"alg":"none","alg":"ES384","kid":"p384"}"#), in_header()),
        ("two algorithms, one in escapes", text(r#"{"alg":"ES384","\u0061lg":"none","kid":"p384"}"#), in_header()),
        ("two key ids", text(r#"{"alg":"ES384","kid":"x","kid":"p384"}"#), in_header()),
        ("a key id that is a path of members", text(r#"{"alg":"ES384","kid":{"x":"p384"}}"#), in_header()),
        ("something behind the header", text(r#"{"alg":"ES384","kid":"p384"} {}"#), in_header()),
        ("a byte order mark", text("\u{feff}{\"alg\":\"ES384\",\"kid\":\"p384\"}"), in_header()),
        ("a deep member of the header, which isn't read", text(&format!("{{\"alg\":\"ES384\",\"x\":{deep}}}")), Ok(())),
        ("a deep key id", text(&format!("{{\"alg\":\"ES384\",\"kid\":{deep}}}")), in_header()),
        ("claims that are no JSON", body_text("claims"), in_claims()),
        ("claims that are an array", body_text("[]"), in_claims()),
        ("two issuers", body_text(&claims_text.replacen('{', "{\"iss\":\"https://evil.example\",", 1)), in_claims()),
        ("two scopes", body_text(&claims_text.replacen('{', "{\"scope\":\"system/*.*\",", 1)), in_claims()),
        ("two ends", body_text(&claims_text.replacen('{', "{\"exp\":99999999999,", 1)), in_claims()),
        ("a deep claim, which isn't read", body_text(&claims_text.replacen('{', &format!("{{\"x\":{deep},"), 1)), Ok(())),
        ("a deep scope", body_text(&format!("{{\"scope\":{deep}}}")), in_claims()),
        ("bytes that are no UTF-8", P384.sign_message(&format!("{header}.{}", encode(b"{\"iss\":\"\xff\"}"))), in_claims()),
        ("a long token", P384.token(&but("x", "a".repeat(20_000))), Err(Refusal::TooLong)),
        ("a very long word", "a".repeat(10 << 20), Err(Refusal::TooLong)),
    ];
    check(&verifier(), rows).await;
}

#[tokio::test]
async fn tokens_with_another_algorithm_or_key_are_refused() {
    let unsigned = |alg: &str| {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "p384"});
        format!("{}.{}.", encode(header.to_string()), encode(claims().to_string()))
    };
    let relabelled = |alg: &str, kid: &str| {
        let good = RSA.token(&claims());
        let mut parts = good.splitn(3, '.').skip(1);
        let header = json!({"alg": alg, "typ": "JWT", "kid": kid});
        format!("{}.{}.{}", encode(header.to_string()), parts.next().unwrap(), parts.next().unwrap())
    };
    let as_secret = |algorithm: Signed, secret: &[u8]| {
        let header = json!({"alg": format!("{algorithm:?}"), "typ": "JWT", "kid": "rsa"});
        sign_with_secret(algorithm, &header, &claims(), secret)
    };
    let mut no_kid = RSA.header();
    no_kid.as_object_mut().unwrap().remove("kid");
    let algorithm = || Err(Refusal::Algorithm);
    let unknown = || Err(Refusal::UnknownKey);
    let strange = |name: &str, value: Value| {
        let mut header = STRANGE_P384.header();
        header[name] = value;
        STRANGE_P384.sign(&header, &claims())
    };
    let spliced = |claims_of: &str, signature_of: &str| {
        let (message, _) = claims_of.rsplit_once('.').unwrap();
        let (_, signature) = signature_of.rsplit_once('.').unwrap();
        format!("{message}.{signature}")
    };
    let good = P384.token(&claims());
    let evil = P384.token(&but("sub", "another"));
    #[rustfmt::skip]
    let rows = vec![
        ("none", unsigned("none"), algorithm()),
        ("None", unsigned("None"), algorithm()),
        ("NONE", unsigned("NONE"), algorithm()),
        ("nOnE", unsigned("nOnE"), algorithm()),
        ("none with a blank", unsigned("none "), algorithm()),
        ("no name", unsigned(""), algorithm()),
        ("a right name without signature", unsigned("ES384"), Err(Refusal::Signature)),
        ("the public key as a secret, HS256", as_secret(Signed::HS256, RSA.public_pem.as_bytes()), algorithm()),
        ("the public key as a secret, HS384", as_secret(Signed::HS384, RSA.public_pem.as_bytes()), algorithm()),
        ("the published key as a secret", as_secret(Signed::HS512, RSA.jwk().to_string().as_bytes()), algorithm()),
        ("an empty secret", as_secret(Signed::HS256, b""), algorithm()),
        ("an algorithm that the operator doesn't allow", P256.token(&claims()), algorithm()),
        ("the name in small letters", with_header("alg", "es384"), algorithm()),
        ("PSS", relabelled("PS384", "rsa"), algorithm()),
        ("EdDSA", relabelled("EdDSA", "rsa"), algorithm()),
        ("ES384 with the id of an RSA key", relabelled("ES384", "rsa"), Err(Refusal::KeyKind)),
        ("RS384 with the id of a key of P-384", relabelled("RS384", "p384"), Err(Refusal::KeyKind)),
        ("ES384 with the id of a key of P-256", relabelled("ES384", "p256"), Err(Refusal::KeyKind)),
        ("ES384 with a signature of RSA", relabelled("ES384", "p384"), Err(Refusal::Signature)),
        ("another's key under our id, ES384", STRANGE_P384.token(&claims()), Err(Refusal::Signature)),
        ("another's key under our id, RS384", STRANGE_RSA.token(&claims()), Err(Refusal::Signature)),
        ("another's key, brought along", strange("jwk", STRANGE_P384.jwk()), Err(Refusal::Signature)),
        ("another's key, at a URL", strange("jku", json!("https://evil.example/jwks.json")), Err(Refusal::Signature)),
        ("another's certificate, at a URL", strange("x5u", json!("https://evil.example/x.pem")), Err(Refusal::Signature)),
        ("another's certificate, brought along", strange("x5c", json!(["MIIB"])), Err(Refusal::Signature)),
        ("the signature of another token", spliced(&evil, &good), Err(Refusal::Signature)),
        ("a signature of noughts", format!("{}.{}", good.rsplit_once('.').unwrap().0, encode([0; 96])), Err(Refusal::Signature)),
        ("a signature that is too short", format!("{}.{}", good.rsplit_once('.').unwrap().0, encode([1; 95])), Err(Refusal::Signature)),
        ("an unknown key", with_header("kid", "p385"), unknown()),
        ("a key id in capitals", with_header("kid", "P384"), unknown()),
        ("a key id with a path", with_header("kid", "../../dev/null"), unknown()),
        ("a key id with a query", with_header("kid", "p384' OR '1'='1"), unknown()),
        ("an empty key id", with_header("kid", ""), unknown()),
        ("a long key id", with_header("kid", "k".repeat(9000)), unknown()),
        ("what must be understood", with_header("crit", json!(["exp"])), Err(Refusal::Critical)),
        ("nothing that must be understood", with_header("crit", json!([])), Err(Refusal::Critical)),
        ("null that must be understood", with_header("crit", Value::Null), Err(Refusal::Critical)),
        ("a body that isn't encoded", with_header("b64", false), Err(Refusal::Critical)),
        ("a compressed body", with_header("zip", "DEF"), Err(Refusal::Critical)),
        ("an encrypted body", with_header("enc", "A256GCM"), Err(Refusal::Critical)),
        ("another type", with_header("typ", "secevent+jwt"), Err(Refusal::Type)),
        ("the type of a proof", with_header("typ", "dpop+jwt"), Err(Refusal::Type)),
        ("an empty type", with_header("typ", ""), Err(Refusal::Type)),
    ];
    check(&verifier(), rows).await;

    let same_kind = verifier_with(&key_set(&[&RSA, &SigningKey::es384("one"), &SigningKey::es384("two")]));
    let mut header = P384.header();
    header.as_object_mut().unwrap().remove("kid");
    let rows = vec![
        ("no key id, and two keys of the kind", P384.sign(&header, &claims()), Err(Refusal::AmbiguousKey)),
        ("no key id, and one key of the kind", RSA.sign(&no_kid, &claims()), Ok(())),
    ];
    check(&same_kind, rows).await;
    let twice = verifier_with(&key_set(&[&P384, &STRANGE_P384]));
    check(&twice, vec![("an id that two keys have", P384.token(&claims()), Err(Refusal::AmbiguousKey))]).await;
    let none = verifier_with(&json!({"keys": []}));
    check(&none, vec![("an issuer without keys", P384.token(&claims()), unknown())]).await;
}

#[tokio::test]
async fn tokens_with_wrong_claims_are_refused() {
    let missing = |name| Err(Refusal::MissingClaim(name));
    let malformed = || Err(Refusal::Malformed("claims"));
    let with = |name: &str, value: Value| P384.token(&but(name, value));
    let text =
        |from: &str, to: &str| P384.sign_text(&P384.header().to_string(), &claims().to_string().replace(from, to));
    let mut empty_client = claims();
    empty_client["client_id"] = json!("");
    #[rustfmt::skip]
    let rows = vec![
        ("another issuer", with("iss", json!("https://evil.example")), Err(Refusal::Issuer)),
        ("an issuer with a slash behind", with("iss", json!(format!("{ISSUER}/"))), Err(Refusal::Issuer)),
        ("an issuer in capitals", with("iss", json!(ISSUER.to_uppercase())), Err(Refusal::Issuer)),
        ("an issuer that begins like ours", with("iss", json!(format!("{ISSUER}.evil.example"))), Err(Refusal::Issuer)),
        ("several issuers", with("iss", json!([ISSUER])), malformed()),
        ("no issuer", P384.token(&without("iss")), missing("iss")),
        ("a null issuer", with("iss", Value::Null), missing("iss")),
        ("another audience", with("aud", json!("https://export.example/datastore/9999/r4/")), Err(Refusal::Audience)),
        ("an audience above ours", with("aud", json!("https://export.example/")), Err(Refusal::Audience)),
        ("an audience below ours", with("aud", json!(format!("{STORE}Patient"))), Err(Refusal::Audience)),
        ("an audience with two slashes behind", with("aud", json!(format!("{STORE}/"))), Err(Refusal::Audience)),
        ("other audiences", with("aud", json!(["a", "b"])), Err(Refusal::Audience)),
        ("no audience in the array", with("aud", json!([])), Err(Refusal::Audience)),
        ("an empty audience", with("aud", json!("")), Err(Refusal::Audience)),
        ("a slash as audience", with("aud", json!("/")), Err(Refusal::Audience)),
        ("a star as audience", with("aud", json!("*")), Err(Refusal::Audience)),
        ("an array in the array of audiences", with("aud", json!([[STORE]])), malformed()),
        ("an object as audience", with("aud", json!({STORE: STORE})), malformed()),
        ("no audience", P384.token(&without("aud")), missing("aud")),
        ("expired", with("exp", json!(NOW - 30)), Err(Refusal::Expired)),
        ("expired long ago", with("exp", json!(0)), Err(Refusal::Expired)),
        ("no end", P384.token(&without("exp")), missing("exp")),
        ("a null end", with("exp", Value::Null), missing("exp")),
        ("an end that is a text", with("exp", json!("1700000290")), malformed()),
        ("an end in milliseconds", with("exp", json!((NOW + 290) * 1000)), malformed()),
        ("an end below nought", with("exp", json!(-1)), malformed()),
        ("an end beyond numbers", text("1700000290", "1e999"), malformed()),
        ("an end far away", text("1700000290", "1e300"), malformed()),
        ("an end that is no number", text("1700000290", "NaN"), malformed()),
        ("an end that is an array", with("exp", json!([NOW + 290])), malformed()),
        ("not yet valid", with("nbf", json!(NOW + 31)), Err(Refusal::NotYetValid)),
        ("valid after its end only", with("nbf", json!(NOW + 291)), Err(Refusal::NotYetValid)),
        ("a beginning that is a text", with("nbf", json!("0")), malformed()),
        ("issued in the future", with("iat", json!(NOW + 31)), Err(Refusal::IssuedAt)),
        ("issued as a text", with("iat", json!("yesterday")), malformed()),
        ("no scope", P384.token(&without("scope")), missing("scope")),
        ("a null scope", with("scope", Value::Null), missing("scope")),
        ("a scope that is an object", with("scope", json!({"system/*.rs": true})), malformed()),
        ("a scope that is true", with("scope", json!(true)), malformed()),
        ("no caller", P384.token(&without("sub")), missing("sub")),
        ("an empty caller", with("sub", json!("")), Err(Refusal::Caller)),
        ("an empty client beside a subject", P384.token(&empty_client), Err(Refusal::Caller)),
        ("a caller with a line feed", with("sub", json!("x\nallowed: true")), Err(Refusal::Caller)),
        ("a caller with an escape for screens", with("sub", json!("x\u{1b}[2J")), Err(Refusal::Caller)),
        ("a long caller", with("sub", json!("x".repeat(256))), Err(Refusal::Caller)),
        ("a caller that is a number", with("sub", json!(1)), malformed()),
        ("isAuthorized false", with("isAuthorized", json!(false)), Err(Refusal::NotAuthorized)),
        ("isAuthorized false as a text", with("isAuthorized", json!("false")), Err(Refusal::NotAuthorized)),
        ("isAuthorized TRUE as a text", with("isAuthorized", json!("TRUE")), Err(Refusal::NotAuthorized)),
        ("isAuthorized 1", with("isAuthorized", json!(1)), malformed()),
    ];
    check(&verifier(), rows).await;
}

#[tokio::test]
async fn the_claims_of_healthlake_are_demanded_where_they_are_asked_for() {
    let verifier = verifier().with_required_claims(RequiredClaim::HEALTHLAKE);
    let mut good = but("isAuthorized", true);
    let mut rows = vec![
        ("no isAuthorized", P384.token(&claims()), Err(Refusal::MissingClaim("isAuthorized"))),
        ("all claims", P384.token(&good), Ok(())),
        (
            "isAuthorized null",
            P384.token(&but("isAuthorized", Value::Null)),
            Err(Refusal::MissingClaim("isAuthorized")),
        ),
    ];
    good.as_object_mut().unwrap().remove("nbf");
    rows.push(("no nbf", P384.token(&good), Err(Refusal::MissingClaim("nbf"))));
    check(&verifier, rows).await;
    let verifier = super::verifier().with_required_claims([RequiredClaim::Id, RequiredClaim::IssuedAt]);
    let rows = vec![
        ("no id", P384.token(&without("jti")), Err(Refusal::MissingClaim("jti"))),
        ("no iat", P384.token(&without("iat")), Err(Refusal::MissingClaim("iat"))),
        ("both", P384.token(&claims()), Ok(())),
    ];
    check(&verifier, rows).await;
}

#[tokio::test]
async fn an_operator_allows_other_algorithms_by_name() {
    let verifier = verifier().with_algorithms([Algorithm::Es256]).unwrap();
    let rows = vec![
        ("ES256", P256.token(&claims()), Ok(())),
        ("ES384", P384.token(&claims()), Err(Refusal::Algorithm)),
        ("RS384", RSA.token(&claims()), Err(Refusal::Algorithm)),
    ];
    check(&verifier, rows).await;
    // The key says that it is for RS384 only, whatever else is allowed.
    let rs256 = SigningKey {
        id: RSA.id.clone(),
        algorithm: Signed::RS256,
        key: RSA.key.clone(),
        private_pem: String::new(),
        public_pem: String::new(),
    };
    let verifier = super::verifier().with_algorithms(Algorithm::ALL).unwrap();
    let rows = vec![("RS256 with a key for RS384", rs256.token(&claims()), Err(Refusal::KeyKind))];
    check(&verifier, rows).await;
    let mut keys = key_set(&[&RSA]);
    keys["keys"][0].as_object_mut().unwrap().remove("alg");
    let verifier = verifier_with(&keys).with_algorithms([Algorithm::Rs256]).unwrap();
    check(&verifier, vec![("RS256 with a key for any", rs256.token(&claims()), Ok(()))]).await;
    assert!(super::verifier().with_algorithms([]).is_err());
}

#[tokio::test]
async fn a_token_is_used_many_times_unless_the_operator_says_once() {
    let token = P384.token(&claims());
    let many = verifier();
    assert!(many.verify(&token, NOW).await.is_ok() && many.verify(&token, NOW).await.is_ok());

    let once = verifier().with_one_time_tokens(Seen::new(2).unwrap());
    let expired = P384.token(&but("exp", NOW - 100));
    #[rustfmt::skip]
    let rows = vec![
        ("one that is refused isn't used up", P384.token(&but("aud", "x")), Err(Refusal::Audience)),
        ("an expired one", expired, Err(Refusal::Expired)),
        ("without an id", P384.token(&without("jti")), Err(Refusal::MissingClaim("jti"))),
        ("the first time", token.clone(), Ok(())),
        ("the second time", token.clone(), Err(Refusal::Replayed)),
        ("signed again with the same id", RSA.token(&claims()), Err(Refusal::Replayed)),
        ("another", P384.token(&but("jti", "2")), Ok(())),
        ("more than are remembered", P384.token(&but("jti", "3")), Err(Refusal::TooManySeen)),
        ("again, when full", token.clone(), Err(Refusal::Replayed)),
    ];
    check(&once, rows).await;
    // As long as clocks may differ, the token would still be taken.
    assert_eq!(once.verify(&token, NOW + 290 + 29).await, Err(Refusal::Replayed));
    assert_eq!(once.verify(&token, NOW + 290 + 30).await, Err(Refusal::Expired));
}

#[tokio::test]
async fn what_a_token_says_is_handed_on() {
    let mut claims = claims();
    claims["client_id"] = json!("the-app");
    let claims = verifier().verify(&RSA.token(&claims), NOW).await.unwrap();
    assert_eq!((claims.issuer(), claims.caller(), claims.token_id()), (ISSUER, "the-app", Some("1")));
    assert_eq!((claims.expires_unix_seconds(), claims.scope()), (NOW + 290, "system/*.rs"));
    assert!(claims.readable().is_ok());
}

#[tokio::test]
async fn no_refusal_says_more_than_it_must() {
    let mut words = Vec::new();
    for token in
        [P384.token(&but("exp", 0)), STRANGE_P384.token(&claims()), with_header("kid", "secret-kid"), "x".into()]
    {
        let refusal = verifier().verify(&token, NOW).await.unwrap_err();
        for part in token.split('.').filter(|part| part.len() > 1) {
            assert!(!format!("{refusal} {refusal:?} {}", refusal.www_authenticate()).contains(part), "{refusal:?}");
        }
        assert!(!format!("{refusal:?}{refusal}").contains("secret-kid"));
        assert_eq!(refusal.status(), 401);
        words.push(refusal.www_authenticate());
    }
    assert_eq!(words[0], "Bearer error=\"invalid_token\", error_description=\"the token has expired\"");
    // Who can't sign learns nothing of why.
    assert_eq!(words[1], "Bearer error=\"invalid_token\", error_description=\"the token can not be verified\"");
    assert!(words[1..].iter().all(|one| *one == words[1]));
    assert_eq!(Refusal::KeysUnavailable.status(), 503);
}

#[test]
fn a_check_that_would_check_nothing_can_not_be_made() {
    let keys = || source(&json!({"keys": []}));
    assert!(TokenVerifier::new("", [STORE], keys()).is_err());
    assert!(TokenVerifier::new(ISSUER, Vec::<String>::new(), keys()).is_err());
    assert!(TokenVerifier::new(ISSUER, [STORE, ""], keys()).is_err());
    assert!(TokenVerifier::new(ISSUER, ["/"], keys()).is_err());
    assert!(verifier().with_leeway(Duration::from_secs(301)).is_err());
    assert!(verifier().with_leeway(Duration::from_secs(300)).is_ok());
}

#[tokio::test]
async fn the_longest_token_is_a_setting() {
    let token = P384.token(&claims());
    let exactly = verifier().with_longest_token(token.len());
    assert!(exactly.verify(&token, NOW).await.is_ok());
    let shorter = verifier().with_longest_token(token.len() - 1);
    assert_eq!(shorter.verify(&token, NOW).await, Err(Refusal::TooLong));
}

#[test]
fn the_token_of_a_header_is_found() {
    let rows = [
        ("Bearer abc", Some("abc")),
        ("bearer abc", Some("abc")),
        ("BEARER  abc ", Some("abc")),
        ("Bearer ", None),
        ("Bearer", None),
        ("Bearer    ", None),
        ("", None),
        ("Basic abc", None),
        ("Bearerabc", None),
        ("AWS4-HMAC-SHA256 Credential=x", None),
    ];
    for (value, token) in rows {
        assert_eq!(bearer_token(value), token, "{value:?}");
    }
}

/// Every character of a token, changed in every bit that leaves it a character.
#[tokio::test]
async fn a_token_with_any_byte_changed_is_refused() {
    let verifier = verifier();
    let token = P384.token(&claims());
    for position in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[position] ^= 1 << bit;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(verifier.verify(&changed, NOW).await.is_err(), "byte {position}, bit {bit}");
        }
    }
}

fn wait_for<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_token_that_is_cut_or_has_something_put_in_is_refused(at in 0_usize..400, inserted in "[A-Za-z0-9_.=-]{0,3}") {
        let token = RSA.token(&claims());
        let at = at.min(token.len() - 1);
        let (front, back) = token.split_at(at);
        let verifier = verifier();
        wait_for(async {
            prop_assert!(verifier.verify(front, NOW).await.is_err());
            if !inserted.is_empty() {
                let longer = [front, &inserted, back].concat();
                prop_assert!(verifier.verify(&longer, NOW).await.is_err());
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_can_be_read_as_a_token(text in "\\PC{0,100}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let verifier = verifier();
        wait_for(async {
            prop_assert!(verifier.verify(&text, NOW).await.is_err());
            prop_assert!(verifier.verify(&P384.sign_text(&header, &claims), NOW).await.is_err());
            Ok(())
        })?;
    }

    #[test]
    fn signed_claims_of_any_kind_are_read_without_panic(name in prop::sample::select(vec![
        "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "client_id", "isAuthorized",
    ]), value in any_json()) {
        let verifier = verifier();
        let token = P384.token(&but(name, value.clone()));
        let read = wait_for(verifier.verify(&token, NOW));
        // Nothing but the right issuer, audience and time gets through.
        if let Ok(claims) = read {
            prop_assert_eq!(claims.issuer(), ISSUER);
            prop_assert!(claims.expires_unix_seconds() > NOW - 30);
            prop_assert!(name != "aud" || value.to_string().contains(STORE.trim_end_matches('/')));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,10}".prop_map(Value::from),
        Just(json!(STORE)),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,3}", inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}
