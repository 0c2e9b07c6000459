//! Where a part or a member ends: at frame ends, near its target.

/// What the open part or member still has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes in it.
    pub(super) held: usize,
    /// Bytes that it aims at.
    pub(super) target: usize,
    /// Bytes that it must have to end before a frame that would pass the target.
    pub(super) least: usize,
    /// It ends at exactly the target, and frames are cut.
    pub(super) exact: bool,
}

impl Room {
    /// Room of a compressed member: it ends at the first line end at or after its target.
    pub(super) const fn of_member(held: usize, target: usize) -> Self {
        Self { held, target, least: usize::MAX, exact: false }
    }

    /// How many bytes of these lines to take; 0: end before them.
    pub(super) fn take(self, lines: &[u8]) -> usize {
        let room = self.target.saturating_sub(self.held);
        if lines.len() <= room {
            return lines.len();
        }
        if self.exact {
            return room;
        }
        let (within, beyond) = lines.split_at(room);
        let fitting = memchr::memrchr(b'\n', within).map_or(0, |end| end + 1);
        if fitting == room && room > 0 {
            return fitting;
        }
        if self.held + fitting >= self.least {
            return fitting;
        }
        memchr::memchr(b'\n', beyond).map_or(lines.len(), |end| room + end + 1)
    }

    /// How many bytes of one frame that isn't to be cut to take; 0: end before it.
    pub(super) fn take_frame(self, frame_bytes: usize) -> usize {
        if self.exact {
            return frame_bytes.min(self.target.saturating_sub(self.held));
        }
        let passes = self.held.saturating_add(frame_bytes) > self.target;
        if passes && self.held >= self.least { 0 } else { frame_bytes }
    }

    /// Whether it is to end after so many more bytes.
    pub(super) const fn is_used_up_by(self, taken: usize) -> bool {
        self.held + taken >= self.target
    }
}

/// Number of lines that end in these bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"aaa\nbbb\nccc\n";

    const fn room(held: usize, target: usize, least: usize) -> Room {
        Room { held, target, least, exact: false }
    }

    #[test]
    fn a_part_ends_at_the_last_line_end_within_its_target() {
        assert_eq!(room(0, 10, 5).take(LINES), 8);
        assert_eq!(room(0, 8, 5).take(LINES), 8);
        assert_eq!(room(0, 12, 5).take(LINES), 12);
    }

    #[test]
    fn a_part_below_the_least_ends_at_the_first_line_end_after_its_target() {
        assert_eq!(room(0, 10, 9).take(LINES), 12);
        assert_eq!(room(0, 2, 9).take(LINES), 4);
    }

    #[test]
    fn a_part_ends_before_a_line_that_passes_its_target() {
        assert_eq!(room(9, 10, 5).take(LINES), 0);
        assert_eq!(room(9, 10, 5).take_frame(4), 0);
        assert_eq!(room(3, 10, 5).take_frame(9), 9);
    }

    #[test]
    fn a_member_ends_at_the_first_line_end_at_or_after_its_target_however_lines_arrive() {
        assert_eq!(Room::of_member(0, 6).take(LINES), 8);
        assert_eq!(Room::of_member(0, 8).take(LINES), 8);
        assert_eq!(Room::of_member(4, 8).take(&LINES[4..8]), 4);
        assert!(Room::of_member(4, 8).is_used_up_by(4));
    }

    #[test]
    fn an_exact_part_cuts_lines() {
        let exact = Room { held: 1, target: 6, least: 5, exact: true };
        assert_eq!((exact.take(LINES), exact.take_frame(9), count_lines(&LINES[..5])), (5, 5, 1));
    }
}
