//! The types of a job, numbered as they are met.

use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::sync::{PoisonError, RwLock};

/// Most types that one job writes.
pub const MAX_TYPES: usize = 256;

/// The place of a type in the tables of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// Resources whose type isn't known, because they can't be understood.
    pub const UNKNOWN: Self = Self(0);

    /// The job's own error report, which holds no resource of the source.
    pub const ERRORS: Self = Self(1);

    /// What was deleted: one row for all types.
    pub const DELETED: Self = Self(2);

    const FIRST_TYPE: usize = 3;

    /// The place in a table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Numbers the types of a job. The numbers depend on who comes first and are never shown.
#[derive(Debug, Default)]
pub struct TypeTable(RwLock<Vec<ResourceType>>);

impl TypeTable {
    /// The slot of a type, which is new if the type is.
    ///
    /// # Errors
    /// When the name isn't one of a type, or would be the job's 257th.
    pub fn slot(&self, name: &str) -> Result<Slot> {
        if let Some(slot) = self.find(name) {
            return Ok(slot);
        }
        let new = ResourceType::new(name)
            .map_err(|error| Error::new(ErrorKind::Internal, "not the name of a type").caused_by(error))?;
        let mut types = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have met it between the two locks.
        if let Some(index) = types.iter().position(|known| *known == new) {
            return Ok(slot_at(index));
        }
        if types.len() == MAX_TYPES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("the source holds more than {MAX_TYPES} resource types"),
            )
            .with("type", new));
        }
        types.push(new);
        Ok(slot_at(types.len() - 1))
    }

    /// The type in a slot; `None` for the slots that are of no type or were never given out.
    #[must_use]
    pub fn resource_type(&self, slot: Slot) -> Option<ResourceType> {
        let types = self.0.read().unwrap_or_else(PoisonError::into_inner);
        types.get(slot.index().checked_sub(Slot::FIRST_TYPE)?).cloned()
    }

    /// The types met so far with their slots.
    #[must_use]
    pub fn all(&self) -> Vec<(Slot, ResourceType)> {
        let types = self.0.read().unwrap_or_else(PoisonError::into_inner);
        types.iter().enumerate().map(|(index, resource_type)| (slot_at(index), resource_type.clone())).collect()
    }

    fn find(&self, name: &str) -> Option<Slot> {
        let types = self.0.read().unwrap_or_else(PoisonError::into_inner);
        types.iter().position(|known| known.as_str() == name).map(slot_at)
    }
}

fn slot_at(index: usize) -> Slot {
    Slot(u16::try_from(index + Slot::FIRST_TYPE).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore;

    #[test]
    fn a_type_keeps_its_slot_and_the_257th_is_refused() {
        explore(async || {
            let table = TypeTable::default();
            let patient = table.slot("Patient").unwrap();
            assert_ne!(patient, Slot::UNKNOWN);
            assert_eq!(table.slot("Patient").unwrap(), patient);
            assert_eq!(table.resource_type(patient).unwrap().as_str(), "Patient");
            assert_eq!(table.resource_type(Slot::UNKNOWN), None);
            for (a, b) in (0..255u8).map(|n| (n / 16, n % 16)) {
                table.slot(&format!("T{}{}", char::from(b'a' + a), char::from(b'a' + b))).unwrap();
            }
            assert_eq!(table.all().len(), 256);
            assert_eq!(table.slot("OneMore").unwrap_err().kind(), ErrorKind::LimitExceeded);
        });
    }
}
