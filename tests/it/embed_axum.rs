//! The example of a server that mounts the router does what it shows.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use fhir_export::source::contract;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

#[allow(dead_code, reason = "a test has no use for its main")]
#[path = "../../examples/embed_axum.rs"]
mod example;

async fn ask(app: &axum::Router, method: &str, path: &str, body: &'static str) -> (StatusCode, Option<String>, String) {
    let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
    let request = request.header("prefer", "respond-async").header("content-type", "application/json");
    let response = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let place = response.headers().get("content-location").map(|place| place.to_str().unwrap().to_owned());
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, place, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn the_server_of_the_example_keeps_patients_and_exports_them() {
    let (store, folder) = (example::Patients::default(), tempfile::tempdir().unwrap());
    let app = example::app(store.clone(), folder.path()).unwrap();
    for _ in 0..30 {
        let (status, _, body) = ask(&app, "POST", "/Patient", r#"{"name":[{"text":"Ada"}]}"#).await;
        assert!(status.is_success() && body.contains("\"Ada\""), "{status} {body}");
    }
    assert_eq!(ask(&app, "GET", "/Patient/p00000007", "").await.0, StatusCode::OK);
    assert_eq!(ask(&app, "GET", "/Patient/nobody", "").await.0, StatusCode::NOT_FOUND);
    contract::check(&store).await.unwrap();

    let (status, place, body) = ask(&app, "GET", "/bulk/datastore/main/r4/$export", "").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let job = place.unwrap().strip_prefix("http://localhost:8080").unwrap().to_owned();
    let manifest: Value = loop {
        let (status, _, body) = ask(&app, "GET", &job, "").await;
        match status {
            StatusCode::ACCEPTED => tokio::task::yield_now().await,
            StatusCode::OK => break serde_json::from_str(&body).unwrap(),
            other => panic!("{other} {body}"),
        }
    };
    assert_eq!(manifest["output"][0]["count"], 30, "{manifest}");
    let file = manifest["output"][0]["url"].as_str().unwrap().strip_prefix("http://localhost:8080").unwrap().to_owned();
    let (status, _, lines) = ask(&app, "GET", &file, "").await;
    assert_eq!((status, lines.lines().count()), (StatusCode::OK, 30));
}
