//! A server that knows its callers by itself: programs by keys of its own, people by the session of its own login.
//! ```sh
//! cargo run --example embed_auth --features http
//! curl -i -H 'Prefer: respond-async' -H 'x-api-key: key-of-nightly' 'localhost:8080/datastore/main/r4/$export'
//! curl -i -H 'Prefer: respond-async' -H 'cookie: session=of-ada' 'localhost:8080/datastore/main/r4/$export?_type=Patient'
//! ```
use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use axum::{Router, extract::Request, http::header::COOKIE, middleware, middleware::Next, response::Response};
use fhir_export::auth::{
    AtHead, Authenticator, Authorizer, Caller, Decision, Denial, Grant, JobsOf, Presented, Question, Rights,
    Unauthenticated,
};
use fhir_export::fhir::ResourceType;
use fhir_export::http::{Access, Guard, Settings, router};
use fhir_export::job::{DataStore, JobService};
use fhir_export::request::{DatastoreId, TypeSelection};
use fhir_export::{destination::LocalDestination, source::NdjsonSource};

/// The first way: something that knows callers by what they present.
#[derive(Debug)]
struct ApiKeys;

#[async_trait]
impl Authenticator for ApiKeys {
    fn is_meant(&self, presented: &Presented<'_>) -> bool {
        presented.header("x-api-key").next().is_some()
    }
    async fn at_head(&self, presented: &Presented<'_>) -> Result<AtHead, Unauthenticated> {
        // A key says all by itself. Where the body is signed, `AtHead::NeedsBody` asks for it.
        self.authenticate(presented).await.map(AtHead::Known)
    }
    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Caller, Unauthenticated> {
        // A server keeps digests of its keys, and compares them in constant time.
        let mut keys = presented.header("x-api-key");
        match (keys.next(), keys.next()) {
            (Some(b"key-of-nightly"), None) => Ok(Caller::new("nightly", Rights::ByName)),
            _ => Err(Unauthenticated { reason: "an unknown key".to_owned(), ..Unauthenticated::nobody() }),
        }
    }
}

/// The second way: the server knows its callers before the router is asked.
async fn log_in(mut request: Request, next: Next) -> Response {
    if request.headers().get(COOKIE).is_some_and(|cookie| cookie == "session=of-ada") {
        request.extensions_mut().insert(Caller::new("ada", Rights::ByName));
    }
    next.run(request).await
}

/// What they may do: the nightly program exports everything, Ada these types, and each sees his own jobs.
#[derive(Debug)]
struct Rules {
    of_ada: TypeSelection,
}

#[async_trait]
impl Authorizer for Rules {
    async fn decide(&self, question: &Question<'_>) -> Decision {
        let types = match question.caller.name() {
            "nightly" => TypeSelection::All,
            "ada" => self.of_ada.clone(),
            _ => return Decision::Deny(Denial::of(question.action, "nobody of ours")),
        };
        Decision::Allow(Grant { types, jobs: JobsOf::Caller })
    }
}

/// The whole server, for the files of a folder.
pub(crate) fn app(data: &Path, exports: &Path) -> Result<Router, Box<dyn std::error::Error>> {
    let exported = DataStore::new(DatastoreId::new("main")?, Arc::new(NdjsonSource::folder(data)));
    let service =
        JobService::builder().data_store(exported.files(Arc::new(LocalDestination::new(exports)?))).build()?;
    let rules = Arc::new(Rules { of_ada: TypeSelection::only(ResourceType::r4("Patient"))? });
    let guard = Guard { authenticators: vec![Arc::new(ApiKeys)], authorizer: rules, smart_configuration: None };
    let settings = Settings { access: Access::Guarded(guard), ..Settings::default() };
    Ok(router(service, settings).layer(middleware::from_fn(log_in)))
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app(Path::new("testdata/small"), Path::new("exports"))?).await?)
}
