//! One pass over a line, block by block.

use super::super::simd::{BLOCK_BYTES, Block, Kernel};
use super::grammar::{Grammar, Tokens};
use super::members::{Members, Near};
use super::strings::Strings;
use super::{Odd, Outcome, scalars};

/// How deep objects and arrays may be nested here. One bit a level, and one that marks the end of them.
const DEEPEST: u32 = 62;

/// How far back the beginning of a name is looked for. Without an end, a line of colons would take forever.
const LONGEST_NAME_BYTES: usize = 256;

/// What is known of the line up to the next block.
///
/// The members are kept apart: they are handed to functions of their own, and whatever lay beside them would then have to
/// be stored and loaded for each block instead of staying in registers.
pub(super) struct Pass<'l, K, const FULL: bool> {
    kernel: K,
    line: &'l [u8],
    strings: Strings,
    grammar: Grammar,
    nest: Nest,
    backslashes: u64,
    is_closed: bool,
}

/// The objects and arrays that are open.
#[derive(Clone, Copy, Debug)]
struct Nest {
    /// The innermost is bit 0, set for an object. The topmost bit that is set is none of them.
    kinds: u64,
    depth: u32,
}

/// The brackets of a block.
#[derive(Clone, Copy, Debug)]
struct Brackets {
    opens: u64,
    closes: u64,
    /// Tells braces from brackets.
    braces: u64,
}

impl Nest {
    /// Goes past a bracket.
    #[inline(always)]
    const fn pass(&mut self, at: u32, Brackets { opens, braces, .. }: Brackets) -> bool {
        let is_open = opens >> at & 1 != 0;
        self.kinds = if is_open { self.kinds << 1 | braces >> at & 1 } else { self.kinds >> 1 };
        is_open
    }

    /// Goes past all brackets of a block, and tells before which of them an object is open.
    #[inline(always)]
    fn pass_all(&mut self, brackets: Brackets) -> u64 {
        let mut rest = brackets.opens | brackets.closes;
        let mut in_object = 0;
        while rest != 0 {
            let at = rest.trailing_zeros();
            rest &= rest - 1;
            in_object |= (self.kinds & 1) << at;
            self.pass(at, brackets);
        }
        self.depth = self.depth + brackets.opens.count_ones() - brackets.closes.count_ones();
        in_object
    }
}

impl<'l, K: Kernel, const FULL: bool> Pass<'l, K, FULL> {
    #[inline(always)]
    pub(super) fn new(kernel: K, line: &'l [u8]) -> Self {
        Self {
            kernel,
            line,
            strings: Strings::default(),
            grammar: Grammar::new(),
            nest: Nest { kinds: 1, depth: 0 },
            backslashes: 0,
            is_closed: false,
        }
    }

    #[inline(always)]
    pub(super) fn run(mut self, mut members: Members<'l, '_>) -> Result<Outcome, Odd> {
        let mut short = [b' '; BLOCK_BYTES];
        let mut base = 0;
        while base < self.line.len() {
            let (block, shift) = block_at(self.line, base, &mut short);
            self.block(base, block, shift, &mut members)?;
            base += BLOCK_BYTES;
        }
        if !self.is_closed || self.strings.is_open() {
            return Err(Odd);
        }
        let (found, early) = members.into_found();
        Ok(Outcome { found, early })
    }

    #[inline(always)]
    fn block(&mut self, base: usize, block: &Block, shift: usize, members: &mut Members<'l, '_>) -> Result<(), Odd> {
        let masks = self.kernel.masks(block).shifted(shift);
        let quoted = self.strings.next(self.kernel, &masks);
        let outside = !quoted.inside;
        let brackets = Brackets { opens: masks.opens & outside, closes: masks.closes & outside, braces: masks.braces };
        let colons = masks.colons & outside;
        self.backslashes |= masks.backslashes;
        if self.nest.depth + brackets.opens.count_ones() > DEEPEST {
            return Err(Odd);
        }
        let in_object = if self.nest.depth > members.depth() + brackets.closes.count_ones() {
            self.nest.pass_all(brackets)
        } else {
            let near = Near { base, opening: quoted.opening, closing: quoted.closing, backslashes: masks.backslashes };
            self.members_of(brackets, colons, near, members)?
        };
        // A backslash outside of strings was taken to escape what follows it, which may have been a quote.
        let mut errors = masks.controls & quoted.inside
            | masks.backslashes & outside
            | brackets.closes & (brackets.braces ^ in_object);
        if FULL {
            let mut blanks = masks.spaces;
            if masks.controls & outside != 0 {
                blanks |= self.kernel.other_blanks(block) >> shift;
            }
            let Brackets { opens, closes, braces } = brackets;
            let others =
                masks.quotes | masks.opens | masks.closes | masks.colons | masks.commas | blanks | quoted.inside;
            let tokens = Tokens {
                opening_quotes: quoted.opening,
                opens,
                closes,
                braces,
                colons,
                commas: masks.commas & outside,
                scalars: !others & u64::MAX >> shift,
                blanks: blanks & outside,
            };
            let verdict = self.grammar.next(&tokens);
            errors |= verdict.errors | verdict.in_object & !in_object | verdict.in_array & in_object;
            if verdict.scalar_starts != 0 {
                scalars::check(self.kernel, self.line, base, (block, shift), (verdict.scalar_starts, tokens.scalars))?;
            }
            if quoted.escaped != 0 {
                check_escapes(self.kernel, self.line, base, (block, shift), quoted.escaped)?;
            }
        }
        if errors != 0 { Err(Odd) } else { Ok(()) }
    }

