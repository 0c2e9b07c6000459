//! The grammar of RFC 8259, checked while passing over values that nothing is wanted of.

use crate::resource::defect::{Defect, DefectKind};

/// How deep objects and arrays may be nested, the resource itself being the first level.
pub(super) const DEPTH_LIMIT: usize = 256;

/// A position in a line. What lies before it has been checked.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'l> {
    bytes: &'l [u8],
    at: usize,
    defect: Option<Defect>,
}

/// Says that the cursor has come upon a defect, which it keeps.
///
/// The defect itself would make every result on the hot path too large for registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

impl<'l> Cursor<'l> {
    pub(super) const fn new(bytes: &'l [u8]) -> Self {
        Self { bytes, at: 0, defect: None }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    /// Goes back to a position that was passed before.
    pub(super) const fn return_to(&mut self, position: usize) {
        self.at = position;
    }

    #[inline]
    pub(super) const fn advance(&mut self, count: usize) {
        self.at += count;
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn rest(&self) -> &'l [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The defect that a method of this cursor stopped at.
    pub(super) fn into_defect(self, _: Broken) -> Defect {
        self.defect.unwrap_or(Defect { kind: DefectKind::Truncated, offset: self.at })
    }

    /// Stops at this place.
    #[cold]
    pub(super) const fn broken(&mut self, kind: DefectKind) -> Broken {
        self.defect = Some(Defect { kind, offset: self.at });
        Broken
    }

    /// Stops because the line ends too early.
    #[cold]
    pub(super) const fn truncated(&mut self) -> Broken {
        self.defect = Some(Defect { kind: DefectKind::Truncated, offset: self.bytes.len() });
        Broken
    }

    /// Stops at a byte that can't stand here, or at the line's end.
    #[cold]
    pub(super) fn unexpected(&mut self, reason: &'static str) -> Broken {
        if self.peek().is_none() { self.truncated() } else { self.broken(DefectKind::Grammar(reason)) }
    }

    /// Passes over the value that begins here, with `depth` objects and arrays open around it.
    ///
    /// It doesn't recurse: what is open is kept in one bit a level.
    pub(super) fn skip_value(&mut self, depth: usize) -> Result<(), Broken> {
        match self.peek() {
            Some(b'{' | b'[') => self.skip_container(depth),
            Some(b'"') => self.string().map(|_| ()),
            _ => self.skip_scalar(),
        }
    }

    fn skip_container(&mut self, depth: usize) -> Result<(), Broken> {
        let mut nesting = Nesting::new(depth);
        loop {
            let opened = match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    false
                }
                Some(b'{') => self.enter_object(&mut nesting)?,
                Some(b'[') => self.enter_array(&mut nesting)?,
                _ => {
                    self.skip_scalar()?;
                    false
                }
            };
            if !opened && !self.go_on(&mut nesting)? {
                return Ok(());
            }
        }
    }

    /// Passes over a number, `true`, `false` or `null`.
    pub(super) fn skip_scalar(&mut self) -> Result<(), Broken> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b't') => self.skip_literal(b"true"),
            Some(b'f') => self.skip_literal(b"false"),
            Some(b'n') => self.skip_literal(b"null"),
            _ => Err(self.unexpected("value expected")),
        }
    }

    /// Opens an object and goes to its first value; false when it has none and is closed again.
    #[inline]
    fn enter_object(&mut self, nesting: &mut Nesting) -> Result<bool, Broken> {
        if !nesting.push(true) {
            return Err(self.broken(DefectKind::TooDeep));
        }
        self.at += 1;
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            nesting.pop();
            return Ok(false);
        }
        self.skip_name()?;
        Ok(true)
    }

    /// Opens an array and goes to its first value; false when it has none and is closed again.
    #[inline]
    fn enter_array(&mut self, nesting: &mut Nesting) -> Result<bool, Broken> {
        if !nesting.push(false) {
            return Err(self.broken(DefectKind::TooDeep));
        }
        self.at += 1;
        self.skip_blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            nesting.pop();
            return Ok(false);
        }
        Ok(true)
    }

    /// After a value: closes what ends here and goes to the next value; false when all that was opened is closed.
    #[inline]
    fn go_on(&mut self, nesting: &mut Nesting) -> Result<bool, Broken> {
        while !nesting.is_empty() {
            self.skip_blanks();
            match (self.peek(), nesting.in_object) {
                (Some(b','), in_object) => {
                    self.at += 1;
                    self.skip_blanks();
                    if in_object {
                        self.skip_name()?;
                    }
                    return Ok(true);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    nesting.pop();
                }
                _ => return Err(self.unexpected(after_value(nesting.in_object))),
            }
        }
        Ok(false)
    }

    #[inline]
    fn skip_name(&mut self) -> Result<(), Broken> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("member name expected"));
        }
        self.string()?;
        self.skip_colon()
    }

    /// Passes over the colon after a member's name and goes to its value.
    #[inline]
    pub(super) fn skip_colon(&mut self) -> Result<(), Broken> {
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("missing colon"));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    fn skip_literal(&mut self, literal: &'static [u8]) -> Result<(), Broken> {
        let rest = self.rest();
        if rest.starts_with(literal) {
            self.at += literal.len();
            return Ok(());
        }
        if literal.starts_with(rest) { Err(self.truncated()) } else { Err(self.unexpected("unknown literal")) }
    }

    fn skip_number(&mut self) -> Result<(), Broken> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.unexpected("number with a leading zero"));
            }
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> Result<(), Broken> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(self.unexpected("digit expected"));
        }
        self.at += digits;
        Ok(())
    }
}

/// What is wrong when a value is followed by neither a comma nor the end of what it stands in.
pub(super) const fn after_value(in_object: bool) -> &'static str {
    if in_object { "missing comma or brace" } else { "missing comma or bracket" }
}

/// What is open within a skipped value, one bit a level: set for an object.
struct Nesting {
    objects: [u64; DEPTH_LIMIT / 64],
    outside: usize,
    open: usize,
    in_object: bool,
}

impl Nesting {
    const fn new(outside: usize) -> Self {
        Self { objects: [0; DEPTH_LIMIT / 64], outside, open: 0, in_object: false }
    }

    const fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Opens one level more, unless that is one too many.
    #[must_use]
    fn push(&mut self, object: bool) -> bool {
        if self.outside + self.open >= DEPTH_LIMIT {
            return false;
        }
        if let Some(word) = self.objects.get_mut(self.open / 64) {
            let bit = 1 << (self.open % 64);
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.open += 1;
        self.in_object = object;
        true
    }

    fn pop(&mut self) {
        self.open = self.open.saturating_sub(1);
        let level = self.open.saturating_sub(1);
        self.in_object = self.objects.get(level / 64).is_some_and(|word| word >> (level % 64) & 1 == 1);
    }
}
