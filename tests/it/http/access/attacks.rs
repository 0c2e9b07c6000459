//! What attackers try, a row each: what they send, and what must happen.

use axum::http::Request;

use fhir_export::fhir::Instant;

use super::*;

/// What must happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// It isn't known who calls.
    BeUnknown,
    /// He is known and may not.
    BeForbidden,
    /// For him there is nothing.
    FindNothing,
    /// It can't be read.
    BeRefused,
}

impl Must {
    fn is(self, answer: &Answer) -> bool {
        match self {
            Self::BeUnknown => [400, 401, 403].contains(&answer.status.as_u16()) && has_code(answer, "login"),
            Self::BeForbidden => answer.status == StatusCode::FORBIDDEN && has_code(answer, "forbidden"),
            Self::FindNothing => answer.status == StatusCode::NOT_FOUND,
            Self::BeRefused => answer.status == StatusCode::BAD_REQUEST,
        }
    }
}

fn has_code(answer: &Answer, code: &str) -> bool {
    serde_json::from_slice::<Value>(&answer.body).is_ok_and(|outcome| outcome["issue"][0]["code"] == code)
}

/// Headers of a request that is signed, changed by an attacker.
type Change = fn(&mut Vec<(String, String)>);

fn set(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(own, _)| own != name);
    headers.push((name.to_owned(), value.to_owned()));
}

fn authorization(headers: &mut [(String, String)], change: impl Fn(&str) -> String) {
    let (_, value) = headers.iter_mut().find(|(name, _)| name == "authorization").unwrap();
    *value = change(value);
}

