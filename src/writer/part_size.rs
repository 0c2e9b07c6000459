//! How large a part is: the larger the offset, the larger the part, so that 10,000 parts reach far.

/// Smallest target of a part, in bytes.
const LEAST_TARGET_BYTES: usize = 8 << 20;

/// How an object is cut into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSizing {
    /// `clamp(next_power_of_two(offset / 1024), least, largest)`: parts end at frame ends.
    FollowsOffset {
        /// Smallest target, in bytes: 8 MiB but in tests with small data.
        least_bytes: usize,
        /// Largest target, in bytes: an eighth of the budget.
        largest_bytes: usize,
    },
    /// All parts but the last are of exactly this size, in bytes: frames are cut, for stores that want it so.
    Fixed(usize),
}

impl PartSizing {
    /// The ladder for a budget of so many bytes.
    #[must_use]
    pub const fn for_budget(total_bytes: usize) -> Self {
        let largest_bytes = total_bytes / 8;
        Self::FollowsOffset {
            least_bytes: LEAST_TARGET_BYTES,
            largest_bytes: if largest_bytes < LEAST_TARGET_BYTES { LEAST_TARGET_BYTES } else { largest_bytes },
        }
    }

    /// Target of the part that begins at `offset_bytes` of its object, in bytes.
    #[must_use]
    pub fn target_bytes(self, offset_bytes: u64) -> usize {
        match self {
            Self::FollowsOffset { least_bytes, largest_bytes } => {
                usize::try_from((offset_bytes / 1024).next_power_of_two())
                    .unwrap_or(usize::MAX)
                    .clamp(least_bytes, largest_bytes.max(least_bytes))
            }
            Self::Fixed(size_bytes) => size_bytes,
        }
    }

    /// Whether frames are cut, so that all parts but the last are of one size.
    #[must_use]
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Size of an object that has used up `parts` parts, in bytes, if each meets its target.
    #[must_use]
    pub fn reach_bytes(self, parts: u32) -> u64 {
        (0..parts).fold(0, |offset, _| offset + self.target_bytes(offset) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn ten_thousand_parts_reach_hundreds_of_gibibytes_in_a_small_budget() {
        let default = PartSizing::for_budget(256 << 20).reach_bytes(10_000);
        assert!((270 * GIB..=300 * GIB).contains(&default), "{}", default / GIB);
        let large = PartSizing::for_budget(4 << 30).reach_bytes(10_000);
        assert!((3 * 1024 * GIB..4 * 1024 * GIB).contains(&large), "{}", large / GIB);
    }

    #[test]
    fn a_part_begins_at_eight_mebibytes_and_never_passes_an_eighth_of_the_budget() {
        let sizing = PartSizing::for_budget(256 << 20);
        assert_eq!(sizing.target_bytes(0), 8 << 20);
        assert_eq!(sizing.target_bytes(8 * GIB), 8 << 20);
        assert_eq!(sizing.target_bytes(9 * GIB), 16 << 20);
        assert_eq!(sizing.target_bytes(u64::MAX), 32 << 20);
        assert_eq!(PartSizing::for_budget(64 << 20).target_bytes(u64::MAX), 8 << 20);
    }
}
