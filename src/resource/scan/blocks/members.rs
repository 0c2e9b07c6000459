//! The members that facts come from, and the objects and arrays on the way to them.

use super::super::grammar::Cursor;
use super::super::references::Texts;
use super::super::string::StringSpan;
use super::super::walk::{EARLY_LIMIT, Early, Found, Member, Scratch};
use super::Odd;
use crate::resource::compartment::{Compartment, NodeId};

/// An object or array in which something is wanted.
#[derive(Clone, Copy, Debug)]
pub(in crate::resource::scan) struct Frame {
    kind: FrameKind,
    node: Option<NodeId>,
    /// How long the names are that are wanted: one bit a length.
    lengths: u64,
    /// Which of the wanted members came already: one bit a member.
    seen: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    /// Nothing is open.
    Outside,
    Resource,
    Meta,
    Element,
    Array,
}

/// What is learned of a line while it is gone through.
pub(super) struct Members<'l, 's> {
    line: &'l [u8],
    compartment: Option<&'s Compartment>,
    type_is_open: bool,
    found: Found,
    /// How many objects and arrays are open in which something is wanted.
    depth: u32,
    frame: Frame,
    /// What the next bracket opens.
    next: Option<Frame>,
    root: Option<NodeId>,
    near: Near,
    scratch: &'s mut Scratch,
    texts: &'s mut Texts,
}

/// What is known of the strings around a member.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Near {
    /// Where the block begins in the line.
    pub(super) base: usize,
    /// Its opening quotes.
    pub(super) opening: u64,
    /// Its closing quotes.
    pub(super) closing: u64,
    pub(super) backslashes: u64,
}

/// Lengths of `id`, `meta` and `resourceType`.
const RESOURCE_LENGTHS: u64 = 1 << 2 | 1 << 4 | 1 << 12;
/// Length of `lastUpdated`.
const META_LENGTHS: u64 = 1 << 11;

impl<'l, 's> Members<'l, 's> {
    pub(super) fn new(
        line: &'l [u8],
        compartment: Option<&'s Compartment>,
        scratch: &'s mut Scratch,
        texts: &'s mut Texts,
    ) -> Self {
        scratch.tracked.clear();
        scratch.early.clear();
        let outside = Frame { kind: FrameKind::Outside, node: None, lengths: 0, seen: 0 };
        let type_is_open = compartment.is_some();
        let lengths = if type_is_open { u64::MAX } else { RESOURCE_LENGTHS };
        let next = Some(Frame { kind: FrameKind::Resource, node: None, lengths, seen: 0 });
        let found = Found::default();
        Self {
            line,
            compartment,
            type_is_open,
            found,
            depth: 0,
            frame: outside,
            next,
            root: None,
            near: Near::default(),
            scratch,
            texts,
        }
    }

    /// How many objects and arrays are open in which something is wanted: those that are open are looked at when no
    /// others are open within them.
    #[inline(always)]
    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether a name of this length can be one that is wanted here.
    #[inline(always)]
    pub(super) const fn may_want(&self, length: usize) -> bool {
        let bit = if length < 63 { length } else { 63 };
        self.frame.lengths >> bit & 1 != 0
    }

    /// Opens what the next bracket opens, if something in it is wanted.
    #[inline]
    pub(super) fn open(&mut self, is_brace: bool) {
        let frame = match (self.next.take(), self.frame.kind) {
            (Some(frame), _) => frame,
            (None, FrameKind::Array) if is_brace => self.frame_of(FrameKind::Element, self.frame.node),
            (None, FrameKind::Array) => Frame { seen: 0, ..self.frame },
            (None, _) => return,
        };
        self.scratch.tracked.push(self.frame);
        self.frame = frame;
        self.depth += 1;
    }

    /// Closes the innermost. False when nothing is open then.
    #[inline]
    pub(super) fn close(&mut self) -> bool {
        if let Some(frame) = self.scratch.tracked.pop() {
            self.frame = frame;
            self.depth -= 1;
        }
        self.depth > 0
    }

    fn frame_of(&self, kind: FrameKind, node: Option<NodeId>) -> Frame {
        let below = match (self.compartment, node) {
            (Some(compartment), Some(node)) => compartment.trie().name_lengths(node),
            _ => 0,
        };
        let own = match kind {
            FrameKind::Resource => RESOURCE_LENGTHS,
            FrameKind::Meta => META_LENGTHS,
            FrameKind::Element => 0,
            FrameKind::Outside | FrameKind::Array => return Frame { kind, node, lengths: 0, seen: 0 },
        };
        Frame { kind, node, lengths: own | below, seen: 0 }
    }

