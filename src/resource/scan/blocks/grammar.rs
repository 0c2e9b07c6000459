//! What may follow what, for all tokens of a block at once.

/// What the tokens of a block are: bits of their bytes, the insides of strings left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    pub(super) opening_quotes: u64,
    pub(super) opens: u64,
    pub(super) closes: u64,
    /// Tells the braces among the brackets. Says nothing of other bytes.
    pub(super) braces: u64,
    pub(super) colons: u64,
    pub(super) commas: u64,
    /// All bytes of numbers and literals, and whatever else is no token.
    pub(super) scalars: u64,
    pub(super) blanks: u64,
}

/// What is to be known of the blocks before. Each is bit 0 or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grammar {
    scalar: u64,
    past_scalar: u64,
    past_separator: u64,
    past_open: u64,
    name_may_come: u64,
    is_object: u64,
    is_array: u64,
}

/// What has to be true of the tokens besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// Bits where a rule is broken.
    pub(super) errors: u64,
    /// Brackets before which an object is open.
    pub(super) in_object: u64,
    /// Brackets before which an array is open.
    pub(super) in_array: u64,
    /// The first bytes of numbers and literals.
    pub(super) scalar_starts: u64,
}

impl Grammar {
    /// What holds before a line: its first token may be a value.
    pub(super) fn new() -> Self {
        Self { past_separator: 1, ..Self::default() }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, tokens: &Tokens) -> Verdict {
        let Tokens { opening_quotes, opens, closes, braces, colons, commas, scalars, blanks } = *tokens;
        let brackets = opens | closes;
        let separators = colons | commas;
        let scalar_starts = scalars & !follow(scalars, &mut self.scalar);
        let (past_scalar, past_separator, past_open) = if blanks == 0 {
            (
                follow(scalars, &mut self.past_scalar),
                follow(separators, &mut self.past_separator),
                follow(opens, &mut self.past_open),
            )
        } else {
            (
                follow_past(scalars, &mut self.past_scalar, blanks),
                follow_past(separators, &mut self.past_separator, blanks),
                follow_past(opens, &mut self.past_open, blanks),
            )
        };
        let value_may_start = past_separator | past_open;
        let values = opening_quotes | scalar_starts | opens;
        // The next of these tokens after a brace or comma.
        let after_name = follow_past(opens & braces | commas, &mut self.name_may_come, !(brackets | separators));
        // No name came: the comma is one of an array. Nothing at all may come in an empty object.
        let no_name = after_name & !colons & !(closes & past_open);
        let errors = values & !value_may_start
            | separators & value_may_start
            | colons & past_scalar
            | closes & past_separator
            | colons & !after_name;
        Verdict {
            errors,
            in_object: reach(colons, &mut self.is_object, brackets),
            in_array: reach(no_name, &mut self.is_array, brackets),
            scalar_starts,
        }
    }
}

/// Bytes that come directly after the marked ones.
#[inline(always)]
fn follow(marks: u64, carry: &mut u64) -> u64 {
    let after = marks << 1 | *carry;
    *carry = marks >> 63;
    after
}

/// First bytes after the marked ones that aren't to be skipped.
#[inline(always)]
fn follow_past(marks: u64, carry: &mut u64, skipped: u64) -> u64 {
    let after = marks << 1 | *carry;
    // Adding to the first bit of a run of ones clears it and sets the bit behind it.
    let (sum, over) = after.overflowing_add(skipped);
    *carry = marks >> 63 | u64::from(over);
    sum & !skipped
}

/// Goals that are marked, or before which something is marked that no goal follows earlier.
#[inline(always)]
fn reach(marks: u64, carry: &mut u64, goals: u64) -> u64 {
    let (between, before) = (!goals, marks & !goals);
    // Adding once or more within a run of ones sets the bit behind the run, once.
    let (sum, over) = between.overflowing_add(before);
    let (sum, over_by_carry) = sum.overflowing_add(*carry);
    *carry = u64::from(over | over_by_carry);
    (sum | marks) & goals
}
