//! Where the parts of a staged file lie in it.
//!
//! A part is written where its predecessor ends, so that a file whose parts came in order is whole as it lies. A part
//! that comes before its predecessor goes to the end; [`Extents::in_order`] then says that the file must be put in
//! order.
//!
//! The record that is kept beside a staged file has a line for each part that was written, and a line after each sync that
//! says how many lines before it are of bytes that are on the disk. After a failure of the machine's power the others may
//! be lost, though the file is as long as it was.

use std::collections::{BTreeMap, BTreeSet};

/// How a line begins that tells of a sync.
const SYNCED: &str = "synced ";

/// A part's place in the staged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Extent {
    pub(super) const fn end(self) -> u64 {
        self.offset + self.length
    }

    const fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

/// The parts that have a place, and those that are written.
#[derive(Debug, Default)]
pub(super) struct Extents {
    placed: BTreeMap<u32, Extent>,
    written: BTreeMap<u32, Extent>,
    /// Parts of an earlier attempt whose bytes may not have reached the disk.
    doubtful: BTreeSet<u32>,
    /// Lines of the record.
    lines: usize,
}

impl Extents {
    /// Gives a part its place; one that is sent again with the same length has the same place again.
    pub(super) fn place(&mut self, number: u32, length: u64) -> Extent {
        if let Some(extent) = self.placed.get(&number).filter(|extent| extent.length == length) {
            return *extent;
        }
        self.placed.remove(&number);
        self.written.remove(&number);
        let before = number.checked_sub(1).and_then(|before| self.placed.get(&before));
        let follows = Extent { offset: before.map_or(0, |before| before.end()), length };
        let known = number == 1 || before.is_some();
        let free = known && !self.placed.values().any(|other| other.overlaps(follows));
        let extent = if free { follows } else { Extent { offset: self.end(), length } };
        self.placed.insert(number, extent);
        extent
    }

    /// Says that a part is written at its place.
    pub(super) fn written(&mut self, number: u32, extent: Extent) {
        self.placed.insert(number, extent);
        self.written.insert(number, extent);
        self.doubtful.remove(&number);
    }

    /// The parts that are written, by number, and whether their bytes may not have reached the disk.
    pub(super) fn parts(&self) -> Vec<(u32, Extent, bool)> {
        let part = |(number, extent): (&u32, &Extent)| (*number, *extent, self.doubtful.contains(number));
        self.written.iter().map(part).collect()
    }

    /// How many lines the record has.
    pub(super) const fn lines(&self) -> usize {
        self.lines
    }

    /// Says that the record has so many lines more.
    pub(super) const fn add_lines(&mut self, count: usize) {
        self.lines += count;
    }

    /// The first `count` parts, if all of them are written.
    pub(super) fn first(&self, count: usize) -> Result<Vec<Extent>, u32> {
        (1..).take(count).map(|number| self.written.get(&number).copied().ok_or(number)).collect()
    }

    /// Whether these parts lie one after the other from the beginning of the file.
    pub(super) fn in_order(parts: &[Extent]) -> bool {
        let mut end = 0;
        parts.iter().all(|part| part.offset == std::mem::replace(&mut end, part.end()))
    }

    fn end(&self) -> u64 {
        self.placed.values().map(|extent| extent.end()).max().unwrap_or(0)
    }

    /// One line of the record that is kept beside a staged file, so that it can be opened again.
    pub(super) fn line(number: u32, extent: Extent) -> String {
        format!("{number} {} {}\n", extent.offset, extent.length)
    }

    /// The line of the record after a sync of the staged file that was begun when the record had so many lines.
    pub(super) fn synced_line(lines: usize) -> String {
        format!("{SYNCED}{lines}\n")
    }

