//! Compartments: which references of which types put a resource into somebody's compartment.
//!
//! A search parameter that says `where(resolve() is Patient)` needs nothing to be fetched: the scan delivers the text
//! of the reference, and whoever classifies it sees the type of its target there.

mod definitions;
mod expression;
mod r4_patient;
#[cfg(test)]
mod tests;
mod trie;

use serde_json::Value;
use sha2::{Digest, Sha256};
pub(super) use trie::{NodeId, Trie};

use crate::error::Result;
use crate::fhir::ResourceType;

/// A compartment definition: per resource type the element paths whose references count.
///
/// A path is exact: `Observation.subject` and `Observation.performer` are in the Patient compartment,
/// `Observation.focus` isn't. Being in it by identity (a Patient in its own compartment) is no path.
#[derive(Clone, Debug)]
pub struct Compartment {
    target: ResourceType,
    // In byte order of the types' names.
    types: Vec<TypePaths>,
    // By hash of the name: 1 + the place in `types`, or 0.
    slots: Vec<u32>,
    trie: Trie,
}

#[derive(Clone, Debug)]
struct TypePaths {
    resource_type: ResourceType,
    root: NodeId,
    paths: Vec<String>,
}

impl Compartment {
    /// R4's own Patient compartment: 66 types. Source: FHIR 4.0.1, `CompartmentDefinition-patient.json`.
    ///
    /// # Panics
    /// Never: its table names R4 types only.
    #[must_use]
    pub fn r4_patient() -> Self {
        let Some(target) = ResourceType::r4(r4_patient::TARGET) else { unreachable!("R4 has the type Patient") };
        let types = r4_patient::PATHS.iter().filter_map(|(name, paths)| {
            let paths = paths.iter().map(|&path| path.to_owned()).collect();
            Some((ResourceType::r4(name)?, paths))
        });
        Self::new(target, types)
    }

    /// Loads a CompartmentDefinition with the search parameters that it names (a Bundle of SearchParameter).
    ///
    /// # Errors
    /// When one of the two isn't what it should be, when a search parameter is missing or there twice, or when an
    /// expression has a shape that no JSON path can be made of; the error names the search parameter and its
    /// expression.
    pub fn from_definitions(compartment_definition: &Value, search_parameters: &Value) -> Result<Self> {
        let (target, paths) = definitions::read(compartment_definition, search_parameters)?;
        Ok(Self::new(target, paths.into_iter().map(|(name, paths)| (name, paths.into_iter().collect()))))
    }

    fn new(target: ResourceType, paths: impl Iterator<Item = (ResourceType, Vec<String>)>) -> Self {
        let mut trie = Trie::default();
        let mut types: Vec<TypePaths> = paths
            .map(|(resource_type, paths)| {
                let root = trie.add_root();
                for path in &paths {
                    trie.add_path(root, path);
                }
                TypePaths { resource_type, root, paths }
            })
            .collect();
        types.sort_by(|a, b| a.resource_type.cmp(&b.resource_type));
        let slots = slots(&types);
        Self { target, types, slots, trie }
    }

    /// The type whose instances have such a compartment: Patient for the Patient compartment.
    #[must_use]
    pub const fn target(&self) -> &ResourceType {
        &self.target
    }

    /// Tells whether resources of this type can be in the compartment by a reference.
    #[must_use]
    pub fn contains_type(&self, resource_type: &ResourceType) -> bool {
        self.type_named(resource_type.as_str()).is_some()
    }

    /// The types that can be in the compartment by a reference, in byte order.
    pub fn types(&self) -> impl Iterator<Item = &ResourceType> {
        self.types.iter().map(|entry| &entry.resource_type)
    }

    /// The element paths of a type whose references count, such as `participant.actor`, in byte order.
    ///
    /// They are the names of JSON members: a choice element is `codeReference`, arrays are no level of their own.
    pub fn paths_of(&self, resource_type: &ResourceType) -> impl Iterator<Item = &str> {
        self.type_named(resource_type.as_str()).into_iter().flat_map(|entry| entry.paths.iter().map(String::as_str))
    }

    /// What tells this definition from any other: a sum over its types and paths.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut sum = Sha256::new();
        sum.update(self.target.as_str());
        for TypePaths { resource_type, paths, .. } in &self.types {
            let mut paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            paths.sort_unstable();
            sum.update(format!("\n{resource_type}:{}", paths.join(",")));
        }
        sum.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The node where the paths of a type begin.
    pub(super) fn root_of(&self, type_name: &str) -> Option<NodeId> {
        self.type_named(type_name).map(|entry| entry.root)
    }

    pub(super) const fn trie(&self) -> &Trie {
        &self.trie
    }

    fn type_named(&self, name: &str) -> Option<&TypePaths> {
        let mut slot = hash(name);
        loop {
            let place = *self.slots.get(slot & (self.slots.len() - 1))?;
            let found = self.types.get((place as usize).checked_sub(1)?)?;
            if found.resource_type.as_str() == name {
                return Some(found);
            }
            slot += 1;
        }
    }
}

/// Lays the types out by the hash of their names: asked for once a line, where a binary search is too slow.
fn slots(types: &[TypePaths]) -> Vec<u32> {
    let mut slots = vec![0; (types.len() * 4).next_power_of_two()];
    let mask = slots.len() - 1;
    for (place, entry) in (1_u32..).zip(types) {
        let mut slot = hash(entry.resource_type.as_str()) & mask;
        while let Some(taken) = slots.get_mut(slot) {
            if *taken == 0 {
                *taken = place;
                break;
            }
            slot = (slot + 1) & mask;
        }
    }
    slots
}

/// Tells the types of R4 apart well enough; a set of types made to collide costs time, and nothing else.
fn hash(name: &str) -> usize {
    let byte = |place: usize| name.as_bytes().get(place).map_or(0, |&byte| usize::from(byte));
    let length = name.len();
    length + byte(0) * 7 + byte(length / 2) * 31 + byte(length.wrapping_sub(1)) * 61
}
