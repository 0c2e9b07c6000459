//! Walks down to the members that facts come from and passes over all others.

use super::blocks;
use super::grammar::{Broken, Cursor, DEPTH_LIMIT, after_value};
use super::references::Texts;
use super::string::{StringSpan, unescape_into};
use crate::resource::compartment::{Compartment, NodeId};
use crate::resource::defect::{Defect, DefectKind};

/// How many members before the `resourceType` are remembered for when the type is known.
pub(super) const EARLY_LIMIT: usize = 256;

/// What the buffer of an unescaped name may keep, in bytes.
const NAME_KEPT_BYTES: usize = 1024;

/// What the walk needs besides the line; kept from line to line, so that nothing is allocated per line.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    frames: Vec<Frame>,
    seen: Vec<Seen>,
    pub(super) early: Vec<Early>,
    name: String,
    /// The frames of the way by blocks.
    pub(super) tracked: Vec<blocks::Frame>,
}

/// An object or array that is being walked, as opposed to passed over.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: FrameKind,
    node: Option<NodeId>,
    /// Nothing of it was read yet.
    fresh: bool,
    /// Where its members begin in `seen`.
    seen_from: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Resource,
    Meta,
    Element,
    Array,
}

/// A wanted member of an object that is being walked.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Its place among the wanted ones.
    place: usize,
    /// How many references there were before it. Its own end where the next one's begin.
    references_from: usize,
}

/// A member of the resource that came before its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    pub(super) name: StringSpan,
    pub(super) value_at: usize,
}

/// A member that was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    #[default]
    Missing,
    Text(StringSpan),
    NotText,
}

/// What was found in a line, not yet judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) resource_type: Member,
    pub(super) id: Member,
    pub(super) last_updated: Member,
    /// Where the value of `meta` begins; 0 if there is none.
    pub(super) meta_at: usize,
}