    /// Reads the record; a last line that was cut off, or anything that isn't ours, is left out.
    pub(super) fn from_record(record: &str) -> Self {
        let mut extents = Self::default();
        let mut lines_of = BTreeMap::new();
        let mut synced = 0;
        let lines = record.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        for (index, line) in lines.enumerate() {
            extents.lines = index + 1;
            if let Some(lines) = line.strip_prefix(SYNCED).and_then(|lines| lines.parse().ok()) {
                synced = synced.max(index.min(lines));
                continue;
            }
            let mut fields = line.split(' ');
            let mut next = || fields.next()?.parse::<u64>().ok();
            let (Some(number), Some(offset), Some(length), None) = (next(), next(), next(), fields.next()) else {
                continue;
            };
            let Ok(number) = u32::try_from(number) else { continue };
            let extent = Extent { offset, length };
            // What lies where a later part was written is no longer there.
            extents.placed.retain(|_, other| !other.overlaps(extent));
            extents.written.retain(|_, other| !other.overlaps(extent));
            extents.written(number, extent);
            lines_of.insert(number, index);
        }
        let is_doubtful = |number: &u32| lines_of.get(number).is_some_and(|line| *line >= synced);
        extents.doubtful = extents.written.keys().copied().filter(is_doubtful).collect();
        extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(extents: &mut Extents, number: u32, length: u64) -> u64 {
        let extent = extents.place(number, length);
        extents.written(number, extent);
        extent.offset
    }

    fn lengths(extents: &Extents) -> Vec<(u32, u64)> {
        extents.parts().into_iter().map(|(number, extent, _)| (number, extent.length)).collect()
    }

    #[test]
    fn parts_behind_the_last_sync_are_doubtful_until_they_are_written_again() {
        let doubtful = |extents: &Extents| -> Vec<u32> {
            extents.parts().into_iter().filter(|(.., doubtful)| *doubtful).map(|(number, ..)| number).collect()
        };
        for (record, expected) in [
            ("1 0 10\n2 10 10\n", &[1, 2][..]),
            ("1 0 10\n2 10 10\nsynced 1\n3 20 10\n", &[2, 3]),
            ("1 0 10\n2 10 10\nsynced 1\n3 20 10\nsynced 4\n", &[]),
            // A part that was written again, and a sync that can't have known so many lines.
            ("1 0 10\n2 10 10\nsynced 2\n1 0 10\n", &[1]),
            ("1 0 10\nsynced 9\n2 10 10\n", &[2]),
            ("1 0 10\nsynced x\n", &[1]),
        ] {
            assert_eq!(doubtful(&Extents::from_record(record)), expected, "{record:?}");
        }
        let mut extents = Extents::from_record("1 0 10\n2 10 10\n");
        written(&mut extents, 1, 10);
        assert_eq!((doubtful(&extents), extents.lines()), (vec![2], 2));
    }

    #[test]
    fn parts_in_order_lie_in_order() {
        let mut extents = Extents::default();
        assert_eq!(
            [(1, 10), (2, 20), (3, 5)].map(|(number, length)| written(&mut extents, number, length)),
            [0, 10, 30]
        );
        assert!(Extents::in_order(&extents.first(3).unwrap()));
        assert_eq!(extents.first(4), Err(4));
    }

    #[test]
    fn a_part_before_its_predecessor_goes_to_the_end() {
        let mut extents = Extents::default();
        assert_eq!([(2, 20), (1, 10)].map(|(number, length)| written(&mut extents, number, length)), [0, 20]);
        assert!(!Extents::in_order(&extents.first(2).unwrap()));
    }

    #[test]
    fn a_part_that_was_lost_fills_its_gap() {
        let mut extents = Extents::from_record("1 0 10\n3 30 5\n4 35");
        assert_eq!(lengths(&extents), [(1, 10), (3, 5)]);
        assert_eq!(written(&mut extents, 2, 20), 10);
        assert!(Extents::in_order(&extents.first(3).unwrap()));
    }

    #[test]
    fn a_part_of_another_length_never_lies_on_another_part() {
        let mut extents = Extents::from_record("1 0 10\n2 10 10\n");
        assert_eq!(written(&mut extents, 1, 11), 20);
        assert_eq!(written(&mut extents, 2, 9), 31);
        assert_eq!(extents.first(2).unwrap().iter().map(|part| part.length).sum::<u64>(), 20);
    }

    #[test]
    fn a_place_that_was_used_again_belongs_to_the_last_part_there() {
        let extents = Extents::from_record("1 0 10\n2 10 10\n2 10 4\n3 14 4\nnonsense\n1 2 3 4\n");
        assert_eq!(lengths(&extents), [(1, 10), (2, 4), (3, 4)]);
    }
}
