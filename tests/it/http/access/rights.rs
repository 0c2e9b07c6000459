//! Which right each call takes, and who says so.

use async_trait::async_trait;
use axum::body::Bytes;
use fhir_export::auth::{Action, Authorizer, Decision, Denial, Question};
use fhir_export::request::Level;

use super::*;

/// A call: its action, its method, its path or operation of the SDK, and its body.
pub(super) struct Call {
    pub(super) action: Action,
    method: &'static str,
    /// A path, or the name of an operation.
    pub(super) what: String,
    body: String,
}

impl Call {
    /// All calls about a data store, of which one job is known.
    pub(super) fn all(store: &str, job: &str, file: &str, client_token: &str) -> Vec<Self> {
        let call = |action, method, what: String, body: String| Self { action, method, what, body };
        let below = |path: String| format!("/datastore/{store}/r4{path}");
        let mut start = super::super::sdk::start_input(client_token);
        start["DatastoreId"] = json!(store);
        let sdk = |action, what: &str, input: Value| call(action, "SDK", what.to_owned(), input.to_string());
        let of_store = json!({"DatastoreId": store});
        let of_job = json!({"DatastoreId": store, "JobId": job});
        vec![
            call(Action::StartExportWithPost, "POST", below("/$export".to_owned()), healthlake_body()),
            call(Action::StartExportWithGet, "GET", below("/Patient/%24export".to_owned()), String::new()),
            call(Action::DescribeExportWithGet, "GET", below(format!("/export/{job}")), String::new()),
            call(Action::GetExportedFile, "GET", below(format!("/export/{job}/files/{file}")), String::new()),
            sdk(Action::StartExport, "StartFHIRExportJob", start),
            sdk(Action::DescribeExport, "DescribeFHIRExportJob", of_job),
            sdk(Action::ListExports, "ListFHIRExportJobs", of_store.clone()),
            sdk(Action::DescribeDatastore, "DescribeFHIRDatastore", of_store),
            sdk(Action::ListDatastores, "ListFHIRDatastores", json!({})),
            // The last: nothing of the job is there afterwards.
            call(Action::CancelExportWithDelete, "DELETE", below(format!("/export/{job}")), String::new()),
        ]
    }

    /// Makes the call with a key.
    pub(super) async fn ask(&self, guarded: &Guarded, key: &str) -> Answer {
        if self.method == "SDK" {
            return guarded.sdk(key, &self.what, &serde_json::from_str(&self.body).unwrap()).await;
        }
        let headers: &[_] = if self.body.is_empty() { ASYNC } else { super::super::JSON };
        guarded.signed(key, self.method, &self.what, headers, &self.body).await
    }
}

/// Whether somebody was let in, if anything else than that he isn't.
pub(super) fn is_let_in(answer: &Answer) -> bool {
    let is_denied = |body: &Bytes| {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        body["__type"] == "com.amazonaws.healthlake#AccessDeniedException"
    };
    assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "it is known who calls: {answer:?}");
    assert!(!answer.status.is_server_error(), "{answer:?}");
    answer.status != StatusCode::FORBIDDEN && !is_denied(&answer.body)
}

/// Actions that are asked for at the front; passing a role is asked for besides.
pub(super) fn asked_for() -> impl Iterator<Item = Action> {
    Action::ALL.into_iter().filter(|action| *action != Action::PassRole)
}

