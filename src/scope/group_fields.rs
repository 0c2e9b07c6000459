//! The elements of a Group that matter, out of the tokens of its JSON.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::PatientSet;
use super::group_reader::{BrokenLine, Fault, GroupHead, LineEnd, MAX_GROUPS};
use super::json_push::{Event, Visitor};
use super::member::{Edge, Flag, Member, Members, Rules};
use crate::source::CohortIds;

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
const LEAVE: ControlFlow<()> = ControlFlow::Break(());

/// Finds elements by their place.
///
/// `level` counts the open objects and arrays that lead to an element that matters: 1 the Group, 2 its `member`, 3 one
/// of those, 4 that one's `entity` or `period`. What is open besides counts as `aside` and is passed over.
#[derive(Debug)]
pub(super) struct GroupFields<'a> {
    rules: Rules<'a>,
    wanted: BTreeSet<String>,
    level: u8,
    aside: usize,
    /// The last keys at levels 1, 3 and 4.
    group_key: Key,
    member_key: Key,
    leaf_key: Key,
    is_group: bool,
    id: Option<String>,
    actual: Flag,
    active: Flag,
    member_is_odd: bool,
    member: Member,
    members: Members,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    ResourceType,
    Id,
    Actual,
    Active,
    Member,
    Entity,
    Inactive,
    Period,
    Reference,
    Start,
    End,
    Other,
}

impl Key {
    fn read(name: Option<&str>) -> Self {
        match name {
            Some("resourceType") => Self::ResourceType,
            Some("id") => Self::Id,
            Some("actual") => Self::Actual,
            Some("active") => Self::Active,
            Some("member") => Self::Member,
            Some("entity") => Self::Entity,
            Some("inactive") => Self::Inactive,
            Some("period") => Self::Period,
            Some("reference") => Self::Reference,
            Some("start") => Self::Start,
            Some("end") => Self::End,
            _ => Self::Other,
        }
    }
}

impl Visitor for GroupFields<'_> {
    fn event(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::ObjectEnd | Event::ArrayEnd => self.close(),
            Event::ObjectStart | Event::ArrayStart if self.aside > 0 => {
                self.aside += 1;
                GO_ON
            }
            _ if self.aside > 0 => GO_ON,
            Event::Key(name) => {
                match self.level {
                    1 => self.group_key = Key::read(name),
                    3 => self.member_key = Key::read(name),
                    _ => self.leaf_key = Key::read(name),
                }
                GO_ON
            }
            value => self.value(value),
        }
    }
}

impl<'a> GroupFields<'a> {
    pub(super) fn new(rules: Rules<'a>, patients: PatientSet) -> Self {
        Self {
            rules,
            wanted: BTreeSet::new(),
            level: 0,
            aside: 0,
            group_key: Key::Other,
            member_key: Key::Other,
            leaf_key: Key::Other,
            is_group: false,
            id: None,
            actual: Flag::Absent,
            active: Flag::Absent,
            member_is_odd: false,
            member: Member::default(),
            members: Members::new(patients),
            fault: None,
        }
    }

    pub(super) fn want(&mut self, ids: BTreeSet<String>) {
        self.wanted = ids;
    }

    pub(super) fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    pub(super) fn into_patients(self) -> (PatientSet, Option<CohortIds>) {
        self.members.into_patients()
    }

    /// Why the reading was left, if not because the line isn't wanted.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Forgets everything but the members, for the next line.
    pub(super) fn clear(&mut self) {
        (self.level, self.aside) = (0, 0);
        self.is_group = false;
        self.id = None;
        (self.actual, self.active) = (Flag::Absent, Flag::Absent);
        self.member_is_odd = false;
        self.fault = None;
    }

    /// What the line was, when it was read whole.
    pub(super) fn end(&mut self) -> LineEnd {
        if !self.is_group || self.id.is_none() {
            return LineEnd::Other;
        }
        if self.actual == Flag::Odd {
            return self.broken(Fault::OddActual);
        }
        if self.member_is_odd && self.actual != Flag::Is(false) {
            return self.broken(Fault::OddMember);
        }
        let id = self.id.take().unwrap_or_default();
        LineEnd::Group(GroupHead { id, actual: self.actual, active: self.active })
    }

