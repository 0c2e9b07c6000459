//! Rows about the start of an export.

use axum::body::Body;
use axum::http::StatusCode;

use super::{FACES, export};
use crate::http::grouped_source;
use crate::http::served::{BASE, Served, path_of};

#[tokio::test]
async fn k2_k6_k8_a_kick_off_is_never_answered_with_data_whatever_headers_are_left_out() {
    let served = Served::new(grouped_source());
    for headers in [
        &[][..],
        &[("prefer", "respond-async")],
        &[("accept", "application/fhir+json")],
        &[("accept", "application/fhir+json"), ("prefer", "return=representation")],
        &[("accept", "application/fhir+ndjson"), ("prefer", "respond-async")],
    ] {
        for level in ["", "/Patient", "/Group/g"] {
            for method in ["GET", "POST"] {
                let path = format!("{BASE}{level}/$export");
                let started = served.ask(method, &path, headers, Body::empty()).await;
                let seen = (started.status, started.body.len());
                assert_eq!(seen, (StatusCode::ACCEPTED, 0), "{method} {level} {headers:?}");
                let over = served.until_over(&path_of(started.header("content-location"))).await;
                assert_eq!((over.status, over.header("content-type")), (StatusCode::OK, "application/json"));
                assert!(!String::from_utf8_lossy(&over.body).contains("resourceType"), "links, and no resources");
            }
        }
    }
}

#[tokio::test]
async fn h102_a_start_has_a_dollar_sign_and_a_job_has_none() {
    let served = Served::new(grouped_source());
    let job = served.kick_off("/$export").await;
    assert!(job.starts_with(&format!("{BASE}/export/")) && !job.contains('$'), "{job}");
    let with_dollar = job.replace("/export/", "/$export/");
    for (method, path) in [
        ("POST", format!("{BASE}/export")),
        ("GET", format!("{BASE}/export")),
        ("POST", format!("{BASE}/Patient/export")),
        ("POST", format!("{BASE}/Group/g/export")),
        ("GET", with_dollar.clone()),
        ("DELETE", with_dollar),
    ] {
        let refused = served.ask(method, &path, &[("prefer", "respond-async")], Body::empty()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{method} {path}");
        assert_eq!(refused.issues(), [("not-supported".to_owned(), None)], "{method} {path}");
    }
    assert_eq!(served.service.list("store1").await.unwrap().len(), 1);
}

#[tokio::test]
async fn p2_h605_the_output_is_a_resource_in_each_line_by_whatever_name_the_format_is_asked_for() {
    let served = Served::new(grouped_source());
    for face in FACES {
        let (_, usual) = export(&served, face, "/$export").await;
        assert_eq!(usual.len(), 5);
        for format in ["application/fhir%2Bndjson", "application/fhir+ndjson", "application/ndjson", "ndjson"] {
            // Each line was read as a value of its own.
            let (manifest, resources) = export(&served, face, &format!("/$export?_outputFormat={format}")).await;
            assert_eq!(resources, usual, "{face:?} {format}");
            let files = manifest["output"].as_array().unwrap();
            let names = files.iter().map(|file| file["extension"]["key"].as_str().unwrap());
            assert!(names.into_iter().all(|name| name.ends_with(".ndjson")), "{manifest}");
        }
    }
}