#[tokio::test]
async fn each_call_has_an_action_of_its_own() {
    let pass = statement("Allow", &["iam:PassRole"], ROLE);
    let mut keys = Vec::new();
    for (number, action) in asked_for().enumerate() {
        let only = statement("Allow", &[action.name()], "*");
        let but = [statement("Allow", &["healthlake:*"], "*"), statement("Deny", &[action.name()], "*"), pass.clone()];
        keys.push(key(&format!("ONLY{number}"), &[only, pass.clone()]));
        keys.push(key(&format!("BUT{number}"), &but));
    }
    let guarded = Guarded::with(grouped_source(), keys).await;
    let mut wrong = Vec::new();
    for (number, action) in asked_for().enumerate() {
        for call in Call::all("store1", "x", "y", &format!("token-{number}")) {
            let only = call.ask(&guarded, &format!("ONLY{number}")).await;
            let but = call.ask(&guarded, &format!("BUT{number}")).await;
            let is_its_own = call.action == action;
            if is_let_in(&only) != is_its_own || is_let_in(&but) == is_its_own {
                wrong.push(format!("{action}, {}: {} {}", call.what, only.status, but.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lets callers export one Group, and nothing else.
#[derive(Debug)]
struct OneGroup;

#[async_trait]
impl Authorizer for OneGroup {
    async fn decide(&self, question: &Question<'_>) -> Decision {
        match question.request.map(fhir_export::request::ExportRequest::level) {
            Some(Level::Group { id }) if id.as_str() != "g" => Decision::Deny(Denial {
                reason: "not his Group".to_owned(),
                message: "the caller may export the Group g only".to_owned(),
            }),
            Some(Level::System | Level::Patient) => {
                Decision::Deny(Denial::of(question.action, "he may export Groups only"))
            }
            _ => OwnRights.decide(question).await,
        }
    }
}

#[tokio::test]
async fn a_host_says_who_may_export_which_group() {
    let guarded = Guarded::decided_by(Arc::new(OneGroup), grouped_source(), Vec::new()).await;
    let token = guarded.token("a", "system/*.read", "store1");
    for (path, expected) in [
        ("/Group/g/$export", StatusCode::ACCEPTED),
        ("/Group/%67/$export", StatusCode::ACCEPTED),
        ("/Group/h/$export", StatusCode::FORBIDDEN),
        ("/Patient/$export", StatusCode::FORBIDDEN),
        ("/$export", StatusCode::FORBIDDEN),
    ] {
        let path = format!("{BASE}{path}");
        let by_token = guarded.bearing(&token, "GET", &path).await;
        let by_key = guarded.signed("OWNER", "GET", &path, ASYNC, "").await;
        assert_eq!((by_token.status, by_key.status), (expected, expected), "{path}");
        guarded.served.service.idle().await;
    }
    // Whether there is such a Group, who may not export it isn't told.
    let unknown = guarded.bearing(&token, "GET", &format!("{BASE}/Group/h/$export")).await;
    assert_eq!(unknown.issues(), [("forbidden".to_owned(), None)]);
}

#[tokio::test]
async fn scopes_of_patients_and_users_are_forbidden() {
    let guarded = Guarded::new().await;
    for scope in ["patient/*.read", "user/*.rs", "patient/Patient.rs user/*.cruds", "openid", "system/*.write"] {
        let token = guarded.token("a", scope, "store1");
        for path in ["/$export", "/Patient/$export", "/$export?_type=Patient", "/export/x"] {
            let refused = guarded.bearing(&token, "GET", &format!("{BASE}{path}")).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{scope} {path}");
            assert_eq!(refused.issues(), [("forbidden".to_owned(), None)]);
            assert_eq!(refused.header("www-authenticate"), "Bearer error=\"insufficient_scope\"");
        }
    }
}

#[tokio::test]
async fn files_are_there_for_nobody_without_a_token_and_for_nobody_with_anothers() {
    let guarded = Guarded::new().await;
    let [own, others] = ["a", "b"].map(|client| guarded.token(client, "system/*.read", "store1"));
    let job = guarded.exported(&own, "").await;
    let manifest = guarded.bearing(&own, "GET", &job).await.json();
    assert_eq!(manifest["requiresAccessToken"], true);
    for file in manifest["output"].as_array().unwrap() {
        let file = path_of(file["url"].as_str().unwrap());
        assert_eq!(guarded.bearing(&own, "GET", &file).await.status, StatusCode::OK);
        assert_eq!(guarded.served.get(&file).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(guarded.bearing("a.b.c", "GET", &file).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(guarded.bearing(&others, "GET", &file).await.status, StatusCode::NOT_FOUND);
        // A range, or the version that somebody has, opens no file either.
        let headers = [("range", "bytes=0-9"), ("if-none-match", "*")];
        let bare = guarded.served.ask("GET", &file, &headers, Body::empty()).await;
        assert_eq!(bare.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn keys_of_an_issuer_that_can_not_be_had_are_no_fault_of_the_callers() {
    let tokens = TokenServer::start(&endpoint("store1")).await;
    // Nobody listens there.
    let nowhere = KeyUrl::new("http://127.0.0.1:1/jwks.json").unwrap();
    let keys = Arc::new(KeySource::new(nowhere, KeyPatience::default()));
    let verifier = TokenVerifier::new(tokens.issuer(), [endpoint("store1")], keys).unwrap();
    let guard = Guard {
        authenticators: vec![Arc::new(BearerTokens::new([("store1".to_owned(), verifier)]))],
        authorizer: Arc::new(OwnRights),
        smart_configuration: None,
    };
    let settings = Settings { access: Access::Guarded(guard), ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", grouped_source(), files))
    });
    let bearer = format!("Bearer {}", tokens.mint("a", "system/*.read", |_, _| {}));
    let headers = [("authorization", bearer.as_str()), ("prefer", "respond-async")];
    let answer = served.ask("GET", &format!("{BASE}/$export"), &headers, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let said = answer.json()["issue"][0]["diagnostics"].as_str().unwrap().to_owned();
    assert_eq!(said, "tokens can not be checked at the moment");
}