    /// What is known of a line that wasn't read whole.
    pub(super) fn broken(&mut self, why: Fault) -> LineEnd {
        LineEnd::Broken(BrokenLine { why, is_group: self.is_group, id: self.id.take() })
    }

    fn value(&mut self, value: Event<'_>) -> ControlFlow<()> {
        let level = self.level;
        let flow = match level {
            0 => self.document(value),
            1 => self.of_group(value),
            2 => self.of_member_list(value),
            3 => self.of_member(value),
            _ => self.of_leaf(value),
        };
        if matches!(value, Event::ObjectStart | Event::ArrayStart) && self.level == level {
            self.aside = 1;
        }
        flow
    }

    fn document(&mut self, value: Event<'_>) -> ControlFlow<()> {
        if value != Event::ObjectStart {
            self.fault = Some(Fault::NoObject);
            return LEAVE;
        }
        self.level = 1;
        GO_ON
    }

    fn of_group(&mut self, value: Event<'_>) -> ControlFlow<()> {
        match (self.group_key, value) {
            (Key::ResourceType, Event::String(Some("Group"))) => self.is_group = true,
            (Key::Id, Event::String(Some(id))) if self.wanted.contains(id) => self.id = Some(id.to_owned()),
            (Key::ResourceType | Key::Id, _) => return LEAVE,
            (Key::Actual, value) => self.actual = flag(value),
            (Key::Active, value) => self.active = flag(value),
            (Key::Member, value) => {
                self.members.roll_back();
                self.member_is_odd = value != Event::ArrayStart;
                self.level += u8::from(value == Event::ArrayStart);
            }
            _ => {}
        }
        GO_ON
    }

    fn of_member_list(&mut self, value: Event<'_>) -> ControlFlow<()> {
        if value == Event::ObjectStart {
            self.member.clear();
            self.level = 3;
        } else {
            self.members.take_odd();
        }
        GO_ON
    }

    fn of_member(&mut self, value: Event<'_>) -> ControlFlow<()> {
        let is_object = value == Event::ObjectStart;
        match self.member_key {
            Key::Inactive => self.member.inactive = flag(value),
            Key::Entity => {
                self.member.set_reference(None);
                self.level += u8::from(is_object);
            }
            Key::Period => {
                self.member.clear_period();
                if !is_object && value != Event::Null {
                    self.member.spoil_period();
                }
                self.level += u8::from(is_object);
            }
            _ => {}
        }
        GO_ON
    }

    fn of_leaf(&mut self, value: Event<'_>) -> ControlFlow<()> {
        match (self.member_key, self.leaf_key, value) {
            (Key::Entity, Key::Reference, Event::String(text)) => self.member.set_reference(text),
            (Key::Entity, Key::Reference, _) => self.member.set_reference(None),
            (Key::Period, Key::Start, Event::String(Some(text))) => self.member.set_start(text, self.rules),
            (Key::Period, Key::Start, value) => self.member.start = no_date(value),
            (Key::Period, Key::End, Event::String(Some(text))) => self.member.set_end(text, self.rules),
            (Key::Period, Key::End, value) => self.member.end = no_date(value),
            _ => {}
        }
        GO_ON
    }

    /// What there are too many of by now.
    fn too_many(&self) -> Option<Fault> {
        if self.members.num_nested() > MAX_GROUPS {
            return Some(Fault::TooManyGroups);
        }
        self.members.exceeded_limit().map(Fault::TooManyPatients)
    }

    fn close(&mut self) -> ControlFlow<()> {
        if self.aside > 0 {
            self.aside -= 1;
            return GO_ON;
        }
        if self.level == 3 {
            self.members.take(&self.member, self.rules.base_urls);
            self.fault = self.too_many();
            if self.fault.is_some() {
                return LEAVE;
            }
        }
        self.level = self.level.saturating_sub(1);
        GO_ON
    }
}

fn flag(value: Event<'_>) -> Flag {
    match value {
        Event::Bool(value) => Flag::Is(value),
        Event::Null => Flag::Absent,
        _ => Flag::Odd,
    }
}

fn no_date(value: Event<'_>) -> Edge {
    if value == Event::Null { Edge::Absent } else { Edge::Odd }
}
