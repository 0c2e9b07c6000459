//! What is made of a snapshot's ranges while a cohort is resolved.

use std::collections::BTreeSet;

use super::group_reader::{BrokenLine, Fault, GroupHead, GroupReader, LineEnd};
use super::member::Flag;
use super::read_ahead::Piece;
use super::{Cohort, CohortReport};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{CohortIds, Range, Rows};

/// Looks for the wanted Groups in all that is read and gathers their members.
#[derive(Debug)]
pub(super) struct GroupSink<'a> {
    reader: GroupReader<'a>,
    limit_bytes: usize,
    root: String,
    found: BTreeSet<String>,
    nested: BTreeSet<String>,
    report: CohortReport,
    /// The first thing that couldn't be read and may have been a Group that is missing.
    suspect: Option<Error>,
    /// Why reading on makes no sense.
    verdict: Option<Error>,
    place: Place,
}

/// Where in the snapshot the reading is.
#[derive(Debug, Default)]
struct Place {
    range: String,
    /// The source declares the range as one of another type than Group.
    is_other_type: bool,
    line: u64,
}

impl<'a> GroupSink<'a> {
    pub(super) fn new(reader: GroupReader<'a>, limit_bytes: usize, root: &str) -> Self {
        Self {
            reader,
            limit_bytes,
            root: root.to_owned(),
            found: BTreeSet::new(),
            nested: BTreeSet::new(),
            report: CohortReport { group: root.to_owned(), ..CohortReport::default() },
            suspect: None,
            verdict: None,
            place: Place::default(),
        }
    }

    /// Says which Groups to look for from now on.
    pub(super) fn want(&mut self, ids: BTreeSet<String>) {
        self.reader.want(ids);
    }

