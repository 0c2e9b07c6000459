//! The buffer that a scan puts references into.

use std::str::Utf8Error;

use super::string::{StringSpan, unescape_into};
use super::walk::Scratch;

/// What the buffers may keep for the next line, in bytes: a Group of a million members must not pin its size.
const KEPT_BYTES: usize = 1 << 20;

/// How many texts wait at most for the line to be checked for UTF-8.
const LATER_LIMIT: usize = 256;

/// The reference texts that the last scan found.
///
/// Give the same one to every [`scan`](super::scan), so that nothing is allocated per line. It holds at most the
/// line's length in text and 24 bytes a reference; what it holds beyond 1 MiB it gives back at the next line.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub(super) texts: Texts,
    pub(super) scratch: Scratch,
}

impl References {
    /// Creates an empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The texts, unescaped, in no promised order. A text comes as often as it was found.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.spans.iter().filter_map(|span| self.texts.text.get(span.start..span.end))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.spans.is_empty()
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.texts.text.capacity() + self.texts.spans.capacity() * size_of::<Span>()
    }

    /// Forgets all references.
    pub fn clear(&mut self) {
        self.texts.clear();
    }
}

/// Texts one after the other in one string.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    text: String,
    spans: Vec<Span>,
    any_dropped: bool,
    /// Found, but not yet known to be UTF-8.
    later: Vec<StringSpan>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    /// Belongs to a member that a later one of the same name replaced.
    dropped: bool,
}

impl Texts {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.spans.clear();
        self.spans.shrink_to(KEPT_BYTES / size_of::<Span>());
        self.any_dropped = false;
        self.later.clear();
    }

    /// Takes a text of a line that is still to be checked for UTF-8. [`push_rest`](Self::push_rest) has to follow.
    #[inline]
    pub(super) fn push_later(&mut self, string: StringSpan, line: &[u8]) -> Result<(), Utf8Error> {
        if self.later.len() >= LATER_LIMIT {
            self.push_checked(line)?;
        }
        self.later.push(string);
        Ok(())
    }

    /// Takes what [`push_later`](Self::push_later) was given, now that the line is known to be UTF-8.
    #[inline]
    pub(super) fn push_rest(&mut self, line: &str) {
        for index in 0..self.later.len() {
            if let Some(&string) = self.later.get(index) {
                self.push(string, line);
            }
        }
        self.later.clear();
    }

    fn push_checked(&mut self, line: &[u8]) -> Result<(), Utf8Error> {
        for index in 0..self.later.len() {
            let Some(&string) = self.later.get(index) else { break };
            let raw = std::str::from_utf8(line.get(string.start..string.end).unwrap_or_default())?;
            self.push_raw(raw, string.escaped);
        }
        self.later.clear();
        Ok(())
    }

    pub(super) fn push(&mut self, string: StringSpan, line: &str) {
        self.push_raw(string.raw(line), string.escaped);
    }

    fn push_raw(&mut self, raw: &str, escaped: bool) {
        let start = self.text.len();
        if escaped {
            unescape_into(raw, &mut self.text);
        } else {
            self.text.push_str(raw);
        }
        self.spans.push(Span { start, end: self.text.len(), dropped: false });
    }

    /// Takes back the texts from number `from` to before number `to`. The numbers stay taken until
    /// [`forget_dropped`](Self::forget_dropped).
    pub(super) fn drop_range(&mut self, from: usize, to: usize) {
        for span in self.spans.get_mut(from..to).unwrap_or_default() {
            span.dropped = true;
            self.any_dropped = true;
        }
    }

    pub(super) fn forget_dropped(&mut self) {
        if self.any_dropped {
            self.spans.retain(|span| !span.dropped);
            self.any_dropped = false;
        }
    }
}
