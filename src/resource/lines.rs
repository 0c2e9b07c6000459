//! Splits a block of raw bytes into the lines that hold resources.

use std::ops::Range;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Where one resource lies in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    start: usize,
    end: usize,
    span_start: usize,
    span_end: usize,
    has_line_feed: bool,
}

impl Line {
    /// Offset of the resource's first byte: after a byte order mark and blanks.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Offset after the resource's last byte: before blanks, a CR and the line feed.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.end
    }

    /// The resource's own bytes in the block.
    #[must_use]
    pub const fn resource(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The whole line in the block: from the end of the line before to after its own line feed, if it has one.
    #[must_use]
    pub const fn span(&self) -> Range<usize> {
        self.span_start..self.span_end
    }

    /// Length of the resource's own bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.end - self.start
    }

    /// The resource's own bytes. `block` must be the one that the line was found in.
    #[must_use]
    pub fn resource_of<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        block.get(self.resource()).unwrap_or_default()
    }

    /// Tells whether the whole line is what an output line has to be: the resource, one line feed, nothing else.
    ///
    /// Of two canonical lines in a row the second begins where the first ends ([`span`](Self::span)), unless blank
    /// lines lie between: such lines are one slice of output.
    #[must_use]
    pub const fn is_canonical(&self) -> bool {
        self.has_line_feed && self.start == self.span_start && self.end + 1 == self.span_end
    }
}

/// The lines of a block that hold a resource, in order.
///
/// A block is whole lines; only the last may lack its line feed. Blanks (space, tab, CR) around a resource and a byte
/// order mark in front of it are left out, on any line, because files are often put together from others. Lines
/// that have nothing else are passed over.
#[derive(Clone, Debug)]
pub struct Lines<'b> {
    block: &'b [u8],
    position: usize,
}

impl<'b> Lines<'b> {
    /// Begins at the block's first byte, which must be the first of a line.
    #[must_use]
    pub const fn new(block: &'b [u8]) -> Self {
        Self { block, position: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            let rest = self.block.get(self.position..).filter(|rest| !rest.is_empty())?;
            let line_feed = memchr::memchr(b'\n', rest);
            let text = rest.get(..line_feed.unwrap_or(rest.len())).unwrap_or_default();
            let span_start = self.position;
            self.position += line_feed.map_or(rest.len(), |at| at + 1);
            if let Some((start, end)) = without_surroundings(text) {
                let (start, end) = (span_start + start, span_start + end);
                let has_line_feed = line_feed.is_some();
                return Some(Line { start, end, span_start, span_end: self.position, has_line_feed });
            }
        }
    }
}

/// Bounds of what is left of a line without byte order mark and blanks around; none when nothing is left.
fn without_surroundings(text: &[u8]) -> Option<(usize, usize)> {
    let mark = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let solid = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r');
    let start = mark + text.get(mark..)?.iter().position(solid)?;
    let end = text.iter().rposition(solid)? + 1;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(block: &[u8]) -> Vec<(&str, bool)> {
        Lines::new(block)
            .map(|line| (std::str::from_utf8(line.resource_of(block)).unwrap(), line.is_canonical()))
            .collect()
    }

    #[test]
    fn lines_that_are_output_already_lie_side_by_side() {
        let block = b"{1}\n{2}\n{3}\n";
        let lines: Vec<Line> = Lines::new(block).collect();
        assert_eq!(lines.iter().map(Line::span).collect::<Vec<_>>(), [0..4, 4..8, 8..12]);
        assert!(lines.iter().all(Line::is_canonical));
    }

    #[test]
    fn a_line_without_line_feed_at_the_end_is_a_line() {
        assert_eq!(resources(b"{1}\n{2}"), [("{1}", true), ("{2}", false)]);
        assert_eq!(Lines::new(b"{1}").next().unwrap().span(), 0..3);
    }

    #[test]
    fn carriage_returns_and_blanks_around_a_resource_are_not_part_of_it() {
        assert_eq!(resources(b"{1}\r\n \t{2}\n{3} \n"), [("{1}", false), ("{2}", false), ("{3}", false)]);
        assert_eq!(resources(b"{ \r }\n"), [("{ \r }", true)]);
        assert_eq!(resources(b"{1}\r"), [("{1}", false)]);
    }

    #[test]
    fn a_byte_order_mark_is_left_out_at_the_beginning_of_any_line_and_nowhere_else() {
        assert_eq!(resources(b"\xEF\xBB\xBF{1}\n\xEF\xBB\xBF {2}\n"), [("{1}", false), ("{2}", false)]);
        assert_eq!(resources(b" \xEF\xBB\xBF{1}\n{2}\xEF\xBB\xBF\n"), [("\u{feff}{1}", false), ("{2}\u{feff}", true)]);
        assert_eq!(resources(b"\xEF\xBB\xBF\xEF\xBB\xBF{1}\n"), [("\u{feff}{1}", false)]);
    }

    #[test]
    fn blank_lines_are_no_resources_and_part_what_lies_around_them() {
        let block = b"\n \t\r\n{1}\n\r\n\xEF\xBB\xBF \n{2}\n\n";
        assert_eq!(resources(block), [("{1}", true), ("{2}", true)]);
        let spans: Vec<_> = Lines::new(block).map(|line| line.span()).collect();
        assert_eq!(spans, [5..9, 16..20]);
        assert_eq!(resources(b""), []);
        assert_eq!(resources(b"\n"), []);
        assert_eq!(resources(b" "), []);
    }

    proptest::proptest! {
        #[test]
        fn any_block_splits_as_a_plain_split_would(block in "[{x \t\r\n\u{feff}]{0,60}") {
            let expected: Vec<&str> = block
                .split('\n')
                .map(|line| line.strip_prefix('\u{feff}').unwrap_or(line).trim_matches([' ', '\t', '\r']))
                .filter(|line| !line.is_empty())
                .collect();
            let found: Vec<&str> = resources(block.as_bytes()).into_iter().map(|(text, _)| text).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
