//! The gate before every route: who calls, and whether he may.
//!
//! A request gets to a handler with a [`Granted`] only, and each handler says once more what it is about to do with it: an
//! action or a data store that wasn't asked about is refused, however the two came to differ.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::Guard;
use super::asked::Asked;
use super::outcome::Refused;
use super::{Api, admission, recognize, sdk};
use crate::auth::{Action, Caller, Decision, Denial, Grant, JobsOf, Question};
use crate::fhir::ResourceType;
use crate::job::{DataStore, JobView, QueueKey};
use crate::request::{ClientToken, ExportRequest, TypeSelection};

/// What was granted to the caller of a request.
#[derive(Clone, Debug)]
pub(super) enum Granted {
    /// Everything: nobody is asked.
    Everything,
    Some(Arc<Allowed>),
}

/// A grant, and what it was asked for.
#[derive(Debug)]
pub(super) struct Allowed {
    action: Action,
    datastore: Option<String>,
    grant: Grant,
    whence: Whence,
}

/// Who asks, and from where.
#[derive(Debug)]
struct Whence {
    caller: Caller,
    peer: Option<SocketAddr>,
    is_tls: bool,
    user_agent: Option<String>,
}

/// Lets a request in whose caller is known and may do what it asks for.
pub(super) async fn decide(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(guard) = api.settings.access.guard() else {
        parts.extensions.insert(Granted::Everything);
        return next.run(Request::from_parts(parts, body)).await;
    };
    let path = parts.uri.path().to_owned();
    if Asked::of(&parts.method, &path, &parts.headers, b"") == Asked::Public {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // It isn't known yet who calls: what starts a job is counted, the others may be many.
    let most_bytes = admission::longest_body(&api.settings, parts.method == Method::POST);
    let body = match admission::in_time(api.settings.body_timeout, body, most_bytes).await {
        Ok(body) => body,
        Err(refused) => return refuse(&path, refused),
    };
    let asked = Asked::of(&parts.method, &path, &parts.headers, &body);
    let caller = match recognize::caller(guard, &parts, &asked, &body).await {
        Ok(caller) => caller,
        Err(who) => return recognize::refuse(&parts, &who),
    };
    let whence = Whence {
        caller,
        peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0),
        is_tls: api.settings.is_tls,
        user_agent: parts.headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok()).map(str::to_owned),
    };
    if let Asked::Act(action, datastore) = asked {
        let resource = resource(&api, datastore.as_deref());
        match ask(guard, &whence, action, &resource, None).await {
            Ok(grant) => {
                let allowed = Allowed { action, datastore, grant, whence };
                parts.extensions.insert(Granted::Some(Arc::new(allowed)));
            }
            Err(denial) => return refuse(&path, forbidden(&whence.caller, &denial.message)),
        }
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// Asks the authorizer, and writes down what it says.
async fn ask(
    guard: &Guard,
    whence: &Whence,
    action: Action,
    (resource, region): &(String, String),
    request: Option<&ExportRequest>,
) -> Result<Grant, Denial> {
    let question = Question {
        caller: &whence.caller,
        action,
        resource,
        request,
        source_ip: whence.peer.map(|peer| peer.ip()),
        is_tls: whence.is_tls,
        user_agent: whence.user_agent.as_deref(),
        region,
    };
    let (caller, peer) = (whence.caller.name(), whence.peer.map(|peer| peer.to_string()));
    match guard.authorizer.decide(&question).await {
        Decision::Allow(grant) => {
            tracing::info!(target: "audit", decision = "allow", caller = ?caller, %action, resource = ?resource, peer);
            Ok(grant)
        }
        Decision::Deny(denial) => {
            let reason = &denial.reason;
            tracing::warn!(target: "audit", decision = "deny", caller = ?caller, %action, resource = ?resource, peer, reason = ?reason);
            Err(denial)
        }
    }
}

/// The ARN of a data store, which may not exist, and its Region.
fn resource(api: &Api, datastore: Option<&str>) -> (String, String) {
    match datastore {
        None => ("*".to_owned(), api.service.data_stores().next().map_or_else(String::new, region_of)),
        Some(id) => match api.service.data_store(id) {
            Some(known) => (known.arn(), region_of(known)),
            None => {
                // Policies with wildcards may match it, and then he is told that there is no such data store.
                let QueueKey { account, region } =
                    api.service.data_stores().next().map(DataStore::belongs_to).cloned().unwrap_or_default();
                (format!("arn:aws:healthlake:{region}:{account}:datastore/fhir/{id}"), region)
            }
        },
    }
}

fn region_of(datastore: &DataStore) -> String {
    datastore.belongs_to().region.clone()
}

fn refuse(path: &str, refused: Refused) -> Response {
    match path {
        "/" if refused.status() == StatusCode::FORBIDDEN => sdk::deny("AccessDeniedException", refused.diagnostics()),
        "/" => sdk::refuse(&refused),
        _ => refused.into_response(),
    }
}

/// A caller with scopes is told that it is them (RFC 6750 section 3.1).
fn forbidden(caller: &Caller, message: &str) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, "forbidden", message).with_challenge(caller.rights().challenge())
}

