//! The CapabilityStatement: what clients look for before they ask.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::outcome::Refused;
use super::{Api, address};
use crate::fhir::ResourceType;

const DEFINITIONS: &str = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition";

/// `GET /metadata`.
pub(super) async fn statement(
    State(api): State<Api>,
    Path(datastore): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if api.service.data_store(&datastore).is_none() {
        return Err(Refused::not_found("there is no such data store"));
    }
    let requested = address::requested(&api.settings, &headers, &uri);
    let statement = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-23",
        "kind": "instance",
        "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        "software": {"name": "fhir-export", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "FHIR bulk export", "url": address::base(&requested)},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [rest(&api)],
    });
    let fhir = HeaderValue::from_static("application/fhir+json");
    Ok(([(header::CONTENT_TYPE, fhir)], Json(statement)).into_response())
}

/// `GET /.well-known/smart-configuration`.
pub(super) async fn smart(State(api): State<Api>, Path(datastore): Path<String>) -> Result<Response, Refused> {
    let configuration = api.settings.access.guard().and_then(|guard| guard.smart_configuration.as_ref());
    match configuration.filter(|_| api.service.data_store(&datastore).is_some()) {
        Some(configuration) => Ok(Json(configuration).into_response()),
        None => Err(Refused::not_found("no tokens are taken here")),
    }
}

fn rest(api: &Api) -> Value {
    let mut rest = json!({"mode": "server", "resource": resources(), "operation": [operation("export")]});
    let smart = api.settings.access.guard().and_then(|guard| guard.smart_configuration.as_ref());
    if let (Some(smart), Some(rest)) = (smart, rest.as_object_mut()) {
        rest.insert("security".to_owned(), security(smart));
    }
    rest
}

/// That tokens are taken, and where they are to be had.
fn security(smart: &Value) -> Value {
    let service = json!({"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
        "code": "SMART-on-FHIR",
    }]});
    let uris = json!([{"url": "token", "valueUri": smart.get("token_endpoint")}]);
    json!({
        "service": [service],
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": uris,
        }],
    })
}

fn operation(definition: &str) -> Value {
    json!({"name": "export", "definition": format!("{DEFINITIONS}/{definition}")})
}

/// Every type of R4 can be exported, and `_since` looks at when it was last updated.
fn resources() -> Vec<Value> {
    let resource = |name: &str| {
        let mut resource = json!({
            "type": name,
            "searchParam": [{"name": "_lastUpdated", "type": "date"}],
        });
        let definition = match name {
            "Patient" => Some("patient-export"),
            "Group" => Some("group-export"),
            _ => None,
        };
        if let (Some(definition), Some(resource)) = (definition, resource.as_object_mut()) {
            resource.insert("operation".to_owned(), json!([operation(definition)]));
        }
        resource
    };
    ResourceType::all_r4().map(|resource_type| resource(resource_type.as_str())).collect()
}