const SIGNATURES: &[(&str, Change)] = &[
    ("a signature of another request's", |h| authorization(h, |v| v.replace("Signature=", "Signature=00"))),
    ("a signature in capitals", |h| {
        authorization(h, |v| {
            let (head, signature) = v.split_once("Signature=").unwrap();
            format!("{head}Signature={}", signature.to_uppercase())
        })
    }),
    ("half a signature", |h| authorization(h, |v| v[..v.len() - 32].to_owned())),
    ("no signature", |h| authorization(h, |v| v.split_once(", Signature").unwrap().0.to_owned())),
    ("an empty signature", |h| authorization(h, |v| format!("{}Signature=", v.split_once("Signature=").unwrap().0))),
    ("another key", |h| authorization(h, |v| v.replace("OWNER", "FIRST"))),
    ("a key that nobody has", |h| authorization(h, |v| v.replace("OWNER", "OWNED"))),
    ("no key", |h| authorization(h, |v| v.replace("Credential=OWNER", "Credential="))),
    ("another Region", |h| authorization(h, |v| v.replace(REGION, "us-east-1"))),
    ("another service", |h| authorization(h, |v| v.replace("/healthlake/", "/s3/"))),
    ("another terminator", |h| authorization(h, |v| v.replace("aws4_request", "aws5_request"))),
    ("another algorithm", |h| authorization(h, |v| v.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"))),
    ("the asymmetric algorithm", |h| authorization(h, |v| v.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"))),
    ("version 2", |h| set(h, "authorization", "AWS OWNER:c2lnbmF0dXJl")),
    ("the host left unsigned", |h| authorization(h, |v| v.replace("host;", ""))),
    ("the date left unsigned", |h| authorization(h, |v| v.replace(";x-amz-date", ""))),
    ("no signed headers", |h| {
        authorization(h, |v| {
            let (head, rest) = v.split_once("SignedHeaders=").unwrap();
            format!("{head}SignedHeaders=,{}", rest.split_once(',').unwrap().1)
        })
    }),
    ("a header twice in the list", |h| authorization(h, |v| v.replace("host;", "host;host;"))),
    ("a signed header that isn't there", |h| authorization(h, |v| v.replace("host;", "host;range;"))),
    ("the parts twice", |h| authorization(h, |v| format!("{v}, Signature={}", "0".repeat(64)))),
    ("two headers", |h| h.push(("authorization".to_owned(), "Bearer a.b.c".to_owned()))),
    ("the same header twice", |h| {
        let own = h.iter().find(|(name, _)| name == "authorization").unwrap().clone();
        h.push(own);
    }),
    ("no date", |h| h.retain(|(name, _)| name != "x-amz-date")),
    ("another date", |h| set(h, "x-amz-date", "20200101T000000Z")),
    ("two dates", |h| h.push(("x-amz-date".to_owned(), "20200101T000000Z".to_owned()))),
    ("a date that is none", |h| set(h, "x-amz-date", "99999999T999999Z")),
    ("a session token that wasn't signed", |h| set(h, "x-amz-security-token", "mine")),
    ("an unsigned target", |h| set(h, "x-amz-target", "HealthLake.StartFHIRExportJob")),
    ("the hash of another body", |h| set(h, "x-amz-content-sha256", &"0".repeat(64))),
    ("an unsigned body", |h| set(h, "x-amz-content-sha256", "UNSIGNED-PAYLOAD")),
    ("a body in chunks", |h| set(h, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
    ("a token that is a word", |h| set(h, "authorization", "Bearer OWNER")),
    ("a token that is empty", |h| set(h, "authorization", "Bearer ")),
    ("a name and a password", |h| set(h, "authorization", "Basic T1dORVI6eA==")),
    ("an empty header", |h| set(h, "authorization", "")),
    ("a header of one megabyte", |h| set(h, "authorization", &format!("AWS4-HMAC-SHA256 {}", "a".repeat(1 << 20)))),
    ("commas only", |h| set(h, "authorization", &format!("AWS4-HMAC-SHA256 {}", ",".repeat(60_000)))),
    ("a date of a caller's own", |h| set(h, "date", "Mon, 01 Jan 2001 00:00:00 GMT")),
];

#[tokio::test]
async fn attacks_on_signatures() {
    let guarded = Guarded::new().await;
    let path = format!("{BASE}/export/x");
    let mut let_in = Vec::new();
    for (name, change) in SIGNATURES {
        let mut headers = sign("OWNER", "GET", &path, &[], "");
        change(&mut headers);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = guarded.served.ask("GET", &path, &headers, Body::empty()).await;
        // What isn't signed and isn't looked at changes nothing.
        let must = if *name == "a date of a caller's own" { Must::FindNothing } else { Must::BeUnknown };
        if !must.is(&answer) {
            let_in.push(format!("{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
}

/// A request that was signed, and the one that is sent in its place.
type Swap = (&'static str, (&'static str, &'static str, &'static str), (&'static str, &'static str, &'static str));

#[rustfmt::skip]
const SWAPS: &[Swap] = &[
    ("a look for a cancellation", ("GET", "/export/x", ""), ("DELETE", "/export/x", "")),
    ("one job for another", ("GET", "/export/x", ""), ("GET", "/export/y", "")),
    ("a job for its file", ("GET", "/export/x", ""), ("GET", "/export/x/files/a", "")),
    ("types added", ("GET", "/$export?_type=Patient", ""), ("GET", "/$export?_type=Patient,Observation", "")),
    ("a parameter left out", ("GET", "/$export?_since=2026-01-01T00:00:00Z", ""), ("GET", "/$export", "")),
    ("a parameter added", ("GET", "/$export", ""), ("GET", "/$export?_type=Patient", "")),
    ("parameters in another case", ("GET", "/$export?_type=Patient", ""), ("GET", "/$export?_TYPE=Patient", "")),
    ("one Group for another", ("GET", "/Group/a/$export", ""), ("GET", "/Group/b/$export", "")),
    ("a Group for everything", ("GET", "/Group/a/$export", ""), ("GET", "/$export", "")),
    ("patients for everything", ("GET", "/Patient/$export", ""), ("GET", "/$export", "")),
    ("a body for another", ("POST", "/$export", "{}"), ("POST", "/$export", "{} ")),
    ("no body for one", ("POST", "/$export", ""), ("POST", "/$export", "{}")),
    ("a GET for a POST", ("GET", "/$export", ""), ("POST", "/$export", "")),
    ("a slash at the end", ("GET", "/export/x", ""), ("GET", "/export/x/", "")),
    ("an id escaped to another", ("GET", "/export/x", ""), ("GET", "/export/%79", "")),
];

#[tokio::test]
async fn a_signature_is_good_for_the_request_that_was_signed() {
    let guarded = Guarded::new().await;
    let mut let_in = Vec::new();
    for (name, signed, sent) in SWAPS {
        let headers = sign("OWNER", signed.0, &format!("{BASE}{}", signed.1), &[], signed.2);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = guarded.served.ask(sent.0, &format!("{BASE}{}", sent.1), &headers, sent.2).await;
        if !Must::BeUnknown.is(&answer) {
            let_in.push(format!("{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
    assert!(guarded.served.service.list("store1").await.unwrap().is_empty(), "nothing was started");
}

/// Paths by which somebody with a right on store1 tries to come elsewhere.
#[rustfmt::skip]
const PATHS: &[(&str, &str, Must)] = &[
    ("another data store", "/datastore/store2/r4/$export", Must::BeForbidden),
    ("its name escaped", "/datastore/%73tore2/r4/$export", Must::BeForbidden),
    ("its name escaped in capitals", "/datastore/%53tore2/r4/$export", Must::BeForbidden),
    ("its name escaped twice", "/datastore/%2573tore2/r4/$export", Must::BeUnknown),
    ("a step up", "/datastore/store1/../store2/r4/$export", Must::BeUnknown),
    ("a step up, escaped", "/datastore/store1/%2e%2e/store2/r4/$export", Must::BeUnknown),
    ("a step up, escaped slashes", "/datastore/store1%2f..%2fstore2/r4/$export", Must::BeUnknown),
    ("a step up within a job", "/datastore/store1/r4/export/..%2f..%2f..%2fstore2/files/x", Must::BeUnknown),
    ("a step up within a file", "/datastore/store1/r4/export/x/files/..%2f..%2fetc%2fpasswd", Must::BeUnknown),
    ("two slashes", "/datastore//store2/r4/$export", Must::BeUnknown),
    ("two slashes in front", "//datastore/store2/r4/$export", Must::BeUnknown),
    ("a backslash", "/datastore/store1%5c..%5cstore2/r4/$export", Must::BeUnknown),
    ("a NUL", "/datastore/store2%00/r4/$export", Must::BeUnknown),
    ("a line feed", "/datastore/store2%0a/r4/$export", Must::BeUnknown),
    ("a semicolon", "/datastore/store2;x/r4/$export", Must::BeForbidden),
    ("a star for a name", "/datastore/*/r4/$export", Must::BeForbidden),
    ("a question mark for a letter", "/datastore/store%3f/r4/$export", Must::BeForbidden),
    ("a name in another case", "/datastore/STORE1/r4/$export", Must::BeForbidden),
    ("a blank behind the name", "/datastore/store1%20/r4/$export", Must::BeForbidden),
    ("a name that begins with one's own", "/datastore/store11/r4/$export", Must::BeForbidden),
    ("no name", "/datastore//r4/$export", Must::BeUnknown),
    ("a job of nobody", "/datastore/store1/r4/export/0", Must::FindNothing),
    ("a job by a wildcard", "/datastore/store1/r4/export/*", Must::FindNothing),
    ("a broken escape", "/datastore/store1/r4/export/%zz", Must::BeUnknown),
    ("bytes that are no UTF-8", "/datastore/store1/r4/export/%ff", Must::BeForbidden),
];

#[tokio::test]
async fn attacks_by_paths() {
    let guarded = Guarded::new().await;
    let mut let_in = Vec::new();
    for (name, path, must) in PATHS {
        let answer = guarded.signed("FIRST", "GET", path, ASYNC, "").await;
        if !must.is(&answer) {
            let_in.push(format!("{name}: {must:?}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
}

/// Outputs that no caller of REST or the SDK can make the server write to.
#[rustfmt::skip]
const OUTPUTS: &[(&str, &str)] = &[
    ("a file", "file:///etc/cron.d"),
    ("a path", "/etc/cron.d"),
    ("a path from here", "../x"),
    ("the address of metadata", "http://169.254.169.254/latest/meta-data"),
    ("the address of metadata, as a bucket", "s3://169.254.169.254/latest"),
    ("a server by HTTP", "https://attacker.example.org/"),
    ("another kind of store", "gs://bucket/x"),
    ("another kind of store", "az://container/x"),
    ("memory", "memory://x"),
    ("a bucket with a name and a password", "s3://me:secret@bucket/x"),
    ("a bucket with a port", "s3://bucket:9000/x"),
    ("no bucket", "s3:///x"),
    ("a step up", "s3://bucket/exports/../secrets"),
    ("a step up at the end", "s3://bucket/exports/.."),
    ("an empty step", "s3://bucket/exports//x"),
    ("a bucket in the other half of a path", "s3://bucket/x\\y"),
    ("a line feed", "s3://bucket/x\ny"),
    ("a NUL", "s3://bucket/x\u{0}y"),
];

#[tokio::test]
async fn attacks_by_outputs() {
    let guarded = Guarded::new().await;
    let mut let_in = Vec::new();
    for (name, uri) in OUTPUTS {
        let mut body: Value = serde_json::from_str(&healthlake_body()).unwrap();
        body["OutputDataConfig"]["S3Configuration"]["S3Uri"] = json!(uri);
        let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
        let answer = guarded.signed("OWNER", "POST", &format!("{BASE}/$export"), &headers, &body.to_string()).await;
        if !Must::BeRefused.is(&answer) {
            let_in.push(format!("{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
    }
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
    assert!(guarded.served.buckets.asked.lock().unwrap().is_empty(), "nothing was opened");
}

#[tokio::test]
async fn unknown_keys_and_wrong_secrets_are_told_alike() {
    let guarded = Guarded::new().await;
    let path = format!("{BASE}/export/x");
    let unknown = guarded.signed("NOBODY", "GET", &path, &[], "").await;
    let wrong = Signer { secret: "another", ..signer("OWNER") };
    let headers = sign_with(&wrong, "GET", &path, &[], "");
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let wrong = guarded.served.ask("GET", &path, &headers, Body::empty()).await;
    assert_eq!((unknown.status, &unknown.body), (wrong.status, &wrong.body));
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes() {
    let guarded = Guarded::new().await;
    let path = format!("{BASE}/export/x");
    let now = SystemClock.now().unix_seconds();
    for (name, seconds, expected) in [
        ("a minute ago", -60, StatusCode::NOT_FOUND),
        ("in a minute", 60, StatusCode::NOT_FOUND),
        ("an hour ago", -3600, StatusCode::FORBIDDEN),
        ("six minutes ago", -360, StatusCode::FORBIDDEN),
        ("in an hour", 3600, StatusCode::FORBIDDEN),
        ("a year ago", -31_536_000, StatusCode::FORBIDDEN),
    ] {
        let at = Instant::from_unix(now + seconds, 0);
        let headers = sign_with(&Signer { at, ..signer("OWNER") }, "GET", &path, &[], "");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(guarded.served.ask("GET", &path, &headers, Body::empty()).await.status, expected, "{name}");
    }
}

#[tokio::test]
async fn a_presigned_url_downloads_a_file_and_starts_nothing() {
    let guarded = Guarded::new().await;
    let presigned = |path: &str| {
        let unsigned = Unsigned { method: "GET", path, query: "", headers: &[("host", "localhost:8080")], body: b"" };
        format!("{path}?{}", signer("OWNER").presign(&unsigned, 300))
    };
    let look = guarded.served.get(&presigned(&format!("{BASE}/export/x"))).await;
    assert_eq!(look.status, StatusCode::NOT_FOUND, "let in: {look:?}");
    let start = guarded.served.ask("GET", &presigned(&format!("{BASE}/$export")), ASYNC, Body::empty()).await;
    assert!(!start.status.is_success(), "its parameters aren't those of an export: {start:?}");
    assert!(guarded.served.service.list("store1").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_forwarded_address_is_believed_by_nobody() {
    let conditioned = json!({
        "Effect": "Allow", "Action": "healthlake:*", "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    });
    let guarded = Guarded::with(grouped_source(), vec![key("NEARBY", &[conditioned])]).await;
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "x-original-url", "x-rewrite-url"] {
        let answer = guarded.signed("NEARBY", "GET", &format!("{BASE}/export/x"), &[(header, "10.0.0.1")], "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{header}");
    }
    let answer =
        guarded.signed("LOOKER", "POST", &format!("{BASE}/$export"), &[("x-http-method-override", "GET")], "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

/// All ways to send a body: to what has none, and to what starts a job.
fn with_bodies() -> Vec<(&'static str, String)> {
    let (job, start) = (format!("{BASE}/export/x"), format!("{BASE}/$export"));
    let to_job = ["GET", "DELETE", "PUT", "POST"].map(|method| (method, job.clone()));
    to_job.into_iter().chain([("GET", start.clone()), ("POST", start)]).collect()
}

#[tokio::test]
async fn nobody_waits_for_the_body_of_a_stranger() {
    let guarded = Guarded::new().await;
    let endless = || Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    for (method, path) in with_bodies() {
        let unknown = sign("UNKNOWN", method, &path, &[], "");
        let old = sign_with(
            &Signer::example(REGION, Instant::parse("2020-01-01T00:00:00Z").unwrap()),
            method,
            &path,
            &[],
            "",
        );
        let presented: [(Vec<(String, String)>, StatusCode); 4] = [
            (Vec::new(), StatusCode::UNAUTHORIZED),
            (vec![("authorization".to_owned(), "Bearer a.b.c".to_owned())], StatusCode::UNAUTHORIZED),
            (unknown, StatusCode::FORBIDDEN),
            (old, StatusCode::FORBIDDEN),
        ];
        for (headers, expected) in presented {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let answer = tokio::time::timeout(SOON, guarded.served.ask(method, &path, &headers, endless())).await;
            assert_eq!(answer.unwrap().status, expected, "{method} {path} {headers:?}");
        }
    }
}

/// Long for an answer, short for a body that may take half a minute.
const SOON: std::time::Duration = std::time::Duration::from_secs(10);

#[tokio::test]
async fn only_what_starts_an_export_may_bring_a_long_body() {
    let guarded = Guarded::new().await;
    for (method, path) in with_bodies() {
        let headers = sign("OWNER", method, &path, &[], "");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let long = guarded.served.ask(method, &path, &headers, " ".repeat(100 << 10)).await;
        // There are a hundred starts at once at most.
        let is_start = method == "POST" && path.ends_with("$export");
        let expected = if is_start { StatusCode::FORBIDDEN } else { StatusCode::PAYLOAD_TOO_LARGE };
        assert_eq!(long.status, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_gate_without_anybody_known_lets_nobody_in() {
    let guard = Guard { authenticators: Vec::new(), authorizer: Arc::new(OwnRights), smart_configuration: None };
    let settings = Settings { access: Access::Guarded(guard), ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", grouped_source(), files))
    });
    let request = Request::builder().uri(format!("{BASE}/$export")).header("authorization", "Bearer a.b.c");
    let answer = served.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
