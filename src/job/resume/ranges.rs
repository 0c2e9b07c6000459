//! What is read again: the ranges of the snapshot against what is durable of each type.

use std::collections::BTreeMap;

use crate::engine::ReadFrom;
use crate::ledger::{END_OF_RANGE, LedgerRow, Mark, Place, Position};
use crate::writer::Content;

/// Up to where a type is durable, and its row as of there.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) place: Place,
    pub(super) mark: Mark,
}

impl Reached {
    /// Nothing is durable.
    pub(super) fn nothing() -> Self {
        let mark = Mark { position: Position::start(), row: LedgerRow::default(), alone: false };
        Self { place: (0, 0), mark }
    }
}

/// The end of a range that was noted.
#[derive(Clone, Debug)]
pub(super) struct RangeEnd {
    pub(super) index: usize,
    pub(super) name: String,
    /// Rows that had changed since the one before.
    pub(super) changed: BTreeMap<Option<Content>, LedgerRow>,
}

/// Ends of ranges with the rows of all types as of each.
#[derive(Debug, Default)]
pub(super) struct RangeEnds {
    ends: Vec<RangeEnd>,
    rows: Vec<BTreeMap<Option<Content>, LedgerRow>>,
}

impl RangeEnds {
    pub(super) fn new(ends: Vec<RangeEnd>) -> Self {
        let mut rows: Vec<BTreeMap<_, _>> = Vec::with_capacity(ends.len());
        for end in &ends {
            let mut now = rows.last().cloned().unwrap_or_default();
            now.extend(end.changed.clone());
            rows.push(now);
        }
        Self { ends, rows }
    }

    /// Types that were met.
    pub(super) fn contents(&self) -> impl Iterator<Item = &Option<Content>> {
        self.rows.last().into_iter().flat_map(BTreeMap::keys)
    }

    /// The rows as of the last end.
    pub(super) fn last_rows(&self) -> Vec<(Option<Content>, LedgerRow)> {
        self.rows.last().into_iter().flatten().map(|(content, row)| (content.clone(), *row)).collect()
    }

    /// The first range that isn't noted.
    pub(super) fn first_behind(&self) -> usize {
        self.ends.last().map_or(0, |end| end.index + 1)
    }

    /// Goes on to the last end up to which nothing more of the type was written: up to there only its row has changed.
    pub(super) fn advance(&self, content: Option<&Content>, reached: Reached) -> Reached {
        let key = content.cloned();
        for (end, rows) in self.ends.iter().zip(&self.rows).rev() {
            let row = rows.get(&key).copied().unwrap_or_default();
            let place = (end.index, END_OF_RANGE);
            if row.written == reached.mark.row.written && place > reached.place {
                let position =
                    Position { range: end.name.as_str().into(), cursor: [].into(), rows_after: 0, place: END_OF_RANGE };
                return Reached { place, mark: Mark { position, row, alone: false } };
            }
        }
        reached
    }

    /// How each of so many ranges is to be read.
    pub(super) fn reads(&self, ranges: usize, reached: &BTreeMap<Option<Content>, Reached>) -> Vec<ReadFrom> {
        (0..ranges).map(|index| self.read(index, reached)).collect()
    }

    fn read(&self, index: usize, reached: &BTreeMap<Option<Content>, Reached>) -> ReadFrom {
        let end = (index, END_OF_RANGE);
        let noted = self.ends.iter().find(|noted| noted.index >= index);
        let lacks = |content: &Option<Content>| reached.get(content).is_none_or(|reached| reached.place < end);
        if noted.is_some_and(|noted| !noted.changed.keys().any(lacks)) {
            return ReadFrom::Nowhere;
        }
        let alone = reached.iter().filter(|(_, reached)| reached.place.0 == index && reached.mark.alone);
        match alone.max_by_key(|(_, reached)| reached.place.1) {
            Some((Some(content), reached)) if reached.place != end => {
                ReadFrom::Position(reached.mark.position.clone(), content.clone())
            }
            _ => ReadFrom::Start,
        }
    }
}