impl Granted {
    /// Checks that this is what was granted.
    ///
    /// # Errors
    /// When another action or another data store was asked about.
    pub(super) fn covers(&self, action: Action, datastore: &str) -> Result<(), Refused> {
        let Self::Some(allowed) = self else { return Ok(()) };
        if allowed.action == action && allowed.datastore.as_deref() == Some(datastore) {
            return Ok(());
        }
        tracing::error!(target: "audit", decision = "deny", %action, granted = %allowed.action, "another action was granted");
        Err(forbidden(&allowed.whence.caller, &Denial::of(action, "another action was granted").message))
    }

    /// Whether the caller may see a job: those of others aren't there for him, nor those of types that he may not read.
    pub(super) fn sees(&self, view: &JobView) -> bool {
        let Self::Some(allowed) = self else { return true };
        let is_his = match allowed.grant.jobs {
            JobsOf::Everybody => true,
            JobsOf::Caller => view.owner.as_deref() == Some(allowed.whence.caller.name()),
        };
        is_his && allowed.grant.types.covers(&view.types)
    }

    /// Whether the caller may know of resources of a type, `None` being those without one.
    pub(super) fn reads(&self, resource_type: Option<&str>) -> bool {
        let Self::Some(allowed) = self else { return true };
        match (&allowed.grant.types, resource_type.and_then(ResourceType::r4)) {
            (TypeSelection::All, _) => true,
            (only, Some(resource_type)) => only.contains(&resource_type),
            (TypeSelection::Only(_), None) => false,
        }
    }

    /// Who the caller is; `None`: nobody was asked.
    pub(super) fn owner(&self) -> Option<String> {
        match self {
            Self::Everything => None,
            Self::Some(allowed) => Some(allowed.whence.caller.name().to_owned()),
        }
    }

    /// What makes a start the same as one before: the same signed request.
    pub(super) fn client_token(&self) -> Option<ClientToken> {
        let Self::Some(allowed) = self else { return None };
        allowed.whence.caller.request_id().and_then(|id| ClientToken::new(id).ok())
    }

    /// The request as far as the caller may export: asked for nothing in particular, it is narrowed to what he may.
    ///
    /// # Errors
    /// When he may not, asks for more, or may not pass the role that he names.
    pub(super) async fn narrowed(&self, api: &Api, request: ExportRequest) -> Result<ExportRequest, Refused> {
        let (Self::Some(allowed), Some(guard)) = (self, api.settings.access.guard()) else { return Ok(request) };
        let (action, whence) = (allowed.action, &allowed.whence);
        let own = resource(api, allowed.datastore.as_deref());
        let refused = |denial: Denial| forbidden(&whence.caller, &denial.message);
        let grant = ask(guard, whence, action, &own, Some(&request)).await.map_err(refused)?;
        if let Some(role) = request.data_access_role_arn() {
            let role = (role.to_string(), own.1.clone());
            ask(guard, whence, Action::PassRole, &role, Some(&request)).await.map_err(refused)?;
        }
        let types = request.types().within(&allowed.grant.types).and_then(|types| types.within(&grant.types));
        match types {
            Ok(types) => Ok(request.with_types(types)),
            Err(beyond) => {
                let named: Vec<&str> = beyond.iter().take(20).map(|one| one.as_str()).collect();
                let message = format!("_type asks for what the caller may not export: {}", named.join(", "));
                Err(forbidden(&whence.caller, &message))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Granted {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let granted = parts.extensions.get::<Self>().cloned();
        // Only what wasn't asked about comes here without one.
        granted.ok_or_else(|| Refused::new(StatusCode::FORBIDDEN, "forbidden", "nothing was granted"))
    }
}
