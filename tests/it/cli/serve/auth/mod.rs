//! A server that asks who is there, as a process of its own.

mod refusals;

use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use fhir_export::auth::sigv4::testing::{Signer, Unsigned};
use fhir_export::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::client::{Answer, Server, config};
use super::{PREFER, to_bucket};
use crate::cli::program::small;
use crate::support::s3_server::{BUCKET, S3Server};
use crate::support::token_server::TokenServer;
use crate::support::token_server::forge::SigningKey;

pub(super) const REGION: &str = "eu-west-1";
pub(super) const ROLE: &str = "arn:aws:iam::444455556666:role/my-role";

/// The secrets of the two keys, each from where the file says.
pub(super) const SECRETS: [(&str, &str); 2] = [
    ("NIGHTLY_SECRET", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYNIGHTLY"),
    ("LOOKER_SECRET", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYLOOKER"),
];

pub(super) fn policy(folder: &Path, name: &str, statements: &Value) {
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    fs::write(folder.join(name), document.to_string()).unwrap();
}

/// The beginning of a file with two keys: `NIGHTLY` may do everything and pass the role, `LOOKER` only look.
pub(super) fn two_keys(folder: &Path) -> String {
    let allow = |actions: Value, resource: &str| json!({"Effect": "Allow", "Action": actions, "Resource": resource});
    policy(folder, "all.json", &json!([allow(json!("healthlake:*"), "*"), allow(json!("iam:PassRole"), ROLE)]));
    policy(folder, "look.json", &json!([allow(json!(["healthlake:Describe*", "healthlake:List*"]), "*")]));
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "listen = '127.0.0.1:0'\nregion = '{REGION}'\naccount = '111122223333'\n\
         [[auth.keys]]\nid = 'NIGHTLY'\nsecret = '${{NIGHTLY_SECRET}}'\n\
         principal = 'arn:aws:iam::111122223333:user/nightly'\npolicies = ['{}']\n\
         [[auth.keys]]\nid = 'LOOKER'\nsecret = '${{LOOKER_SECRET}}'\n\
         principal = 'arn:aws:iam::111122223333:user/looker'\npolicies = ['{}']\n",
        path("all.json"),
        path("look.json"),
    )
}

/// Whose tokens are taken, in the words of the file.
pub(super) fn smart(tokens: &TokenServer, more: &str) -> String {
    let (issuer, keys, endpoint) = (tokens.issuer(), tokens.keys_url(), tokens.token_url());
    format!("[auth.smart]\nissuer = '{issuer}'\nkeys = '{keys}'\ntoken_endpoint = '{endpoint}'\n{more}\n")
}

pub(super) fn data_store() -> String {
    format!("[[data_stores]]\nid = 'clinic'\nsource = '{}'\n", small().display())
}

pub(super) fn start(folder: &Path, text: &str) -> Server {
    Server::start_with(&["--config", &config(folder, text)], folder, &SECRETS)
}

/// Asks with a signature of a key.
async fn signed(server: &Server, key: &str, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut signer = Signer::example(REGION, SystemClock.now());
    signer.access_key_id = key;
    signer.secret = if key == "NIGHTLY" { SECRETS[0].1 } else { SECRETS[1].1 };
    let address = server.address();
    let path = url.strip_prefix(&server.root()).unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut own = vec![("host", address.as_str())];
    own.extend(headers.iter().filter(|(name, _)| name.starts_with("x-amz-")));
    let signature = signer.sign(&Unsigned { method, path, query, headers: &own, body: body.as_bytes() });
    let signature = signature.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    server.ask(method, url, &headers.iter().copied().chain(signature).collect::<Vec<_>>(), body).await
}

async fn bearing(server: &Server, token: &str, method: &str, url: &str) -> Answer {
    server.ask(method, url, &[("authorization", &format!("Bearer {token}")), PREFER], "").await
}

/// Asks for a job with a token until it is over.
async fn manifest(server: &Server, token: &str, job: &str) -> Value {
    loop {
        let answer = bearing(server, token, "GET", job).await;
        if answer.status != StatusCode::ACCEPTED {
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            return answer.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_tokens_open_what_they_may_and_nothing_opens_more() {
    let folder = tempfile::tempdir().unwrap();
    // Without audiences, tokens are for the endpoint of the data store.
    let tokens = TokenServer::start("").await;
    let server = start(folder.path(), &[two_keys(folder.path()), smart(&tokens, ""), data_store()].concat());
    let base = server.bases[0].clone();
    let kick_off = format!("{base}/$export?_type=Patient");

    let nobody = server.ask("GET", &kick_off, &[PREFER], "").await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"));
    for open in ["/metadata", "/.well-known/smart-configuration"] {
        assert_eq!(server.get(&format!("{base}{open}")).await.status, StatusCode::OK, "{open}");
    }
    let found = server.get(&format!("{base}/.well-known/smart-configuration")).await.json();
    let said = ["token_endpoint", "issuer", "jwks_uri"].map(|name| found[name].as_str().unwrap().to_owned());
    assert_eq!(said, [tokens.token_url(), tokens.issuer().to_owned(), tokens.keys_url()]);

    let started = signed(&server, "NIGHTLY", "GET", &kick_off, &[PREFER], "").await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let job = started.header("content-location").to_owned();
    let refused = signed(&server, "LOOKER", "GET", &kick_off, &[PREFER], "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(signed(&server, "LOOKER", "GET", &job, &[], "").await.status.is_success());
    assert_eq!(signed(&server, "LOOKER", "DELETE", &job, &[], "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(signed(&server, "UNKNOWN", "GET", &job, &[], "").await.status, StatusCode::FORBIDDEN);

    let token =
        |audience: &str| tokens.mint("nightly", "system/Patient.rs", |_, claims| claims["aud"] = json!(audience));
    for audience in [base.clone(), format!("{base}/")] {
        let token = token(&audience);
        let started = bearing(&server, &token, "GET", &format!("{base}/$export")).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
        let manifest = manifest(&server, &token, started.header("content-location")).await;
        assert_eq!(
            (&manifest["output"][0]["type"], manifest["output"].as_array().unwrap().len()),
            (&json!("Patient"), 1)
        );
        let file = bearing(&server, &token, "GET", manifest["output"][0]["url"].as_str().unwrap()).await;
        assert_eq!(file.status, StatusCode::OK);
        assert_eq!(bearing(&server, &token, "GET", &job).await.status, StatusCode::NOT_FOUND, "another's job");
    }
    let elsewhere = bearing(&server, &token("https://elsewhere.example"), "GET", &kick_off).await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_callers_stores_unless_the_file_allows_it() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let s3 = format!("[s3]\nendpoint = 'http://{}'\n", store.address());
    let json_body = [PREFER, ("content-type", "application/json")];
    let body = |prefix: &str| to_bucket().replace(&format!("s3://{BUCKET}/out"), &format!("s3://{BUCKET}/{prefix}"));
    let allowing = format!("[outputs]\nallow = ['s3://{BUCKET}/exports/']\n");
    #[rustfmt::skip]
    let rows = [
        ("without a list", "", "exports/x", StatusCode::BAD_REQUEST),
        ("an empty list", "[outputs]\nallow = []\n", "exports/x", StatusCode::BAD_REQUEST),
        ("beside what is in the list", &allowing, "out", StatusCode::BAD_REQUEST),
        ("its beginning in a longer name", &allowing, "exports-of-others", StatusCode::BAD_REQUEST),
        ("below what is in the list", &allowing, "exports/x", StatusCode::ACCEPTED),
    ];
    for (name, list, prefix, status) in rows {
        let text = [two_keys(folder.path()), s3.clone(), list.to_owned(), data_store()].concat();
        let server = start(folder.path(), &text);
        let url = format!("{}/$export", server.bases[0]);
        let answer = signed(&server, "NIGHTLY", "POST", &url, &json_body, &body(prefix)).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if status == StatusCode::BAD_REQUEST {
            let said = answer.json()["issue"][0]["diagnostics"].as_str().unwrap().to_owned();
            assert!(said.starts_with("OutputDataConfig.S3Configuration.S3Uri"), "{name}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_session_is_known_with_its_token_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let session = |ends: &str| {
        let key = two_keys(folder.path()).replacen(
            "id = 'NIGHTLY'\n",
            &format!("id = 'NIGHTLY'\nsession_token = '${{LOOKER_SECRET}}'\nexpires = '{ends}'\n"),
            1,
        );
        key + &data_store()
    };
    let token = ("x-amz-security-token", SECRETS[1].1);
    for (ends, headers, expected) in [
        ("2999-01-01T00:00:00Z", vec![token], Ok(StatusCode::NOT_FOUND)),
        ("2999-01-01T00:00:00Z", vec![], Err("signature we calculated does not match")),
        (
            "2999-01-01T00:00:00Z",
            vec![("x-amz-security-token", "another")],
            Err("signature we calculated does not match"),
        ),
        ("2020-01-01T00:00:00Z", vec![token], Err("expired")),
        (
            "2020-01-01T00:00:00Z",
            vec![("x-amz-security-token", "another")],
            Err("signature we calculated does not match"),
        ),
    ] {
        let server = start(folder.path(), &session(ends));
        let answer = signed(&server, "NIGHTLY", "GET", &format!("{}/export/none", server.bases[0]), &headers, "").await;
        match expected {
            Ok(status) => assert_eq!(answer.status, status, "{answer:?}"),
            Err(name) => {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
                assert!(answer.text().contains(name), "{name}: {}", answer.text());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_of_a_policy_is_not_understood_is_told_and_allows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = two_keys(folder.path()) + &data_store();
    let condition = json!({"StringEquals": {"aws:NoSuchKey": "x"}});
    let statement = json!({"Effect": "Allow", "Action": "healthlake:*", "Resource": "*", "Condition": condition});
    policy(folder.path(), "all.json", &json!([statement]));
    let mut server = start(folder.path(), &text);
    server.until_said("serve.toml:8: policies: ");
    let refused = signed(&server, "NIGHTLY", "GET", &format!("{}/$export", server.bases[0]), &[PREFER], "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_comes_later_is_told_of_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("jwks.json");
    let smart = format!("[auth.smart]\nissuer = 'https://issuer.example'\nkeys = '{}'\n", keys.display());
    let text = format!("listen = '127.0.0.1:0'\n{smart}{}", data_store());
    let mut server = start(folder.path(), &text);
    server.until_said("warning: no token can be taken now: the file of the keys can't be read");
    let url = format!("{}/.well-known/smart-configuration", server.bases[0]);
    assert_eq!(server.get(&url).await.status, StatusCode::NOT_FOUND, "nothing says where tokens are to be had");
    fs::write(keys, crate::support::token_server::forge::key_set(&[&SigningKey::es384("one")]).to_string()).unwrap();
    let answer = bearing(&server, "nonsense", "GET", &format!("{}/$export", server.bases[0])).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_in_the_file_and_a_job_leaves_an_audit_event() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.ndjson");
    let limits = "[limits]\nbody_bytes = 300\nquery_bytes = 200\nhead_bytes = 8192\nheaders = 20\ncohort = 1\n";
    let audit = format!("[audit]\nevents = '{}'\n", events.display());
    let server = start(folder.path(), &[two_keys(folder.path()), limits.to_owned(), audit, data_store()].concat());
    let base = server.bases[0].clone();
    let long = format!("{base}/$export?_type={}", "a".repeat(200));
    assert_eq!(signed(&server, "NIGHTLY", "GET", &long, &[PREFER], "").await.status, StatusCode::URI_TOO_LONG);
    let start = format!("{base}/$export");
    let json_body = [PREFER, ("content-type", "application/json")];
    let body = " ".repeat(301);
    assert_eq!(
        signed(&server, "NIGHTLY", "POST", &start, &json_body, &body).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let names: Vec<String> = (0..20).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let refused = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    assert_eq!(server.ask("GET", &start, &many, "").await.status, refused, "too many headers");
    let wide = "1".repeat(9000);
    assert_eq!(server.ask("GET", &start, &[("x-wide", &wide)], "").await.status, refused, "too long a head");

    let group = format!("{base}/Group/nested/$export");
    let started = signed(&server, "NIGHTLY", "GET", &group, &[PREFER], "").await;
    assert!(started.text().contains("more than 1 patients"), "{started:?}");
    let started = signed(&server, "NIGHTLY", "GET", &format!("{start}?_type=Patient"), &[PREFER], "").await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let job = started.header("content-location").to_owned();
    while signed(&server, "NIGHTLY", "GET", &job, &[], "").await.status == StatusCode::ACCEPTED {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // It is kept just behind the job's end.
    let mut kept = String::new();
    for _ in 0..200 {
        kept = fs::read_to_string(&events).unwrap();
        if !kept.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let event: Value = serde_json::from_str(kept.trim_end()).unwrap();
    assert_eq!(event["agent"][0]["who"]["identifier"]["value"], "arn:aws:iam::111122223333:user/nightly");
}
