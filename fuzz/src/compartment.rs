//! Loading a compartment: whatever is accepted, the scan finds a reference at each of its paths.

use std::sync::Arc;

use fhir_export::resource::{Compartment, References, ScanPlan, scan};
use serde_json::{Value, json};

/// A CompartmentDefinition and a Bundle of its search parameters, as the elements of an array.
pub fn compartment(data: &[u8]) {
    let Ok(Value::Array(documents)) = serde_json::from_slice(data) else { return };
    let [definition, parameters] = documents.as_slice() else { return };
    let compartment = match Compartment::from_definitions(definition, parameters) {
        Ok(compartment) => Arc::new(compartment),
        Err(error) => {
            assert!(!error.message().contains('\n'), "{error}");
            return;
        }
    };
    assert!(compartment.types().is_sorted());
    let plan = ScanPlan::with_references(Arc::clone(&compartment));
    let mut references = References::new();
    for resource_type in compartment.types() {
        assert!(compartment.contains_type(resource_type));
        assert!(compartment.paths_of(resource_type).next().is_some());
        // The type's own name and its id are texts: nothing lies below them.
        let is_text = |path: &str| matches!(path.split('.').next(), Some("resourceType" | "id"));
        for path in compartment.paths_of(resource_type).filter(|path| !is_text(path)) {
            let resource = resource(resource_type.as_str(), path);
            let facts = scan(resource.as_bytes(), &plan, &mut references);
            assert!(facts.is_ok(), "{path}: {facts:?}");
            assert!(references.iter().any(|reference| reference == "Patient/1"), "{resource_type}.{path}");
        }
    }
}

/// A resource that has a reference at a path, behind arrays.
fn resource(resource_type: &str, path: &str) -> String {
    let mut value = json!({"reference": "Patient/1"});
    for name in path.rsplit('.') {
        assert!(!name.is_empty(), "{path}");
        value = json!({name: [value]});
    }
    value["resourceType"] = resource_type.into();
    value.to_string()
}
