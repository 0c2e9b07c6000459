//! The selection of resource types.

use std::collections::{BTreeSet, btree_set};

use super::fault::{Fault, FaultKind};
use crate::fhir::ResourceType;

const ACCEPTED: &str = "names of R4 resource types, such as Patient,Observation";

/// Which resource types are exported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeSelection {
    /// Every type.
    All,
    /// Only these.
    Only(TypeSet),
}

impl TypeSelection {
    /// Selects only the given types.
    ///
    /// # Errors
    /// When there is none, or one isn't a type of R4.
    pub fn only(types: impl IntoIterator<Item = ResourceType>) -> Result<Self, Fault> {
        TypeSet::new(types).map(Self::Only)
    }

    /// What is asked for here, as far as it is allowed: everything is as much as is allowed, and types that are named come
    /// all or not at all.
    ///
    /// # Errors
    /// The named types that aren't allowed, in byte order.
    pub fn within(&self, allowed: &Self) -> Result<Self, Vec<ResourceType>> {
        let Self::Only(types) = self else { return Ok(allowed.clone()) };
        let beyond: Vec<ResourceType> = types.iter().filter(|one| !allowed.contains(one)).cloned().collect();
        if beyond.is_empty() { Ok(self.clone()) } else { Err(beyond) }
    }

    /// Whether all that another selects is selected here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(own), Self::Only(others)) => others.iter().all(|one| own.contains(one)),
        }
    }

    /// Whether resources of a type are wanted.
    #[must_use]
    pub fn contains(&self, resource_type: &ResourceType) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(resource_type),
        }
    }
}

/// At least one type of R4, each once, in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TypeSet(BTreeSet<ResourceType>);

impl TypeSet {
    /// Takes types; one that comes again does no harm.
    ///
    /// # Errors
    /// When there is none, or one isn't a type of R4.
    pub fn new(types: impl IntoIterator<Item = ResourceType>) -> Result<Self, Fault> {
        let types: BTreeSet<ResourceType> = types.into_iter().collect();
        if types.is_empty() {
            return Err(no_type("_type"));
        }
        match types.iter().find(|one| !one.is_r4()) {
            Some(unknown) => Err(unknown_type("_type", unknown.as_str())),
            None => Ok(Self(types)),
        }
    }

    /// Whether it holds a type.
    #[must_use]
    pub fn contains(&self, resource_type: &ResourceType) -> bool {
        self.0.contains(resource_type)
    }

    /// The types in byte order.
    pub fn iter(&self) -> btree_set::Iter<'_, ResourceType> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a TypeSet {
    type Item = &'a ResourceType;
    type IntoIter = btree_set::Iter<'a, ResourceType>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Reads a comma-separated list; names that are no type of R4 come as faults, each of its own.
///
/// A list that names nothing is a fault: it must not come to mean everything.
pub(super) fn read_list<'a>(
    parameter: &'a str,
    list: &'a str,
) -> impl Iterator<Item = Result<ResourceType, Fault>> + use<'a> {
    let names = || list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let nothing = names().next().is_none().then(|| Err(no_type(parameter).with_value(list)));
    let read = move |name: &str| ResourceType::r4(name).ok_or_else(|| unknown_type(parameter, name));
    nothing.into_iter().chain(names().map(read))
}

fn no_type(parameter: &str) -> Fault {
    Fault::new(FaultKind::Value, parameter, "names no resource type", ACCEPTED)
}

fn unknown_type(parameter: &str, name: &str) -> Fault {
    Fault::new(FaultKind::Value, parameter, "isn't a resource type of R4", ACCEPTED).with_value(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Vec<Result<String, String>> {
        let show = |one: Result<ResourceType, Fault>| one.map(|one| one.to_string()).map_err(|fault| fault.to_string());
        read_list("_type", list).map(show).collect()
    }

    #[test]
    fn blanks_and_empty_items_of_a_list_are_skipped() {
        assert_eq!(
            read("MedicationStatement, Observation,,\tPatient ,"),
            [Ok("MedicationStatement".to_owned()), Ok("Observation".to_owned()), Ok("Patient".to_owned())],
        );
    }

    #[test]
    fn a_list_that_names_nothing_is_not_everything() {
        for nothing in ["", " ", ",", " , ,"] {
            assert!(matches!(read(nothing).as_slice(), [Err(fault)] if fault.contains("names no resource type")));
        }
        assert!(TypeSelection::only([]).is_err());
    }

    #[test]
    fn each_name_that_is_no_type_is_named() {
        let read = read("Patient,patient,Foo,Resource");
        assert_eq!(read.len(), 4);
        for (one, name) in read.iter().zip(["Patient", "patient", "Foo", "Resource"]).skip(1) {
            let fault = one.as_ref().unwrap_err();
            assert!(fault.starts_with(&format!("_type {name:?} isn't a resource type of R4 (accepted: ")), "{fault}");
        }
    }

    #[test]
    fn a_selection_holds_types_of_r4_only() {
        let own = ResourceType::new("HospitalThing").unwrap();
        let patient = ResourceType::r4("Patient").unwrap();
        assert!(TypeSelection::only([own.clone(), patient.clone()]).is_err());
        let selection = TypeSelection::only([patient.clone(), patient.clone()]).unwrap();
        assert!(selection.contains(&patient) && !selection.contains(&own));
        assert!(TypeSelection::All.contains(&own));
    }
}
