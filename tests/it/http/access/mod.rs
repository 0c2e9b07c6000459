//! Who is let in, and to what.

mod attacks;
mod events;
#[cfg(feature = "cli")]
mod log;
mod policies;
mod properties;
mod rights;
mod routes;
mod tokens;

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::auth::policy::Policy;
use fhir_export::auth::sigv4::testing::{Signer, Unsigned};
use fhir_export::auth::smart::{KeyPatience, KeySource, KeyUrl, SmartConfiguration, TokenVerifier};
use fhir_export::auth::{AccessKey, AccessKeys, Authorizer, BearerTokens, OwnRights};
use fhir_export::clock::{Clock, SystemClock};
use fhir_export::http::{Access, Guard, Settings};
use fhir_export::job::{JobService, QueueKey};
use fhir_export::source::Source;
use serde_json::{Value, json};

use self::events::Events;
use super::served::{Answer, BASE, Served, config, data_store, path_of};
use super::{ROLE, grouped_source, healthlake_body};
use crate::support::token_server::TokenServer;

const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "111122223333";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The endpoint of a data store, which tokens are for.
fn endpoint(store: &str) -> String {
    format!("http://localhost:8080/datastore/{store}/r4")
}

fn arn(store: &str) -> String {
    format!("arn:aws:healthlake:{REGION}:{ACCOUNT}:datastore/fhir/{store}")
}

fn statement(effect: &str, actions: &[&str], resource: &str) -> Value {
    json!({"Effect": effect, "Action": actions, "Resource": resource})
}

fn policy(statements: &[Value]) -> Policy {
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string()).unwrap()
}

/// Each key has a secret of its own.
fn secret_of(id: &str) -> String {
    format!("{SECRET}{id}")
}

/// A key of somebody with these statements.
fn key(id: &str, statements: &[Value]) -> AccessKey {
    AccessKey {
        id: id.to_owned(),
        secret: secret_of(id).into(),
        session_token: None,
        expires: None,
        principal: format!("arn:aws:iam::{ACCOUNT}:user/{}", id.to_lowercase()),
        policies: vec![policy(statements)],
    }
}

/// Two data stores behind a gate. Keys: `OWNER` may do everything on both and pass the role, `FIRST` everything on
/// store1, `LOOKER` only look, `NOROLE` start without passing a role. Tokens come from a token server.
struct Guarded {
    served: Served,
    events: Arc<Events>,
    tokens: TokenServer,
}

impl Guarded {
    async fn new() -> Self {
        Self::with(grouped_source(), Vec::new()).await
    }

    async fn with(source: impl Source + Clone + 'static, more: Vec<AccessKey>) -> Self {
        Self::decided_by(Arc::new(OwnRights), source, more).await
    }

    async fn decided_by(
        authorizer: Arc<dyn Authorizer>,
        source: impl Source + Clone + 'static,
        more: Vec<AccessKey>,
    ) -> Self {
        let tokens = TokenServer::start(&endpoint("store1")).await;
        let all = ["healthlake:*"];
        let pass = statement("Allow", &["iam:PassRole"], ROLE);
        let first = arn("store1");
        let looks = ["healthlake:Describe*", "healthlake:List*"];
        let mut keys = vec![
            key("OWNER", &[statement("Allow", &all, "*"), pass.clone()]),
            key("FIRST", &[statement("Allow", &all, &first), pass]),
            key("LOOKER", &[statement("Allow", &looks, "*")]),
            key("NOROLE", &[statement("Allow", &all, "*")]),
        ];
        keys.extend(more);
        let keys = AccessKeys::new(REGION, keys).unwrap();
        let source_of_keys = Arc::new(KeySource::new(KeyUrl::new(&tokens.keys_url()).unwrap(), KeyPatience::default()));
        let verifier = |store: &str| {
            let verifier = TokenVerifier::new(tokens.issuer(), [endpoint(store)], Arc::clone(&source_of_keys));
            (store.to_owned(), verifier.unwrap())
        };
        let bearer = BearerTokens::new(["store1", "store2"].map(verifier));
        let smart = SmartConfiguration::new(tokens.token_url());
        let guard = Guard {
            authenticators: vec![Arc::new(keys), Arc::new(bearer)],
            authorizer,
            smart_configuration: Some(smart.to_json()),
        };
        let settings = Settings { access: Access::Guarded(guard), ..Settings::default() };
        let owner = QueueKey { account: ACCOUNT.to_owned(), region: REGION.to_owned() };
        let events = Arc::new(Events::default());
        let served = Served::set_up(settings, |files| {
            let builder = JobService::builder().config(config()).audit_events(Arc::<Events>::clone(&events));
            ["store1", "store2"].into_iter().fold(builder, |builder, id| {
                builder.data_store(data_store(id, source.clone(), files).queue_key(owner.clone()))
            })
        });
        Self { served, events, tokens }
    }

    /// Asks with a signature of a key.
    async fn signed(&self, key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let signature = sign(key, method, path, headers, body);
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        all.extend(signature.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.served.ask(method, path, &all, body.to_owned()).await
    }

    /// Asks with a token.
    async fn bearing(&self, token: &str, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("prefer", "respond-async")];
        self.served.ask(method, path, &headers, Body::empty()).await
    }

    /// A token for a data store.
    fn token(&self, client: &str, scope: &str, store: &str) -> String {
        self.tokens.mint(client, scope, |_, claims| claims["aud"] = json!(endpoint(store)))
    }

    /// Starts an export with a key, and gives the path of its job.
    async fn started(&self, key: &str) -> String {
        let answer = self.signed(key, "GET", &format!("{BASE}/$export"), ASYNC, "").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        path_of(answer.header("content-location"))
    }

    /// Starts an export with a token, and gives the path of its job once it is over.
    async fn exported(&self, token: &str, query: &str) -> String {
        let answer = self.bearing(token, "GET", &format!("{BASE}/$export{query}")).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        self.served.service.idle().await;
        path_of(answer.header("content-location"))
    }

    /// Calls an operation of the SDK with a key.
    async fn sdk(&self, key: &str, operation: &str, input: &Value) -> Answer {
        let target = format!("HealthLake.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        self.signed(key, "POST", "/", &headers, &input.to_string()).await
    }
}

const ASYNC: &[(&str, &str)] = &[("prefer", "respond-async")];

fn signer(key: &str) -> Signer<'_> {
    let mut signer = Signer::example(REGION, SystemClock.now());
    signer.access_key_id = key;
    signer.secret = Box::leak(secret_of(key).into_boxed_str());
    signer
}

/// The headers that sign a request, which has a host.
fn sign(key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<(String, String)> {
    sign_with(&signer(key), method, path, headers, body)
}

fn sign_with(
    signer: &Signer<'_>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<(String, String)> {
    let mut signed: Vec<(&str, &str)> = vec![("host", "localhost:8080")];
    signed.extend(headers.iter().filter(|(name, _)| name.starts_with("x-amz-") || *name == "content-type"));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    signer.sign(&Unsigned { method, path, query, headers: &signed, body: body.as_bytes() })
}

/// Types of a manifest's output.
fn types(manifest: &Value) -> Vec<&str> {
    manifest["output"].as_array().unwrap().iter().map(|file| file["type"].as_str().unwrap()).collect()
}
