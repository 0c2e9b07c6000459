//! Whatever is sent, the answer is one that a client can read: never a server's fault, and each refusal says why.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::served::{Answer, BASE, Served};
use super::{JSON, grouped_source, healthlake_body};

/// A request as bytes, some of which no client would send.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

fn paths() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "/datastore/store1/r4/$export",
            "/datastore/store1/r4/%24export",
            "/datastore/store1/r4/Patient/$export",
            "/datastore/store1/r4/Group/g/$export",
            "/datastore/store1/r4/Group/nobody/$export",
            "/datastore/store1/r4/Group/%FF/$export",
            "/datastore/store1/r4/Group/a%2Fb/$export",
            "/datastore/store1/r4/export/0123456789abcdef0123456789abcdef",
            "/datastore/store1/r4/export/%FF",
            "/datastore/store1/r4/export/x/files/..%2F..%2Fsecret",
            "/datastore/store1/r4/metadata",
            "/datastore/store1/r4/",
            "/datastore/store2/r4/$export",
            "/datastore/%00/r4/$export",
            "/",
            "/healthz",
            "/readyz",
        ][..],
    );
    let segment = prop_oneof![4 => "[A-Za-z0-9$.%_~-]{0,12}", 1 => "(%[0-9A-Fa-f]{2}){1,6}"];
    let any = vec(segment, 1..7).prop_map(|segments| format!("/{}", segments.join("/")));
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => any]
}

fn queries() -> impl Strategy<Value = String> {
    const NAMES: [&str; 13] = [
        "_type",
        "_since",
        "_until",
        "_outputFormat",
        "_security",
        "_tag",
        "patient",
        "_elements",
        "_typeFilter",
        "includeAssociatedData",
        "organizeOutputBy",
        "allowPartialManifests",
        "x",
    ];
    let value = prop_oneof![
        4 => select(&["Patient", "Observation,Patient", "2024-01-01T00:00:00Z", "ndjson", "s%7Cc", "Patient/1", "Foo", ""][..])
            .prop_map(str::to_owned),
        1 => "[A-Za-z0-9%+,|:.=/\\\\-]{0,30}".prop_map(|text| text.replace('\\', "%5C").replace('|', "%7C")),
        1 => "(%[0-9A-F]{2}){1,8}",
    ];
    let pair = (select(&NAMES[..]), value).prop_map(|(name, value)| format!("{name}={value}"));
    vec(pair, 0..5).prop_map(|pairs| if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) })
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    const TARGETS: [&str; 7] = [
        "HealthLake.StartFHIRExportJob",
        "HealthLake.DescribeFHIRExportJob",
        "HealthLake.ListFHIRExportJobs",
        "HealthLake.DescribeFHIRDatastore",
        "HealthLake.ListFHIRDatastores",
        "HealthLake.Other",
        "",
    ];
    let known = prop_oneof![
        3 => Just(("prefer", "respond-async")),
        2 => Just(("prefer", "respond-async, handling=lenient")),
        3 => Just(("content-type", "application/fhir+json")),
        1 => Just(("content-type", "application/x-amz-json-1.0")),
        1 => Just(("content-type", "text/plain")),
        1 => Just(("accept", "text/html")),
        2 => Just(("accept", "application/fhir+json;q=0.1, */*")),
        3 => select(&TARGETS[..]).prop_map(|target| ("x-amz-target", target)),
        1 => Just(("range", "bytes=5-1")),
    ]
    .prop_map(|(name, value)| (name, value.as_bytes().to_vec()));
    let names = select(&["prefer", "content-type", "accept", "x-amz-target", "host", "range", "authorization"][..]);
    let junk = (names, vec(prop_oneof![0x20_u8..0x7F, 0x80_u8..], 0..20));
    vec(prop_oneof![8 => known, 1 => junk], 0..5)
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let names = select(
        &["_type", "_since", "_until", "_outputFormat", "_security", "_tag", "patient", "_elements", "name", ""][..],
    );
    let keys = select(&["valueString", "valueCode", "valueInstant", "valueReference", "valueInteger", "part"][..]);
    let values = select(vec![
        json!("Patient"),
        json!("2024-01-01T00:00:00Z"),
        json!("s|c"),
        json!({"reference": "Patient/1"}),
        json!({"reference": "Patient/9"}),
        json!({}),
        json!(1),
        Value::Null,
    ]);
    let parameter = (names, keys, values).prop_map(|(name, key, value)| json!({"name": name, key: value}));
    let parameters = vec(parameter, 0..4)
        .prop_map(|parameters| json!({"resourceType": "Parameters", "parameter": parameters}).to_string().into_bytes());
    let members = select(&["DatastoreId", "JobId", "MaxResults", "NextToken", "JobStatus", "SubmittedAfter"][..]);
    let inputs = select(vec![json!("store1"), json!("x"), json!(-1), json!(1e300), json!([]), Value::Null]);
    let sdk = vec((members, inputs), 0..4).prop_map(|members| {
        let members: serde_json::Map<String, Value> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(members).to_string().into_bytes()
    });
    let cut = (0..300_usize).prop_map(|length| {
        let mut body = healthlake_body().into_bytes();
        body.truncate(length);
        body
    });
    prop_oneof![
        3 => Just(Vec::new()),
        4 => parameters,
        2 => sdk,
        1 => Just(healthlake_body().into_bytes()),
        1 => cut,
        1 => vec(any::<u8>(), 0..60),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let methods = select(vec![
        Method::GET,
        Method::GET,
        Method::POST,
        Method::POST,
        Method::POST,
        Method::DELETE,
        Method::PUT,
        Method::PATCH,
        Method::OPTIONS,
        Method::HEAD,
    ]);
    (methods, paths(), queries(), headers(), bodies()).prop_map(|(method, path, query, headers, body)| Asked {
        method,
        path: format!("{path}{query}"),
        headers,
        body,
    })
}

