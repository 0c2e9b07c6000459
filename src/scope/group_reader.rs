//! Reads Groups out of lines, in constant memory but for the members.
//!
//! A line is read to its end only if it is a Group that is wanted. Any order of keys will do: members that come before
//! the id are collected until the id tells whose they are. Duplicate keys: the last one wins, but a line whose first
//! `resourceType` or `id` says that it isn't wanted is left at once, whatever a second one would say; such a Group then
//! counts as not found, which nobody can overlook.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;

use super::PatientSet;
use super::group_fields::GroupFields;
use super::json_push::{JsonFault, JsonPush};
use super::member::{Added, Flag, Rules};

/// Longest Group that is read, in bytes.
pub const GROUP_LIMIT_BYTES: usize = 1 << 30;

/// Most Groups that a cohort may be made of: what a job remembers of them isn't paid for by the 40 bytes a patient.
pub(super) const MAX_GROUPS: usize = 16_384;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a line turned out to be.
#[derive(Debug)]
pub(super) enum LineEnd {
    /// Nothing that is wanted.
    Other,
    /// A wanted Group, read whole; its members are to be committed or rolled back.
    Group(GroupHead),
    /// Something that couldn't be read whole and may be a wanted Group.
    Broken(BrokenLine),
}

/// A Group but for its members.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupHead {
    pub(super) id: String,
    pub(super) actual: Flag,
    pub(super) active: Flag,
}

/// As much as is known of a line that couldn't be read whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrokenLine {
    pub(super) why: Fault,
    /// Its type was read, and it is Group.
    pub(super) is_group: bool,
    /// Its id was read, and it is this wanted one.
    pub(super) id: Option<String>,
}

/// Why a Group can't be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Json(JsonFault),
    NoObject,
    TooLong,
    TooManyGroups,
    OddMember,
    OddActual,
    /// The source failed in the middle.
    CutOff,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(fault) => fault.fmt(f),
            Self::NoObject => f.write_str("it is no object"),
            Self::TooLong => write!(f, "it is longer than {GROUP_LIMIT_BYTES} bytes"),
            Self::TooManyGroups => write!(f, "it has more than {MAX_GROUPS} other Groups as members"),
            Self::OddMember => f.write_str("its member isn't an array"),
            Self::OddActual => f.write_str("its actual isn't a boolean"),
            Self::CutOff => f.write_str("the source can't be read to its end"),
        }
    }
}

/// Reads one line after another.
#[derive(Debug)]
pub(super) struct GroupReader<'a> {
    json: JsonPush,
    fields: GroupFields<'a>,
    state: LineState,
    limit_bytes: usize,
    line_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// At the start, after so many bytes of a byte order mark.
    Start(usize),
    Reading,
    /// The line is nothing that is wanted.
    Left,
    Broken(Fault),
}

impl<'a> GroupReader<'a> {
    pub(super) fn new(rules: Rules<'a>, patients: PatientSet, limit_bytes: usize) -> Self {
        Self {
            json: JsonPush::new(),
            fields: GroupFields::new(rules, patients),
            state: LineState::Start(0),
            limit_bytes,
            line_bytes: 0,
        }
    }

    /// Says which Groups are wanted from now on.
    pub(super) fn want(&mut self, ids: BTreeSet<String>) {
        self.fields.want(ids);
    }

    /// Takes the next bytes of the line.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = if let LineState::Start(seen) = self.state { self.after_mark(bytes, seen) } else { bytes };
        if self.state != LineState::Reading {
            return;
        }
        self.line_bytes += bytes.len();
        let outcome = self.json.push(bytes, &mut self.fields);
        self.follow(outcome);
        if self.state == LineState::Reading && self.line_bytes > self.limit_bytes {
            self.state = LineState::Broken(Fault::TooLong);
        }
    }

    fn follow(&mut self, outcome: Result<ControlFlow<()>, JsonFault>) {
        match outcome {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => self.state = self.fields.fault().map_or(LineState::Left, LineState::Broken),
            Err(fault) => self.state = LineState::Broken(Fault::Json(fault)),
        }
    }

    /// Skips a byte order mark, of which `seen` bytes came before.
    fn after_mark<'b>(&mut self, bytes: &'b [u8], seen: usize) -> &'b [u8] {
        let missing = BYTE_ORDER_MARK.get(seen..).unwrap_or_default();
        let count = bytes.iter().zip(missing).take_while(|(byte, mark)| byte == mark).count();
        let rest = bytes.get(count..).unwrap_or_default();
        self.state = if rest.is_empty() && count < missing.len() {
            LineState::Start(seen + count)
        } else if count == missing.len() || seen + count == 0 {
            LineState::Reading
        } else {
            LineState::Broken(Fault::Json(JsonFault::Syntax))
        };
        rest
    }

    /// Ends the line and says what it was. The next bytes begin a new one.
    pub(super) fn end_line(&mut self) -> LineEnd {
        if self.state == LineState::Reading && !self.json.is_blank() {
            let outcome = self.json.finish(&mut self.fields);
            self.follow(outcome);
        }
        let end = match self.state {
            LineState::Start(0) | LineState::Left => LineEnd::Other,
            LineState::Start(_) => self.fields.broken(Fault::Json(JsonFault::Incomplete)),
            LineState::Reading => self.fields.end(),
            LineState::Broken(fault) => self.fields.broken(fault),
        };
        self.next_line(&end);
        end
    }

    /// Ends the line because the source can't be read on.
    pub(super) fn cut_off(&mut self) -> LineEnd {
        let is_blank = self.json.is_blank() && matches!(self.state, LineState::Start(_) | LineState::Reading);
        let end =
            if is_blank || self.state == LineState::Left { LineEnd::Other } else { self.fields.broken(Fault::CutOff) };
        self.next_line(&end);
        end
    }

    fn next_line(&mut self, end: &LineEnd) {
        self.json.reset();
        self.state = LineState::Start(0);
        self.line_bytes = 0;
        self.fields.clear();
        if !matches!(end, LineEnd::Group(_)) {
            self.roll_back();
        }
    }

    /// Makes the members of the Group that was read part of the cohort.
    pub(super) fn commit(&mut self) -> Added {
        self.fields.members_mut().commit()
    }

    /// Forgets the members of the Group that was read.
    pub(super) fn roll_back(&mut self) {
        self.fields.members_mut().roll_back();
    }

    pub(super) fn into_patients(self) -> PatientSet {
        self.fields.into_patients()
    }
}
