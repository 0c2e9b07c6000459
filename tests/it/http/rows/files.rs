//! Rows about files: where they lie, how they are downloaded, and what is in them.

use std::io::Read;

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::http::Settings;
use fhir_export::job::JobService;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::{Face, export, stored};
use crate::http::served::{BASE, Served, config, data_store, path_of};
use crate::http::{JSON, ROLE, grouped_source};
use crate::support::small_job;

/// The first file of an export of the profile.
async fn first_file(served: &Served) -> String {
    let over = served.until_over(&served.kick_off("/$export").await).await.json();
    path_of(over["output"][0]["url"].as_str().unwrap())
}

#[tokio::test]
async fn f4_a_download_is_ndjson_whatever_is_accepted() {
    let served = Served::new(small_job::source());
    let file = first_file(&served).await;
    let whole = served.get(&file).await;
    for accept in ["application/fhir+ndjson", "*/*", "", "application/fhir+ndjson, */*;q=0.1", "text/html"] {
        let answer = served.ask("GET", &file, &[("accept", accept)], Body::empty()).await;
        let seen = (answer.status, answer.header("content-type"));
        assert_eq!(seen, (StatusCode::OK, "application/fhir+ndjson"), "{accept}");
        assert_eq!(answer.body, whole.body, "{accept}");
    }
}

#[tokio::test]
async fn f7_a_file_is_as_it_is_or_gzip_and_says_so() {
    for is_compressed in [false, true] {
        let served = Served::set_up(Settings::default(), |files| {
            let mut config = config();
            if is_compressed {
                config.compression = small_job::compressing_config().compression;
            }
            JobService::builder().config(config).data_store(data_store("store1", small_job::source(), files))
        });
        let file = first_file(&served).await;
        for accepted in [None, Some("identity"), Some("gzip"), Some("br, deflate"), Some("zstd, *;q=0.1")] {
            let headers: Vec<_> = accepted.map(|accepted| ("accept-encoding", accepted)).into_iter().collect();
            let answer = served.ask("GET", &file, &headers, Body::empty()).await;
            let coding = answer.headers.get("content-encoding").map(|coding| coding.to_str().unwrap());
            assert_eq!(coding, is_compressed.then_some("gzip"), "{accepted:?}");
            let mut text = String::new();
            match is_compressed {
                true => MultiGzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap(),
                false => (&answer.body[..]).read_to_string(&mut text).unwrap(),
            };
            assert_eq!(text, "{\"resourceType\":\"Binary\",\"id\":\"b\"}\n");
        }
    }
}

#[tokio::test]
async fn f9_f11_h610_resources_come_as_the_source_holds_them() {
    let lines = [
        r#"{"resourceType":"Observation","id":"1","subject":{"reference":"Patient/1"}}"#,
        r#"{"resourceType":"Observation","id":"2","subject":{"reference":"https://fhir.example.org/r4/Patient/1"}}"#,
        r#"{ "id":"3", "resourceType":"Observation","meta":{},"valueQuantity":{"value":1.00} }"#,
    ];
    let served = Served::new(MemorySource::new().with(MemoryRange::lines("all", lines.join("\n"))));
    let (manifest, _) = export(&served, Face::HealthLake, "/$export").await;
    let in_bucket = stored(&served, manifest["output"][0]["extension"]["key"].as_str().unwrap());
    let downloaded = served.get(&first_file(&served).await).await.body;
    for text in [in_bucket.as_bytes(), &downloaded] {
        assert_eq!(String::from_utf8_lossy(text), format!("{}\n", lines.join("\n")));
    }
    let statement = served.get(&format!("{BASE}/metadata")).await.json();
    assert_eq!(statement["fhirVersion"], "4.0.1");
    let told = crate::http::sdk::call(&served, "DescribeFHIRDatastore", &json!({"DatastoreId": "store1"})).await;
    assert_eq!(told.json()["DatastoreProperties"]["DatastoreTypeVersion"], "R4");
}