    /// Ids of the Groups that were found so far.
    pub(super) fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    /// Takes the ids of the Groups that were members of those found since the last time.
    pub(super) fn take_nested(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.nested)
    }

    /// Takes what couldn't be read since the last time and may have been a Group.
    pub(super) fn take_suspect(&mut self) -> Option<Error> {
        self.suspect.take()
    }

    pub(super) fn report_mut(&mut self) -> &mut CohortReport {
        &mut self.report
    }

    /// Keeps the ids of the patients too.
    pub(super) fn list_patients(&mut self) {
        self.reader.list_patients();
    }

    pub(super) fn into_parts(self) -> (Cohort, Option<CohortIds>) {
        let (patients, listed) = self.reader.into_patients();
        (Cohort { patients, groups: self.found, report: self.report }, listed)
    }

    /// Says that a range is read from its start.
    pub(super) fn begin_range(&mut self, range: &Range) {
        let is_other_type = range.resource_type.as_ref().is_some_and(|declared| declared.as_str() != "Group");
        self.place = Place { range: range.name.clone(), is_other_type, line: 0 };
    }

    /// Says that the range was read to its end, or why it wasn't.
    pub(super) fn end_range(&mut self, outcome: Result<()>) -> Result<()> {
        if let Some(verdict) = self.verdict.take() {
            return Err(verdict);
        }
        let Err(error) = outcome else { return self.end_line() };
        if error.kind() != ErrorKind::Unreadable {
            return Err(error);
        }
        self.place.line += 1;
        match self.reader.cut_off() {
            LineEnd::Broken(BrokenLine { why, is_group: true, id: Some(id) }) => {
                Err(self.unreadable(&format!("Group/{id}"), why).caused_by(error))
            }
            LineEnd::Broken(_) | LineEnd::Other | LineEnd::Group(_) => {
                let suspect = self.unreadable("a range that may hold a Group of the cohort", Fault::CutOff);
                self.suspect.get_or_insert(suspect.caused_by(error));
                Ok(())
            }
        }
    }

    fn end_line(&mut self) -> Result<()> {
        self.place.line += 1;
        match self.reader.end_line() {
            LineEnd::Other => Ok(()),
            LineEnd::Group(head) => self.take_group(head),
            LineEnd::Broken(line) => self.take_broken(line),
        }
    }

    fn take_broken(&mut self, line: BrokenLine) -> Result<()> {
        let BrokenLine { why, is_group, id } = line;
        match id {
            Some(id) if is_group => return Err(self.unreadable(&format!("Group/{id}"), why)),
            // Of a range of another type only what says that it is a Group, or bears its id, is taken for one.
            None if !is_group && self.place.is_other_type => {}
            Some(_) | None => {
                let suspect = self.unreadable("a resource that may be a Group of the cohort", why);
                self.suspect.get_or_insert(suspect);
            }
        }
        Ok(())
    }

    fn unreadable(&self, what: &str, why: Fault) -> Error {
        let message = format!("{what} can't be read whole, so the cohort isn't known: {why}");
        Error::new(ErrorKind::CohortUnreadable, message).with("range", &self.place.range).with("line", self.place.line)
    }

    fn take_group(&mut self, head: GroupHead) -> Result<()> {
        let GroupHead { id, actual, active } = head;
        if !self.found.insert(id.clone()) {
            let message = format!("Group/{id} stands twice in the snapshot, so the cohort isn't known");
            return Err(Error::new(ErrorKind::CohortUnreadable, message)
                .with("range", &self.place.range)
                .with("line", self.place.line));
        }
        if actual == Flag::Is(false) {
            return self.take_description(id);
        }
        if actual == Flag::Absent {
            self.report.warnings.push(format!("Group/{id} doesn't say whether it is actual; it is taken as actual"));
        }
        match active {
            Flag::Is(true) | Flag::Absent => {}
            Flag::Is(false) => {
                self.report.warnings.push(format!("Group/{id} isn't active; it is exported all the same"))
            }
            Flag::Odd => {
                self.report.warnings.push(format!("the active of Group/{id} isn't a boolean; it is passed over"))
            }
        }
        let added = self.reader.commit();
        self.report.add_counts(added.counts);
        self.nested.extend(added.nested);
        Ok(())
    }

    /// Takes a Group that describes people in place of listing them.
    fn take_description(&mut self, id: String) -> Result<()> {
        self.reader.roll_back();
        if id == self.root {
            let message =
                format!("Group/{id} has actual: false: it describes patients and lists none, so it has no cohort");
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        self.report.groups_not_actual.insert(id);
        Ok(())
    }

    fn read_lines(&mut self, bytes: &[u8]) -> Result<()> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.reader.push(bytes.get(start..end).unwrap_or_default());
            self.end_line()?;
            start = end + 1;
        }
        self.reader.push(bytes.get(start..).unwrap_or_default());
        Ok(())
    }

    fn read_rows(&mut self, rows: Rows) -> Result<Vec<u8>> {
        let (buffer, marks, _) = rows.into_parts();
        let mut start = 0;
        for mark in marks {
            // Without its line feed, which is no part of it.
            let row = buffer.filled().get(start..mark.end.saturating_sub(1)).unwrap_or_default();
            start = mark.end;
            if mark.deleted {
                self.place.line += 1;
                continue;
            }
            self.reader.push(row);
            self.end_line()?;
        }
        Ok(buffer.into_parts().0)
    }

    fn look_through(&mut self, piece: Piece) -> Result<Option<Vec<u8>>> {
        match piece {
            Piece::Lines(buffer) => {
                self.read_lines(buffer.filled())?;
                Ok(Some(buffer.into_parts().0))
            }
            Piece::Rows(rows) => self.read_rows(rows).map(Some),
            Piece::RowTooLong => {
                self.place.line += 1;
                self.take_broken(BrokenLine { why: Fault::TooLong, is_group: false, id: None })?;
                Ok(None)
            }
        }
    }

    /// Looks through what was read and gives its memory back.
    ///
    /// # Errors
    /// When reading on makes no sense: [`end_range`](Self::end_range) says why.
    pub(super) fn take(&mut self, piece: Piece) -> std::result::Result<Option<Vec<u8>>, ()> {
        self.look_through(piece).map_err(|error| {
            self.verdict.get_or_insert(error);
        })
    }

    pub(super) const fn line_limit_bytes(&self) -> usize {
        self.limit_bytes
    }
}
