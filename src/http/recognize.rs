//! Who calls: by what the host knows, by the head of a request, or by all of it.

use axum::extract::{OriginalUri, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::Guard;
use super::asked::Asked;
use super::outcome::Refused;
use super::{Api, sdk};
use crate::auth::{AtHead, Caller, Presented, Unauthenticated};
use crate::clock;

/// Refuses who can't become known, before any of his body is read: he gets no place that others need.
pub(super) async fn at_head(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(guard) = api.settings.access.guard() else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    let asked = Asked::of(&parts.method, parts.uri.path(), &parts.headers, b"");
    if asked != Asked::Public && parts.extensions.get::<Caller>().is_none() {
        match look_at(guard, &parts, &asked, None).await {
            Ok(AtHead::Known(caller)) => drop(parts.extensions.insert(caller)),
            Ok(AtHead::NeedsBody) => {}
            Err(who) => return refuse(&parts, &who),
        }
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Who calls, once all of the request has come.
pub(super) async fn caller(
    guard: &Guard,
    parts: &Parts,
    asked: &Asked,
    body: &[u8],
) -> Result<Caller, Unauthenticated> {
    if let Some(caller) = parts.extensions.get::<Caller>() {
        return Ok(caller.clone());
    }
    match look_at(guard, parts, asked, Some(body)).await? {
        AtHead::Known(caller) => Ok(caller),
        AtHead::NeedsBody => Err(Unauthenticated::nobody()),
    }
}

/// Asks the authenticator that is meant, before the body has come or with it.
async fn look_at(guard: &Guard, parts: &Parts, asked: &Asked, body: Option<&[u8]>) -> Result<AtHead, Unauthenticated> {
    // As it was asked, wherever the router is mounted.
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let headers: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let now = clock::system().now();
    let presented = Presented {
        method: parts.method.as_str(),
        path: uri.path(),
        query: uri.query(),
        headers: &headers,
        body: body.unwrap_or_default(),
        datastore: match asked {
            Asked::Act(_, datastore) => datastore.as_deref().filter(|_| parts.uri.path() != "/"),
            Asked::Public | Asked::Nothing => None,
        },
        now: &now,
    };
    let meant = guard.authenticators.iter().find(|authenticator| authenticator.is_meant(&presented));
    let meant = meant.ok_or_else(Unauthenticated::nobody)?;
    match body {
        None => meant.at_head(&presented).await,
        Some(_) => meant.authenticate(&presented).await.map(AtHead::Known),
    }
}

/// Tells a caller that he isn't known, and writes it down.
pub(super) fn refuse(parts: &Parts, who: &Unauthenticated) -> Response {
    let (method, path, reason) = (&parts.method, parts.uri.path(), &who.reason);
    tracing::warn!(target: "audit", decision = "unknown", %method, path = ?path, reason = ?reason);
    if path == "/" {
        return sdk::deny(who.name, &who.message);
    }
    let status = StatusCode::from_u16(who.status).unwrap_or(StatusCode::UNAUTHORIZED);
    Refused::new(status, "login", &who.message).with_challenge(who.challenge.as_deref()).into_response()
}
