//! Callers with tokens of SMART on FHIR, and their scopes.

use super::*;
use crate::support::token_server::forge::SigningKey;

#[tokio::test]
async fn a_backend_service_gets_a_token_and_exports() {
    let guarded = Guarded::new().await;
    let found = guarded.served.get(&format!("{BASE}/.well-known/smart-configuration")).await.json();
    assert_eq!(found["token_endpoint"], guarded.tokens.token_url());
    let statement = guarded.served.get(&format!("{BASE}/metadata")).await.json();
    assert_eq!(statement["rest"][0]["security"]["service"][0]["coding"][0]["code"], "SMART-on-FHIR");
    for key in [SigningKey::es384("own"), SigningKey::rsa("own", jsonwebtoken::Algorithm::RS384)] {
        guarded.tokens.register("nightly", &key, "system/*.read");
        let token = guarded.tokens.token("nightly", &key, "system/*.read").await;
        let job = guarded.exported(&token, "").await;
        let manifest = guarded.bearing(&token, "GET", &job).await.json();
        assert_eq!(
            (types(&manifest), &manifest["requiresAccessToken"]),
            (vec!["Group", "Observation", "Patient"], &json!(true))
        );
        let file = path_of(manifest["output"][0]["url"].as_str().unwrap());
        assert_eq!(guarded.bearing(&token, "GET", &file).await.status, StatusCode::OK);
        assert_eq!(guarded.bearing(&token, "DELETE", &job).await.status, StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn narrow_scopes_narrow_what_is_exported_and_asking_for_more_is_refused() {
    let guarded = Guarded::new().await;
    for scope in
        ["system/Patient.read", "system/Patient.rs", "system/Patient.r system/Patient.s launch", "system/Patient.*"]
    {
        let token = guarded.token("a", scope, "store1");
        let job = guarded.exported(&token, "").await;
        let manifest = guarded.bearing(&token, "GET", &job).await.json();
        assert_eq!(types(&manifest), ["Patient"], "{scope}");
        let text = manifest.to_string();
        assert!(!text.contains("Observation"), "nor is it told how many there are of others: {text}");
        let beyond = guarded.bearing(&token, "GET", &format!("{BASE}/$export?_type=Patient,Observation")).await;
        assert_eq!(beyond.status, StatusCode::FORBIDDEN);
        assert_eq!(beyond.header("www-authenticate"), "Bearer error=\"insufficient_scope\"");
        let said = beyond.json()["issue"][0]["diagnostics"].as_str().unwrap().to_owned();
        assert!(said.contains("Observation") && !said.contains("Patient"), "{said}");
    }
    for scope in [
        "",
        "user/*.read",
        "patient/*.rs",
        "system/Patient.r",
        "system/*.s",
        "system/Patient.rs?name=a",
        "openid",
        "system/Nothing.read",
    ] {
        let token = guarded.token("a", scope, "store1");
        let refused = guarded.bearing(&token, "GET", &format!("{BASE}/$export")).await;
        assert!([401, 403].contains(&refused.status.as_u16()), "{scope}: {refused:?}");
    }
}

/// A source with deletions of Observations and of a Patient.
#[tokio::test]
async fn nothing_is_told_of_what_was_deleted_or_counted_beyond_the_scopes() {
    let guarded = Guarded::with(super::super::rows::deletions::remembering(), Vec::new()).await;
    let since = "_since=2020-01-01T00:00:00Z";
    for (scope, path, deleted, tells_sums, tells_cohort) in [
        ("system/*.read", "/$export", &["Observation", "Observation", "Patient"][..], true, false),
        ("system/Patient.rs", "/$export", &["Patient"], false, false),
        ("system/Group.rs", "/$export", &[], false, false),
        ("system/Observation.rs", "/Group/g/$export", &["Observation"], false, false),
        ("system/Patient.rs system/Group.rs", "/Group/g/$export", &[], false, true),
        ("system/*.rs", "/Group/g/$export", &["Observation"], true, true),
    ] {
        let token = guarded.token("a", scope, "store1");
        let started = guarded.bearing(&token, "GET", &format!("{BASE}{path}?{since}")).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
        guarded.served.service.idle().await;
        let job = path_of(started.header("content-location"));
        let manifest = guarded.bearing(&token, "GET", &job).await.json();
        let mut told = Vec::new();
        for file in manifest["deleted"].as_array().into_iter().flatten() {
            let file = guarded.bearing(&token, "GET", &path_of(file["url"].as_str().unwrap())).await;
            for line in std::str::from_utf8(&file.body).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                let urls =
                    line["entry"].as_array().unwrap().iter().map(|entry| entry["request"]["url"].as_str().unwrap());
                told.extend(urls.map(|url| url.split('/').next().unwrap().to_owned()));
            }
        }
        told.sort();
        assert_eq!(told, deleted, "{scope} {path}");
        let extension = &manifest["extension"];
        let seen = (extension.get("deletions").is_some(), extension.get("cohort").is_some());
        assert_eq!(seen, (tells_sums, tells_cohort), "{scope} {path}: {extension}");
    }
}

#[tokio::test]
async fn a_job_is_there_for_who_started_it_and_for_nobody_else() {
    let guarded = Guarded::new().await;
    let [own, others] = ["a", "b"].map(|client| guarded.token(client, "system/*.read", "store1"));
    let job = guarded.exported(&own, "").await;
    let file = path_of(guarded.bearing(&own, "GET", &job).await.json()["output"][0]["url"].as_str().unwrap());
    for (method, path) in [("GET", &job), ("DELETE", &job), ("GET", &file)] {
        assert_eq!(guarded.bearing(&others, method, path).await.status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    // Another token of the same client is as good, one with narrower scopes isn't.
    let again = guarded.token("a", "system/*.rs", "store1");
    assert_eq!(guarded.bearing(&again, "GET", &job).await.status, StatusCode::OK);
    let narrower = guarded.token("a", "system/Patient.read", "store1");
    assert_eq!(guarded.bearing(&narrower, "GET", &file).await.status, StatusCode::NOT_FOUND);
    // Who has the right on the data store sees it.
    assert_eq!(guarded.signed("LOOKER", "GET", &job, &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_opens_the_data_store_that_it_is_for() {
    let guarded = Guarded::new().await;
    let token = guarded.token("a", "system/*.read", "store1");
    for path in ["/datastore/store2/r4/$export", "/datastore/store2/r4/export/x", "/datastore/none/r4/$export", "/"] {
        let method = if path == "/" { "POST" } else { "GET" };
        let answer = guarded.bearing(&token, method, path).await;
        let refused = [400, 401].contains(&answer.status.as_u16());
        assert!(refused, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn no_scope_lets_anybody_pass_a_role() {
    let guarded = Guarded::new().await;
    let token = guarded.token("a", "system/*.*", "store1");
    let bearer = format!("Bearer {token}");
    let headers =
        [("authorization", bearer.as_str()), ("prefer", "respond-async"), ("content-type", "application/json")];
    let answer = guarded.served.ask("POST", &format!("{BASE}/$export"), &headers, healthlake_body()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(guarded.served.buckets.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn keys_of_the_issuer_may_change() {
    let guarded = Guarded::new().await;
    let path = format!("{BASE}/export/x");
    let ask = async || guarded.bearing(&guarded.token("a", "system/*.read", "store1"), "GET", &path).await.status;
    assert_eq!(ask().await, StatusCode::NOT_FOUND);
    guarded.tokens.rotate();
    assert!(
        [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED].contains(&ask().await),
        "asked for again at once, or soon"
    );
}
