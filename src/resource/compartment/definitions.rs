//! Reads a compartment from its definition and the search parameters that it names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::expression::selections;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;

/// Most paths that one type may have. R4's largest compartment has five.
const PATHS_LIMIT: usize = 256;

/// R4 writes this where a type is in the compartment by identity.
const BY_IDENTITY: &str = "{def}";

/// Element paths by type.
pub(super) type Paths = BTreeMap<ResourceType, BTreeSet<String>>;

/// Search parameters by type and code.
type Parameters<'v> = BTreeMap<(&'v str, &'v str), Vec<&'v Value>>;

/// Reads the compartment's own type and its paths.
pub(super) fn read(compartment_definition: &Value, search_parameters: &Value) -> Result<(ResourceType, Paths)> {
    expect_type(compartment_definition, "CompartmentDefinition")?;
    expect_type(search_parameters, "Bundle")?;
    let target = type_named(compartment_definition.get("code"), "CompartmentDefinition.code")?;
    let resources = compartment_definition.get("resource").and_then(Value::as_array);
    let Some(resources) = resources else {
        return Err(invalid("the CompartmentDefinition has no array resource"));
    };
    let parameters = index(search_parameters)?;
    let mut paths = Paths::new();
    for resource in resources {
        let resource_type = type_named(resource.get("code"), "CompartmentDefinition.resource.code")?;
        for code in codes(resource)? {
            let found = paths_of_parameter(&resource_type, code, &target, &parameters)?;
            let known = paths.entry(resource_type.clone()).or_default();
            known.extend(found);
            if known.len() > PATHS_LIMIT {
                return Err(invalid(format!("more than {PATHS_LIMIT} paths")).with("type", &resource_type));
            }
        }
    }
    paths.retain(|_, paths| !paths.is_empty());
    Ok((target, paths))
}

fn expect_type(value: &Value, expected: &str) -> Result<()> {
    if value.get("resourceType").and_then(Value::as_str) == Some(expected) {
        return Ok(());
    }
    Err(invalid(format!("this is no {expected}")))
}

fn type_named(value: Option<&Value>, place: &'static str) -> Result<ResourceType> {
    let name = value.and_then(Value::as_str).unwrap_or_default();
    ResourceType::new(name).map_err(|error| invalid(format!("{place} is {}", quoted(name))).caused_by(error))
}

fn codes(resource: &Value) -> Result<Vec<&str>> {
    let Some(list) = resource.get("param") else { return Ok(Vec::new()) };
    let codes: Option<Vec<&str>> = list.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let codes = codes.ok_or_else(|| invalid("CompartmentDefinition.resource.param isn't an array of strings"))?;
    Ok(codes.into_iter().filter(|code| *code != BY_IDENTITY).collect())
}

fn index(bundle: &Value) -> Result<Parameters<'_>> {
    let entries = bundle.get("entry").and_then(Value::as_array);
    let entries = entries.ok_or_else(|| invalid("the Bundle of search parameters has no array entry"))?;
    let mut parameters = Parameters::new();
    for parameter in entries.iter().filter_map(|entry| entry.get("resource")) {
        if parameter.get("resourceType").and_then(Value::as_str) != Some("SearchParameter") {
            continue;
        }
        let Some(code) = parameter.get("code").and_then(Value::as_str) else { continue };
        let bases = parameter.get("base").and_then(Value::as_array).into_iter().flatten();
        for base in bases.filter_map(Value::as_str) {
            parameters.entry((base, code)).or_default().push(parameter);
        }
    }
    Ok(parameters)
}

fn paths_of_parameter(
    resource_type: &ResourceType,
    code: &str,
    target: &ResourceType,
    parameters: &Parameters<'_>,
) -> Result<Vec<String>> {
    let parameter = parameter(resource_type, code, parameters)?;
    let member = |name| parameter.get(name).and_then(Value::as_str).unwrap_or_default();
    let expression = member("expression");
    let refuse = |reason: &str| {
        invalid(format!("the search parameter {} {reason}", quoted(member("id"))))
            .with("type", resource_type)
            .with("code", quoted(code))
            .with("expression", quoted(expression))
    };
    if member("type") != "reference" {
        return Err(refuse("isn't of type reference"));
    }
    let found = selections(expression, resource_type.as_str());
    let found = found.ok_or_else(|| refuse("has an expression that no JSON path can be made of"))?;
    if found.is_empty() {
        return Err(refuse("has an expression that selects nothing of this type"));
    }
    if found.iter().any(|selection| selection.path.is_empty()) {
        return Err(refuse("selects the resource itself"));
    }
    // A path for references to another type only puts nothing in this compartment.
    let counts = |only: &Option<String>| only.as_deref().is_none_or(|only| only == target.as_str());
    Ok(found.into_iter().filter(|selection| counts(&selection.target)).map(|selection| selection.path).collect())
}

fn parameter<'v>(resource_type: &ResourceType, code: &str, parameters: &Parameters<'v>) -> Result<&'v Value> {
    let bases = [resource_type.as_str(), "DomainResource", "Resource"];
    let found = bases.iter().find_map(|base| parameters.get(&(*base, code)));
    match found.map(Vec::as_slice) {
        Some([parameter]) => Ok(*parameter),
        Some([_, _, ..]) => Err(invalid("two search parameters have the same code")),
        Some([]) | None => Err(invalid("there is no such search parameter")),
    }
    .map_err(|error| error.with("type", resource_type).with("code", quoted(code)))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(100).collect();
    format!("{cut:?}")
}