impl Asked {
    /// The request, if its pieces make one at all.
    fn request(&self) -> Option<Request<Body>> {
        let uri: Uri = self.path.parse().ok()?;
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(*name, HeaderValue::from_bytes(value).ok()?);
        }
        request.body(Body::from(self.body.clone())).ok()
    }
}

/// What must be true of every answer.
fn check(answer: &Answer, is_sdk: bool, has_body: bool) {
    assert!(!answer.status.is_server_error(), "{answer:?}");
    if !answer.status.is_client_error() || !has_body {
        return;
    }
    let body = answer.json();
    let told = body.to_string();
    assert!(!["panicked", "src/", "unwrap", "/tmp"].iter().any(|word| told.contains(word)), "{told}");
    assert!(told.len() < 64 << 10, "a refusal of {} bytes", told.len());
    if is_sdk {
        assert_eq!(answer.header("content-type"), "application/x-amz-json-1.0");
        assert!(body["__type"].as_str().unwrap().starts_with("com.amazonaws.healthlake#"), "{told}");
        assert!(!body["Message"].as_str().unwrap().is_empty(), "{told}");
        return;
    }
    assert_eq!(
        (answer.header("content-type"), &body["resourceType"]),
        ("application/fhir+json", &json!("OperationOutcome"))
    );
    let issues = body["issue"].as_array().unwrap();
    assert!(!issues.is_empty(), "{told}");
    for issue in issues {
        for member in ["severity", "code", "diagnostics"] {
            assert!(issue[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {told}");
        }
    }
}

#[test]
fn no_request_is_the_servers_fault_and_every_refusal_says_why() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let served = runtime.block_on(async { Served::new(grouped_source()) });
    let config = ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases * 8,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let ran = runner.run(&asked(), |asked| {
        let Some(request) = asked.request() else { return Ok(()) };
        let is_sdk = request.method() == Method::POST && request.uri().path() == "/";
        let has_body = request.method() != Method::HEAD;
        let answer = runtime.block_on(served.answer(request));
        check(&answer, is_sdk, has_body);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_body_of_10_mb_is_refused_by_everyone() {
    let served = Served::new(grouped_source());
    let large = || vec![b' '; 10 << 20];
    for path in ["/$export", "/Patient/$export", "/Group/g/$export"] {
        let answer = served.ask("POST", &format!("{BASE}{path}"), JSON, large()).await;
        check(&answer, false, true);
        assert_eq!(
            (answer.status, answer.issues()[0].0.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "too-long"),
            "{path}"
        );
    }
    let target = [("x-amz-target", "HealthLake.StartFHIRExportJob")];
    let answer = served.ask("POST", "/", &target, large()).await;
    check(&answer, true, true);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(served.service.list("store1").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_long_query_of_nonsense_gets_a_short_answer() {
    let served = Served::new(grouped_source());
    let query: String = (0..1000).map(|number| format!("_type=Foo{number}&x{number}=1&")).collect();
    let answer = served.ask("GET", &format!("{BASE}/$export?{query}"), &[], Body::empty()).await;
    check(&answer, false, true);
    assert_eq!((answer.status, answer.issues().len()), (StatusCode::BAD_REQUEST, 101));
}

/// The status of the answer to raw bytes; 0 if the connection was closed without one.
async fn raw_status(address: std::net::SocketAddr, request: &[u8]) -> u16 {
    let mut connection = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it has read everything.
    drop(connection.write_all(request).await);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.contains(&b'\n') {
        match connection.read(&mut piece).await {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            _ => return 0,
        }
    }
    let line = String::from_utf8_lossy(&answer).into_owned();
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test]
async fn what_is_no_request_at_all_is_refused_and_others_are_served() {
    let served = Served::new(grouped_source());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = served.app();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, app).await });
    let get = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"].concat();
    let export = format!("{BASE}/$export?_type=");
    let with_query = |query: &[u8]| get(&[export.as_bytes(), query].concat());
    let all = async {
        for (request, accepted) in [
            // The server's HTTP refuses these before any router sees them.
            (with_query(&vec![b'A'; 1 << 20]), &[414, 431][..]),
            (with_query(&vec![b'A'; 100 << 10]), &[414]),
            (with_query(b"\xFF\xFE"), &[400]),
            (get(b"/\xFF"), &[400, 404]),
            (with_query(b"%FF"), &[400]),
            (get(b"/datastore/%FF/r4/$export"), &[400, 404]),
            (b"\xFF\xFE\x00\r\n\r\n".to_vec(), &[400]),
        ] {
            let status = raw_status(address, &request).await;
            let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
            // A sender who isn't done sending may find the connection reset before it sees the answer.
            assert!(accepted.contains(&status) || (status == 0 && request.len() > 1 << 19), "{status}: {shown}");
            assert_eq!(raw_status(address, &get(b"/healthz")).await, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("every request is answered");
}
