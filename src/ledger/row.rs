//! Counts by fate.

use std::ops::AddAssign;

use super::{Exclusion, Fate};

/// So many resources of so many bytes, the line feed of each included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of resources.
    pub resources: u64,
    /// Their bytes, as they stand (or would stand) in the output.
    pub bytes: u64,
}

impl Count {
    /// A count.
    #[must_use]
    pub const fn new(resources: u64, bytes: u64) -> Self {
        Self { resources, bytes }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.resources += other.resources;
        self.bytes += other.bytes;
    }
}

/// What became of the resources of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerRow {
    /// Everything that was read; counted when a resource leaves the scan, before its fate is known.
    pub read: Count,
    /// In an object.
    pub written: Count,
    /// Left out, by reason, in the order of [`Exclusion::ALL`].
    pub excluded: [Count; Exclusion::ALL.len()],
    /// Not understood.
    pub quarantined: Count,
    /// Read, but not durable when the job ended.
    pub cut: Count,
    /// Replaced by a version stamped after T.
    pub superseded: Count,
    /// Observations about the resources, which aren't fates.
    pub notes: Notes,
}

/// What else a reader of the books should know; no part of the balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Written resources that also name patients outside the cohort.
    pub shared_with_non_members: u64,
    /// Compartment references to patients on bases that aren't the source's own.
    pub foreign_references: u64,
    /// Bodies in which a raw line end between tokens became a blank.
    pub reflowed: u64,
    /// Resources stamped after T that belong to the snapshot all the same.
    pub stamped_after_t: u64,
}

impl LedgerRow {
    /// Counts resources as read, with the fate they have found.
    pub fn record(&mut self, fate: Fate, count: Count) {
        self.read += count;
        *self.at_mut(fate) += count;
    }

    /// Moves resources that were counted as written to another fate, when they didn't become durable.
    ///
    /// More than were counted, as by a journal that contradicts itself, leave books that don't balance.
    pub fn cut(&mut self, count: Count) {
        self.written.resources = self.written.resources.saturating_sub(count.resources);
        self.written.bytes = self.written.bytes.saturating_sub(count.bytes);
        self.cut += count;
    }

    /// The count of one exclusion.
    #[must_use]
    pub fn excluded(&self, exclusion: Exclusion) -> Count {
        self.excluded.get(exclusion.index()).copied().unwrap_or_default()
    }

    /// The sum of all fates.
    #[must_use]
    pub fn accounted(&self) -> Count {
        let mut sum = self.written;
        for count in self.excluded {
            sum += count;
        }
        sum += self.quarantined;
        sum += self.cut;
        sum += self.superseded;
        sum
    }

    /// Whether the fates add up to what was read.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.accounted() == self.read
    }

    fn at_mut(&mut self, fate: Fate) -> &mut Count {
        match fate {
            Fate::Written => &mut self.written,
            #[expect(clippy::indexing_slicing, reason = "an exclusion's index is below the array's length")]
            Fate::Excluded(exclusion) => &mut self.excluded[exclusion.index()],
            Fate::Quarantined => &mut self.quarantined,
            Fate::Cut => &mut self.cut,
            Fate::Superseded => &mut self.superseded,
        }
    }
}

impl AddAssign for LedgerRow {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
        for (mine, others) in self.excluded.iter_mut().zip(other.excluded) {
            *mine += others;
        }
        self.quarantined += other.quarantined;
        self.cut += other.cut;
        self.superseded += other.superseded;
        self.notes += other.notes;
    }
}

impl AddAssign for Notes {
    fn add_assign(&mut self, other: Self) {
        self.shared_with_non_members += other.shared_with_non_members;
        self.foreign_references += other.foreign_references;
        self.reflowed += other.reflowed;
        self.stamped_after_t += other.stamped_after_t;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_balances_whatever_fate_a_resource_finds() {
        let mut row = LedgerRow::default();
        let one = Count::new(1, 10);
        row.record(Fate::Written, Count::new(3, 30));
        row.record(Fate::Quarantined, one);
        row.record(Fate::Superseded, one);
        for exclusion in Exclusion::ALL {
            row.record(Fate::Excluded(exclusion), one);
        }
        row.cut(one);
        assert!(row.balances());
        assert_eq!(row.read, Count::new(13, 130));
        assert_eq!((row.written, row.cut), (Count::new(2, 20), one));
    }

    #[test]
    fn a_resource_without_a_fate_unbalances_the_row() {
        let mut row = LedgerRow::default();
        row.read += Count::new(1, 10);
        assert!(!row.balances());
    }
}