    /// Takes a member whose name may be wanted. The name has no escapes.
    #[inline(never)]
    pub(super) fn member(&mut self, (start, end): (usize, usize), colon: usize, near: Near) -> Result<(), Odd> {
        let line = self.line;
        self.near = near;
        let name = line.get(start..end).ok_or(Odd)?;
        let value_at = self.value_at(colon + 1);
        match (self.frame.kind, name) {
            (FrameKind::Resource, b"resourceType") => self.resource_type(value_at),
            (FrameKind::Resource, b"id") => {
                self.found.id = self.text(value_at)?;
                Ok(())
            }
            (FrameKind::Resource, b"meta") => {
                let opens_object = line.get(value_at) == Some(&b'{');
                self.found.last_updated = if opens_object { Member::Missing } else { Member::NotText };
                self.found.meta_at = value_at;
                self.element(start, name, value_at, if opens_object { FrameKind::Meta } else { FrameKind::Element })
            }
            (FrameKind::Meta, b"lastUpdated") => {
                self.found.last_updated = self.text(value_at)?;
                Ok(())
            }
            _ => self.element(start, name, value_at, FrameKind::Element),
        }
    }

    fn value_at(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.line.get(at) {
            at += 1;
        }
        at
    }

    fn string(&self, at: usize) -> Result<StringSpan, Odd> {
        let Near { base, closing, backslashes, .. } = self.near;
        let quote = at.wrapping_sub(base);
        if quote < 63 {
            let after = closing & u64::MAX << (quote + 1);
            let within = (after & after.wrapping_neg()).wrapping_sub(1) & u64::MAX << quote;
            if after != 0 && backslashes & within == 0 {
                return Ok(StringSpan { start: at + 1, end: base + after.trailing_zeros() as usize, escaped: false });
            }
        }
        let mut cursor = Cursor::new(self.line);
        cursor.return_to(at);
        cursor.string_span().map_err(|_| Odd)
    }

    fn text(&self, at: usize) -> Result<Member, Odd> {
        if self.line.get(at) != Some(&b'"') {
            return Ok(Member::NotText);
        }
        self.string(at).map(Member::Text)
    }

    fn resource_type(&mut self, at: usize) -> Result<(), Odd> {
        let again = self.found.resource_type != Member::Missing;
        self.found.resource_type = self.text(at)?;
        let Some(compartment) = self.compartment else { return Ok(()) };
        if again {
            return Err(Odd);
        }
        self.type_is_open = false;
        if let Member::Text(span) = self.found.resource_type {
            if span.escaped {
                return Err(Odd);
            }
            let name =
                self.line.get(span.start..span.end).and_then(|name| std::str::from_utf8(name).ok()).ok_or(Odd)?;
            self.root = compartment.root_of(name);
        }
        self.frame = self.frame_of(FrameKind::Resource, self.root);
        self.sort_out_early(compartment)
    }

    /// Keeps those that came before the type and are wanted.
    fn sort_out_early(&mut self, compartment: &Compartment) -> Result<(), Odd> {
        let Some(root) = self.root else {
            self.scratch.early.clear();
            return Ok(());
        };
        let (line, mut seen) = (self.line, 0);
        self.scratch.early.retain(|early| {
            let name = line.get(early.name.start..early.name.end).unwrap_or_default();
            let Some((place, _)) = compartment.trie().child(root, name) else { return false };
            seen |= bit_of(place);
            true
        });
        self.frame.seen = seen;
        if seen >> 63 != 0 { Err(Odd) } else { Ok(()) }
    }

    /// Takes a member that may lead to references.
    fn element(&mut self, start: usize, name: &[u8], value_at: usize, kind: FrameKind) -> Result<(), Odd> {
        let first = self.line.get(value_at).copied();
        let is_resource = self.frame.kind == FrameKind::Resource;
        if is_resource && self.type_is_open {
            if self.scratch.early.len() >= EARLY_LIMIT {
                return Err(Odd);
            }
            let name = StringSpan { start, end: start + name.len(), escaped: false };
            self.scratch.early.push(Early { name, value_at });
        }
        let wanted = match (self.compartment, self.frame.node) {
            (Some(compartment), Some(node)) => compartment.trie().child(node, name),
            _ => None,
        };
        let Some((place, node)) = wanted else {
            if kind == FrameKind::Meta {
                self.next = Some(self.frame_of(kind, None));
            }
            return Ok(());
        };
        let bit = bit_of(place);
        if self.frame.seen & bit != 0 || bit >> 63 != 0 {
            return Err(Odd);
        }
        self.frame.seen |= bit;
        let Some(compartment) = self.compartment else { return Ok(()) };
        let has_wanted = compartment.trie().has_children(node);
        match first {
            Some(b'"') if compartment.trie().is_reference(node) => {
                let span = self.string(value_at)?;
                self.texts.push_later(span, self.line).map_err(|_| Odd)
            }
            Some(b'{') if has_wanted || kind == FrameKind::Meta => {
                self.next = Some(self.frame_of(kind, Some(node)));
                Ok(())
            }
            Some(b'[') if has_wanted => {
                self.next = Some(self.frame_of(FrameKind::Array, Some(node)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What was found in the line, and where the paths begin of the members that are still to be walked.
    pub(super) fn into_found(self) -> (Found, Option<NodeId>) {
        let early = if self.type_is_open || self.scratch.early.is_empty() { None } else { self.root };
        (self.found, early)
    }
}

/// The bit of a wanted member; the last bit stands for all that have none of their own.
const fn bit_of(place: usize) -> u64 {
    1 << if place < 63 { place } else { 63 }
}