#[tokio::test]
async fn h601_the_jobs_folder_is_told_under_the_callers_uri() {
    let served = Served::new(grouped_source());
    for uri in ["s3://my-bucket", "s3://my-bucket/", "s3://my-bucket/a/b", "s3://my-bucket/a/b/"] {
        let s3 = json!({"S3Uri": uri, "KmsKeyId": "alias/exports"});
        let body = json!({"DataAccessRoleArn": ROLE, "OutputDataConfig": {"S3Configuration": s3}});
        let started = served.ask("POST", &format!("{BASE}/$export"), JSON, body.to_string()).await.json();
        served.service.idle().await;
        let job = started["jobId"].as_str().unwrap();
        let described = served.get(&format!("{BASE}/export/{job}")).await.json();
        let told = &described["exportJobProperties"]["outputDataConfig"]["s3Configuration"]["s3Uri"];
        assert_eq!(told, &json!(format!("{}/store1-FHIR_EXPORT-{job}/", uri.trim_end_matches('/'))));
        let folder = format!("store1-FHIR_EXPORT-{job}/");
        let below = |file: &Value| file["extension"]["key"].as_str().unwrap().starts_with(&folder);
        assert!(described["output"].as_array().unwrap().iter().all(below), "{described}");
    }
}

/// In a store that is one, over the network.
#[cfg(feature = "s3")]
#[tokio::test]
async fn h601_the_jobs_folder_is_under_the_callers_uri_or_at_the_top_of_a_bare_bucket() {
    use fhir_export::destination::s3::S3Uri;
    use fhir_export::job::{Config, Exporter};
    use fhir_export::request::{DatastoreId, ExportRequest, Level};

    use crate::support::s3_server::{BUCKET, S3Server};

    let server = S3Server::start().await;
    for prefix in ["", "/", "/a/b", "/a/b/"] {
        let uri = fhir_export::request::S3Uri::new(&format!("s3://{BUCKET}{prefix}")).unwrap();
        // As a server opens it: from the text of the request.
        let prefix = S3Uri::parse(uri.as_str()).unwrap().prefix().to_owned();
        let mut config = Config::default();
        config.datastore_id = Some(DatastoreId::new("store1").unwrap());
        let exporter = Exporter::builder()
            .source(std::sync::Arc::new(grouped_source()))
            .destination(std::sync::Arc::new(server.options(&prefix).open().unwrap()))
            .config(config);
        let job = exporter.build().unwrap().start(ExportRequest::new(Level::System)).unwrap();
        let id = job.id().to_string();
        let report = job.join().await;
        let folder = uri.prefix().trim_end_matches('/');
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        for file in &report.manifest.as_ref().unwrap().output {
            let path = file.url.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
            assert!(path.starts_with(&format!("{folder}store1-FHIR_EXPORT-{id}/")), "{path}");
            assert_eq!(server.object(path).unwrap().len() as u64, file.extension.bytes, "{path}");
        }
        assert_eq!(report.manifest.unwrap().output.len(), 3);
    }
}

#[tokio::test]
async fn h112_files_are_kept_for_48_hours_at_every_level() {
    use crate::http::expiry::{BEGIN, HOUR, SetClock, served as served_by};

    let clock = SetClock::new();
    let served = served_by(&clock, None);
    let mut files = Vec::new();
    for path in ["/$export", "/Patient/$export"] {
        let over = served.until_over(&served.kick_off(path).await).await;
        assert_eq!(over.header("expires"), "Thu, 16 Nov 2023 22:13:20 GMT");
        for file in over.json()["output"].as_array().unwrap() {
            let path = path_of(file["url"].as_str().unwrap());
            let body = served.get(&path).await.body;
            files.push((path, body));
        }
    }
    clock.set(BEGIN + 48 * HOUR - 1);
    served.service.remove_expired().await.unwrap();
    for (path, body) in &files {
        let kept = served.get(path).await;
        assert_eq!((kept.status, &kept.body), (StatusCode::OK, body), "{path}");
    }
    clock.set(BEGIN + 48 * HOUR);
    for (path, _) in &files {
        assert_eq!(served.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(served.service.remove_expired().await.unwrap(), 2);
    assert!(served.files.keys().is_empty());
}