/// Where the references of the line's type are to be found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paths<'c> {
    /// None are wanted.
    None,
    /// As soon as the type is known, in this compartment.
    Of(&'c Compartment),
    /// From this node down, whatever type the line names.
    From(&'c Compartment, NodeId),
}

enum Next {
    Value,
    End,
}

/// One pass over a line.
pub(super) struct Walk<'l, 'w> {
    line: &'l str,
    cursor: Cursor<'l>,
    compartment: Option<&'w Compartment>,
    type_is_open: bool,
    found: Found,
    walk_again: bool,
    scratch: &'w mut Scratch,
    texts: &'w mut Texts,
}

impl<'l, 'w> Walk<'l, 'w> {
    pub(super) fn new(line: &'l str, paths: Paths<'w>, scratch: &'w mut Scratch, texts: &'w mut Texts) -> Self {
        let (compartment, type_is_open, root) = match paths {
            Paths::None => (None, false, None),
            Paths::Of(compartment) => (Some(compartment), true, None),
            Paths::From(compartment, root) => (Some(compartment), false, Some(root)),
        };
        scratch.frames.clear();
        scratch.seen.clear();
        scratch.early.clear();
        scratch.frames.push(Frame { kind: FrameKind::Resource, node: root, fresh: true, seen_from: 0 });
        let cursor = Cursor::new(line.as_bytes());
        let found = Found::default();
        Self { line, cursor, compartment, type_is_open, found, walk_again: false, scratch, texts }
    }

    /// Walks nothing but the members that an earlier pass remembered, from this node down.
    pub(super) fn run_early(
        line: &'l str,
        (compartment, root): (&'w Compartment, NodeId),
        scratch: &'w mut Scratch,
        texts: &'w mut Texts,
    ) -> Result<(), Defect> {
        let early = std::mem::take(&mut scratch.early);
        let mut walk = Walk::new(line, Paths::From(compartment, root), scratch, texts);
        walk.scratch.early = early;
        walk.walk_early_members().map_err(|broken| walk.cursor.clone().into_defect(broken))
    }

    /// Goes through the whole line.
    pub(super) fn run(&mut self) -> Result<Found, Defect> {
        let walked = self.walk();
        walked.map(|()| self.found).map_err(|broken| self.cursor.clone().into_defect(broken))
    }

    fn walk(&mut self) -> Result<(), Broken> {
        self.cursor.skip_blanks();
        match self.cursor.peek() {
            Some(b'{') => self.cursor.advance(1),
            Some(_) => return Err(self.cursor.broken(DefectKind::NotAnObject)),
            None => return Err(self.cursor.truncated()),
        }
        self.walk_down_to(0)?;
        self.cursor.skip_blanks();
        if self.cursor.peek().is_some() {
            return Err(self.cursor.broken(DefectKind::TrailingBytes));
        }
        Ok(())
    }

    /// Whether the references aren't right, and another walk with the type that was found has to be made.
    pub(super) fn has_to_walk_again(&self) -> bool {
        self.walk_again
    }

    /// Goes on until no more than `count` frames are open.
    fn walk_down_to(&mut self, count: usize) -> Result<(), Broken> {
        while self.scratch.frames.len() > count {
            let Some(frame) = self.scratch.frames.last_mut() else { return Ok(()) };
            let fresh = std::mem::replace(&mut frame.fresh, false);
            let frame = *frame;
            match frame.kind {
                FrameKind::Array => self.element(frame, fresh)?,
                FrameKind::Resource | FrameKind::Meta | FrameKind::Element => self.member(frame, fresh)?,
            }
        }
        Ok(())
    }

    fn element(&mut self, frame: Frame, fresh: bool) -> Result<(), Broken> {
        match self.next(fresh, b']')? {
            Next::Value => self.value(frame.node, FrameKind::Element),
            Next::End => {
                self.close(frame);
                Ok(())
            }
        }
    }

    fn member(&mut self, frame: Frame, fresh: bool) -> Result<(), Broken> {
        if let Next::End = self.next(fresh, b'}')? {
            self.close(frame);
            return Ok(());
        }
        if self.cursor.peek() != Some(b'"') {
            return Err(self.cursor.unexpected("member name expected"));
        }
        let name = self.cursor.string_span()?;
        self.cursor.skip_colon()?;
        match frame.kind {
            FrameKind::Resource => self.resource_member(frame, name),
            FrameKind::Meta if self.is_named(name, "lastUpdated") => {
                self.found.last_updated = self.text_or_skip()?;
                Ok(())
            }
            FrameKind::Meta | FrameKind::Element | FrameKind::Array => {
                self.element_member(frame, name, FrameKind::Element)
            }
        }
    }

    /// Goes to the next value of an object or array, or after its end.
    #[inline]
    fn next(&mut self, fresh: bool, closing: u8) -> Result<Next, Broken> {
        self.cursor.skip_blanks();
        match self.cursor.peek() {
            Some(byte) if byte == closing => {
                self.cursor.advance(1);
                Ok(Next::End)
            }
            Some(b',') if !fresh => {
                self.cursor.advance(1);
                self.cursor.skip_blanks();
                Ok(Next::Value)
            }
            Some(_) if fresh => Ok(Next::Value),
            _ => Err(self.cursor.unexpected(after_value(closing == b'}'))),
        }
    }

    fn close(&mut self, frame: Frame) {
        self.scratch.seen.truncate(frame.seen_from);
        self.scratch.frames.pop();
    }

    fn resource_member(&mut self, frame: Frame, name: StringSpan) -> Result<(), Broken> {
        if self.is_named(name, "resourceType") {
            return self.resource_type();
        }
        if self.is_named(name, "id") {
            self.found.id = self.text_or_skip()?;
            return Ok(());
        }
        let is_meta = self.is_named(name, "meta");
        let opens_object = self.cursor.peek() == Some(b'{');
        if is_meta {
            self.found.last_updated = if opens_object { Member::Missing } else { Member::NotText };
            self.found.meta_at = self.cursor.position();
        }
        if self.type_is_open {
            self.remember(name);
        }
        let kind = if is_meta && opens_object { FrameKind::Meta } else { FrameKind::Element };
        self.element_member(frame, name, kind)
    }

    /// Keeps in mind that a member came whose worth isn't known before the type is.
    fn remember(&mut self, name: StringSpan) {
        if self.scratch.early.len() < EARLY_LIMIT {
            self.scratch.early.push(Early { name, value_at: self.cursor.position() });
        } else {
            self.walk_again = true;
        }
    }

    fn resource_type(&mut self) -> Result<(), Broken> {
        let again = self.found.resource_type != Member::Missing;
        self.found.resource_type = self.text_or_skip()?;
        if !self.type_is_open {
            // A second type makes what was walked by the first one wrong.
            self.walk_again |= again && self.compartment.is_some();
            return Ok(());
        }
        self.type_is_open = false;
        let root = self.root_of_found_type();
        if let Some(frame) = self.scratch.frames.last_mut() {
            frame.node = root;
        }
        if root.is_some() && !self.scratch.early.is_empty() { self.walk_early_members() } else { Ok(()) }
    }

    /// The node where the paths of the type begin that the line names.
    pub(super) fn root_of_found_type(&self) -> Option<NodeId> {
        let Member::Text(resource_type) = self.found.resource_type else { return None };
        self.compartment?.root_of(&resource_type.text(self.line))
    }

    /// Walks what came before the type was known, in the order in which it came.
    fn walk_early_members(&mut self) -> Result<(), Broken> {
        let Some(&frame) = self.scratch.frames.last() else { return Ok(()) };
        let here = self.cursor.position();
        let mut index = 0;
        while let Some(&Early { name, value_at }) = self.scratch.early.get(index) {
            self.cursor.return_to(value_at);
            if self.wanted(frame.node, name).is_some() {
                self.element_member(frame, name, FrameKind::Element)?;
                self.walk_down_to(1)?;
            }
            index += 1;
        }
        self.cursor.return_to(here);
        Ok(())
    }

    /// Takes the value of a member that may lead to references.
    fn element_member(&mut self, frame: Frame, name: StringSpan, kind: FrameKind) -> Result<(), Broken> {
        let Some((place, node)) = self.wanted(frame.node, name) else { return self.value(None, kind) };
        self.mark_seen(frame, place);
        let is_reference = self.compartment.is_some_and(|compartment| compartment.trie().is_reference(node));
        if is_reference && self.cursor.peek() == Some(b'"') {
            let text = self.cursor.string_span()?;
            self.texts.push(text, self.line);
            return Ok(());
        }
        self.value(Some(node), kind)
    }

    #[inline]
    fn wanted(&mut self, node: Option<NodeId>, name: StringSpan) -> Option<(usize, NodeId)> {
        let trie = self.compartment?.trie();
        if !name.escaped {
            return trie.child(node?, name.raw(self.line).as_bytes());
        }
        self.scratch.name.clear();
        self.scratch.name.shrink_to(NAME_KEPT_BYTES);
        unescape_into(name.raw(self.line), &mut self.scratch.name);
        trie.child(node?, self.scratch.name.as_bytes())
    }

    /// Notes that a wanted member begins, and drops the references of an earlier one of the same name.
    fn mark_seen(&mut self, frame: Frame, place: usize) {
        let now = self.texts.len();
        let members = self.scratch.seen.get(frame.seen_from..).unwrap_or_default();
        if let Some(earlier) = members.iter().position(|member| member.place == place) {
            let to = members.get(earlier + 1).map_or(now, |next| next.references_from);
            let from = members.get(earlier).map_or(to, |member| member.references_from);
            self.texts.drop_range(from, to);
            self.scratch.seen.remove(frame.seen_from + earlier);
        }
        self.scratch.seen.push(Seen { place, references_from: now });
    }

    /// Walks into the value that begins here if something in it is wanted, else passes over it.
    fn value(&mut self, node: Option<NodeId>, kind: FrameKind) -> Result<(), Broken> {
        let has_wanted =
            node.is_some_and(|node| self.compartment.is_some_and(|compartment| compartment.trie().has_children(node)));
        let kind = match self.cursor.peek() {
            Some(b'{') if has_wanted || kind == FrameKind::Meta => kind,
            Some(b'[') if has_wanted => FrameKind::Array,
            _ => return self.cursor.skip_value(self.scratch.frames.len()),
        };
        if self.scratch.frames.len() >= DEPTH_LIMIT {
            return Err(self.cursor.broken(DefectKind::TooDeep));
        }
        self.cursor.advance(1);
        self.scratch.frames.push(Frame { kind, node, fresh: true, seen_from: self.scratch.seen.len() });
        Ok(())
    }

    fn text_or_skip(&mut self) -> Result<Member, Broken> {
        if self.cursor.peek() == Some(b'"') {
            return self.cursor.string_span().map(Member::Text);
        }
        self.cursor.skip_value(self.scratch.frames.len())?;
        Ok(Member::NotText)
    }

    #[inline]
    fn is_named(&self, name: StringSpan, wanted: &str) -> bool {
        if name.escaped { name.text(self.line) == wanted } else { name.raw(self.line) == wanted }
    }
}
