//! The example of a server that knows its callers by itself does what it shows.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::support::repository;

#[allow(dead_code, reason = "a test has no use for its main")]
#[path = "../../examples/embed_auth.rs"]
mod example;

const NIGHTLY: (&str, &str) = ("x-api-key", "key-of-nightly");
const ADA: (&str, &str) = ("cookie", "session=of-ada");

async fn ask(app: &axum::Router, path: &str, (name, value): (&str, &str)) -> (StatusCode, String, String) {
    let request = Request::builder().uri(path).header("host", "localhost:8080").header("prefer", "respond-async");
    let response = app.clone().oneshot(request.header(name, value).body(Body::empty()).unwrap()).await.unwrap();
    let place = response.headers().get("content-location").map_or("", |place| place.to_str().unwrap()).to_owned();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, place, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The path of a URL of the server.
fn path(url: &str) -> &str {
    url.strip_prefix("http://localhost:8080").unwrap()
}

async fn manifest(app: &axum::Router, job: &str, caller: (&str, &str)) -> Value {
    loop {
        match ask(app, job, caller).await {
            (StatusCode::ACCEPTED, ..) => tokio::task::yield_now().await,
            (StatusCode::OK, _, body) => return serde_json::from_str(&body).unwrap(),
            (other, _, body) => panic!("{other} {body}"),
        }
    }
}

#[tokio::test]
async fn callers_whom_the_server_knows_export_what_its_rules_allow_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let app = example::app(&repository("testdata/small"), folder.path()).unwrap();
    let start = "/datastore/main/r4/$export";
    for nobody in [("x-api-key", "another"), ("cookie", "session=of-nobody"), ("accept", "*/*")] {
        assert_eq!(ask(&app, start, nobody).await.0, StatusCode::UNAUTHORIZED, "{nobody:?}");
    }
    let (status, job, body) = ask(&app, start, NIGHTLY).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let of_all = manifest(&app, path(&job), NIGHTLY).await;
    assert_eq!(of_all["output"].as_array().unwrap().len(), 73, "each type of the data");
    assert_eq!(ask(&app, path(&job), ADA).await.0, StatusCode::NOT_FOUND, "another's job");

    assert_eq!(ask(&app, &format!("{start}?_type=Goal"), ADA).await.0, StatusCode::FORBIDDEN);
    let (status, job, body) = ask(&app, start, ADA).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let of_patients = manifest(&app, path(&job), ADA).await;
    let output = of_patients["output"].as_array().unwrap();
    assert!(output.iter().all(|file| file["type"] == "Patient") && !output.is_empty(), "{output:?}");
    let file = path(output[0]["url"].as_str().unwrap());
    assert_eq!(ask(&app, file, ADA).await.0, StatusCode::OK);
    assert_eq!(ask(&app, file, ("accept", "*/*")).await.0, StatusCode::UNAUTHORIZED);
}