    /// Goes past the brackets of a block in which something may be wanted, and takes what is. Tells before which
    /// brackets an object is open.
    #[inline(always)]
    fn members_of(
        &mut self,
        brackets: Brackets,
        colons: u64,
        near: Near,
        members: &mut Members<'l, '_>,
    ) -> Result<u64, Odd> {
        let mut in_object = 0;
        let mut rest = brackets.opens | brackets.closes;
        let mut behind = u64::MAX;
        loop {
            if self.nest.depth == members.depth() {
                // Below the next bracket; all bits when there is none.
                let before = (rest & rest.wrapping_neg()).wrapping_sub(1);
                let mut here = colons & behind & before;
                while here != 0 {
                    self.member(here.trailing_zeros(), near, members)?;
                    here &= here - 1;
                }
            }
            if rest == 0 {
                return Ok(in_object);
            }
            let at = rest.trailing_zeros();
            rest &= rest - 1;
            behind = (u64::MAX << at) << 1;
            in_object |= (self.nest.kinds & 1) << at;
            let is_wanted = self.nest.depth == members.depth();
            if self.nest.pass(at, brackets) {
                self.nest.depth += 1;
                if is_wanted {
                    members.open(brackets.braces >> at & 1 != 0);
                }
                continue;
            }
            self.nest.depth -= 1;
            if is_wanted && !members.close() {
                // The resource ends here; so must the line.
                if near.base + at as usize + 1 != self.line.len() {
                    return Err(Odd);
                }
                self.is_closed = true;
                return Ok(in_object);
            }
        }
    }

    #[inline(always)]
    fn member(&self, colon: u32, near: Near, members: &mut Members<'l, '_>) -> Result<(), Odd> {
        let opening = near.opening & !(u64::MAX << colon);
        let colon = near.base + colon as usize;
        let end = name_end(self.line, colon);
        let start = if opening == 0 {
            far_name_start(self.line, end)?
        } else {
            near.base + 64 - opening.leading_zeros() as usize
        };
        let length = end.wrapping_sub(start);
        let maybe_escaped = near.backslashes | if start < near.base { self.backslashes } else { 0 };
        if maybe_escaped != 0 && self.line.get(start..end).is_none_or(|name| name.contains(&b'\\')) {
            return Err(Odd);
        }
        if !members.may_want(length) {
            return Ok(());
        }
        members.member((start, end), colon, near)
    }
}

/// Where a name begins whose opening quote lies in a block before.
fn far_name_start(line: &[u8], end: usize) -> Result<usize, Odd> {
    let from = end.saturating_sub(LONGEST_NAME_BYTES);
    let before = line.get(from..end).ok_or(Odd)?;
    let quote = from + memchr::memrchr(b'"', before).ok_or(Odd)?;
    // This quote is one of the name's own.
    let is_escaped = line.get(quote.wrapping_sub(1)) == Some(&b'\\');
    if is_escaped { Err(Odd) } else { Ok(quote + 1) }
}

/// Where the name before a colon ends: at its closing quote.
#[inline(always)]
fn name_end(line: &[u8], colon: usize) -> usize {
    let mut end = colon.saturating_sub(1);
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = line.get(end) {
        end = end.saturating_sub(1);
    }
    end
}

#[inline(never)]
fn check_escapes<K: Kernel>(
    kernel: K,
    line: &[u8],
    base: usize,
    (block, shift): (&Block, usize),
    escaped: u64,
) -> Result<(), Odd> {
    let mut others = escaped & !(kernel.short_escapes(block) >> shift);
    while others != 0 {
        let at = base + others.trailing_zeros() as usize;
        others &= others - 1;
        match line.get(at..at + 5) {
            Some([b'u', digits @ ..]) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return Err(Odd),
        }
    }
    Ok(())
}

/// The 64 bytes from `base` on. Where the line has fewer, they are its last 64, the first of which (as many as the
/// number says) came before `base`; where it has fewer altogether, they are put behind blanks.
#[inline(always)]
fn block_at<'b>(line: &'b [u8], base: usize, short: &'b mut Block) -> (&'b Block, usize) {
    if let Some(block) = line.get(base..).and_then(<[u8]>::first_chunk) {
        return (block, 0);
    }
    last_block(line, base, short)
}

#[inline]
fn last_block<'b>(line: &'b [u8], base: usize, short: &'b mut Block) -> (&'b Block, usize) {
    if let Some(last) = line.last_chunk() {
        return (last, (base + BLOCK_BYTES - line.len()));
    }
    let shift = BLOCK_BYTES - line.len().min(BLOCK_BYTES);
    short.iter_mut().skip(shift).zip(line).for_each(|(to, from)| *to = *from);
    (short, shift)
}
