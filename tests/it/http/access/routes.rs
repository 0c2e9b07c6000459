//! No route is reached without passing the gate.

use std::fs;

use super::*;
use crate::support::repository;

/// All that the router answers, as its source says: method, path, and whether anybody may.
const ROUTES: [(&str, &str, bool); 19] = [
    ("GET", "/datastore/store1/r4/$export", false),
    ("POST", "/datastore/store1/r4/$export", false),
    ("GET", "/datastore/store1/r4/%24export", false),
    ("POST", "/datastore/store1/r4/Patient/$export", false),
    ("GET", "/datastore/store1/r4/Patient/%24export", false),
    ("POST", "/datastore/store1/r4/Group/g/$export", false),
    ("GET", "/datastore/store1/r4/Group/g/$export", false),
    ("GET", "/datastore/store1/r4/export/x", false),
    ("DELETE", "/datastore/store1/r4/export/x", false),
    ("GET", "/datastore/store1/r4/export/x/files/y", false),
    ("GET", "/datastore/store1/r4/metadata", true),
    ("GET", "/datastore/store1/r4/.well-known/smart-configuration", true),
    ("POST", "/datastore/store1/r4/", false),
    ("POST", "/datastore/store1/r4", false),
    ("POST", "/", false),
    ("GET", "/healthz", true),
    ("GET", "/readyz", true),
    ("GET", "/metrics", true),
    ("GET", "/anything/else", false),
];

#[tokio::test]
async fn nobody_is_let_in_who_presents_nothing_but_to_what_is_public() {
    let guarded = Guarded::new().await;
    for (method, path, is_public) in ROUTES {
        let answer = guarded.served.ask(method, path, ASYNC, Body::empty()).await;
        if is_public {
            assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path}: {answer:?}");
        } else if path == "/" {
            assert_eq!(answer.json()["__type"], "com.amazonaws.healthlake#MissingAuthenticationTokenException");
        } else {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.issues(), [("login".to_owned(), None)]);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn nobody_is_let_in_whose_token_or_key_is_unknown() {
    let guarded = Guarded::new().await;
    for (method, path, is_public) in ROUTES {
        if is_public {
            continue;
        }
        let bearing = guarded.bearing("a.b.c", method, path).await;
        let signed = guarded.signed("NOBODY", method, path, ASYNC, "").await;
        for answer in [bearing, signed] {
            let refused = [400, 401, 403].contains(&answer.status.as_u16());
            assert!(refused, "{method} {path}: {answer:?}");
            let text = String::from_utf8_lossy(&answer.body);
            assert!(text.contains("login") || text.contains("__type"), "{method} {path}: {text}");
        }
    }
}

/// The list above has all there is: each route of the router's source is in it.
#[test]
fn the_list_of_routes_is_the_routers() {
    let source = fs::read_to_string(repository("src/http/mod.rs")).unwrap();
    let routes = source.matches(".route(").count();
    // Three of them are made twice, for both spellings of the dollar sign.
    assert_eq!(routes, 12, "a route was added: put it into ROUTES with whether anybody may reach it");
}

#[tokio::test]
async fn a_caller_whom_the_host_knows_is_taken_for_him() {
    let guarded = Guarded::new().await;
    let request = axum::http::Request::builder().uri(format!("{BASE}/export/x")).header("host", "localhost:8080");
    let mut request = request.body(Body::empty()).unwrap();
    let rights = fhir_export::auth::Rights::ByName;
    request.extensions_mut().insert(fhir_export::auth::Caller::new("somebody", rights));
    let answer = guarded.served.answer(request).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "known, and nothing says what he may do");
    assert_eq!(answer.issues(), [("forbidden".to_owned(), None)]);
}
