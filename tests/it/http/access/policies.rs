//! Callers who sign, and their policies.

use super::*;

#[tokio::test]
async fn a_signed_caller_exports_looks_downloads_and_deletes() {
    let guarded = Guarded::new().await;
    let job = guarded.started("FIRST").await;
    guarded.served.service.idle().await;
    let over = guarded.signed("FIRST", "GET", &job, &[], "").await;
    assert_eq!(over.status, StatusCode::OK, "{over:?}");
    let manifest = over.json();
    assert_eq!(manifest["requiresAccessToken"], true);
    assert_eq!(types(&manifest), ["Group", "Observation", "Patient"]);
    for file in manifest["output"].as_array().unwrap() {
        let path = path_of(file["url"].as_str().unwrap());
        let file = guarded.signed("FIRST", "GET", &path, &[], "").await;
        assert_eq!(file.status, StatusCode::OK);
        assert_eq!(guarded.served.get(&path).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(guarded.signed("FIRST", "DELETE", &job, &[], "").await.status, StatusCode::ACCEPTED);
    assert_eq!(guarded.signed("FIRST", "GET", &job, &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn each_action_asks_for_its_own_right() {
    let guarded = Guarded::new().await;
    let job = guarded.started("OWNER").await;
    guarded.served.service.idle().await;
    assert_eq!(guarded.signed("LOOKER", "GET", &job, &[], "").await.status, StatusCode::OK);
    let file =
        path_of(guarded.signed("LOOKER", "GET", &job, &[], "").await.json()["output"][0]["url"].as_str().unwrap());
    for (method, path) in [("DELETE", job.as_str()), ("GET", &file), ("GET", &format!("{BASE}/$export"))] {
        let answer = guarded.signed("LOOKER", method, path, ASYNC, "").await;
        assert_eq!((answer.status, answer.issues()), (StatusCode::FORBIDDEN, vec![("forbidden".to_owned(), None)]));
    }
    let denied = guarded.sdk("LOOKER", "StartFHIRExportJob", &super::super::sdk::start_input("t")).await;
    assert_eq!(denied.json()["__type"], "com.amazonaws.healthlake#AccessDeniedException");
    let listed = guarded.sdk("LOOKER", "ListFHIRExportJobs", &json!({"DatastoreId": "store1"})).await;
    assert_eq!(listed.json()["ExportJobPropertiesList"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_for_one_data_store_opens_no_other() {
    let guarded = Guarded::new().await;
    let of_other = guarded.signed("OWNER", "GET", "/datastore/store2/r4/$export", ASYNC, "").await;
    let of_other = path_of(of_other.header("content-location"));
    for path in ["/datastore/store2/r4/$export", of_other.as_str(), "/datastore/%73tore2/r4/$export"] {
        let answer = guarded.signed("FIRST", "GET", path, ASYNC, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    // The job's id is known, but it is another data store's.
    let id = of_other.rsplit('/').next().unwrap();
    let answer = guarded.signed("FIRST", "GET", &format!("{BASE}/export/{id}"), &[], "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let denied = guarded.sdk("FIRST", "ListFHIRExportJobs", &json!({"DatastoreId": "store2"})).await;
    assert_eq!(denied.json()["__type"], "com.amazonaws.healthlake#AccessDeniedException");
}

#[tokio::test]
async fn a_role_is_passed_by_those_only_who_may_pass_it() {
    let guarded = Guarded::new().await;
    let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
    let path = format!("{BASE}/$export");
    let allowed = guarded.signed("FIRST", "POST", &path, &headers, &healthlake_body()).await;
    assert_eq!(allowed.status, StatusCode::ACCEPTED, "{allowed:?}");
    let denied = guarded.signed("NOROLE", "POST", &path, &headers, &healthlake_body()).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert!(denied.json()["issue"][0]["diagnostics"].as_str().unwrap().contains("iam:PassRole"));
    let denied = guarded.sdk("NOROLE", "StartFHIRExportJob", &super::super::sdk::start_input("t")).await;
    assert_eq!(denied.json()["__type"], "com.amazonaws.healthlake#AccessDeniedException");
    assert_eq!(guarded.served.buckets.asked.lock().unwrap().len(), 1, "nothing was opened for who may not");
}

#[tokio::test]
async fn a_start_that_was_overheard_and_is_sent_again_starts_nothing() {
    let guarded = Guarded::new().await;
    let path = format!("{BASE}/$export");
    let mut headers = sign("OWNER", "GET", &path, ASYNC, "");
    headers.push(("prefer".to_owned(), "respond-async".to_owned()));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let answer = guarded.served.ask("GET", &path, &headers, Body::empty()).await;
        jobs.push(path_of(answer.header("content-location")));
    }
    jobs.dedup();
    assert_eq!(jobs.len(), 1);
    assert_eq!(guarded.served.service.list("store1").await.unwrap().len(), 1);
}

#[tokio::test]
async fn anothers_client_token_is_another_token() {
    let guarded = Guarded::new().await;
    let input = super::super::sdk::start_input("same");
    let own = guarded.sdk("OWNER", "StartFHIRExportJob", &input).await.json();
    assert_eq!(guarded.sdk("OWNER", "StartFHIRExportJob", &input).await.json(), own);
    let others = guarded.sdk("FIRST", "StartFHIRExportJob", &input).await.json();
    assert_eq!(others["JobStatus"], "SUBMITTED");
    assert_ne!(others["JobId"], own["JobId"]);
}

#[tokio::test]
async fn who_may_start_is_told_so_at_the_base() {
    let guarded = Guarded::new().await;
    for (key, expected) in [("OWNER", StatusCode::BAD_REQUEST), ("LOOKER", StatusCode::FORBIDDEN)] {
        let answer = guarded.signed(key, "POST", &format!("{BASE}/"), &[], "").await;
        assert_eq!(answer.status, expected);
    }
    let answer = guarded.signed("OWNER", "POST", &format!("{BASE}/"), &[], "").await;
    assert_eq!(answer.issues(), [("not-supported".to_owned(), None)]);
}

#[tokio::test]
async fn conditions_see_the_request() {
    let conditioned = |condition: Value| {
        let mut statement = statement("Allow", &["healthlake:*"], "*");
        statement["Condition"] = condition;
        statement
    };
    let guarded = Guarded::with(
        grouped_source(),
        vec![
            key("TLSONLY", &[conditioned(json!({"Bool": {"aws:SecureTransport": "true"}}))]),
            key("REGIONAL", &[conditioned(json!({"StringEquals": {"aws:RequestedRegion": REGION}}))]),
            key("PAST", &[conditioned(json!({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}))]),
            key("NEARBY", &[conditioned(json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))]),
            key("AGENT", &[conditioned(json!({"StringLike": {"aws:UserAgent": "nightly/*"}}))]),
        ],
    )
    .await;
    let path = format!("{BASE}/export/x");
    for (key, expected) in [
        ("TLSONLY", StatusCode::FORBIDDEN),
        ("REGIONAL", StatusCode::NOT_FOUND),
        ("PAST", StatusCode::FORBIDDEN),
        ("NEARBY", StatusCode::FORBIDDEN),
        ("AGENT", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(guarded.signed(key, "GET", &path, &[], "").await.status, expected, "{key}");
    }
    let nightly = guarded.signed("AGENT", "GET", &path, &[("user-agent", "nightly/1.0")], "").await;
    assert_eq!(nightly.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_is_known_by_its_token_and_ends_in_time() {
    let ended = fhir_export::fhir::Instant::from_unix(1_700_000_000, 0);
    let session = |id: &str, expires| AccessKey {
        session_token: Some("session".into()),
        expires,
        ..key(id, &[statement("Allow", &["healthlake:*"], "*")])
    };
    let guarded =
        Guarded::with(grouped_source(), vec![session("ASIALIVE", None), session("ASIAOVER", Some(ended))]).await;
    let path = format!("{BASE}/export/x");
    for (key, token, expected) in [
        ("ASIALIVE", Some("session"), StatusCode::NOT_FOUND),
        ("ASIALIVE", Some("another"), StatusCode::FORBIDDEN),
        ("ASIALIVE", None, StatusCode::FORBIDDEN),
        ("ASIAOVER", Some("session"), StatusCode::FORBIDDEN),
        ("OWNER", Some("session"), StatusCode::FORBIDDEN),
    ] {
        let signer = Signer { session_token: token, ..signer(key) };
        let signature = sign_with(&signer, "GET", &path, &[], "");
        let headers: Vec<(&str, &str)> =
            signature.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = guarded.served.ask("GET", &path, &headers, Body::empty()).await;
        assert_eq!(answer.status, expected, "{key} {token:?}: {answer:?}");
    }
}
