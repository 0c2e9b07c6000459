//! Numbers and literals.

use super::super::grammar::Cursor;
use super::super::simd::{Block, Kernel};
use super::Odd;

/// Checks the numbers and literals that start in a block.
///
/// Numbers without exponent that end in the block are judged by bits, the others byte by byte.
#[inline(always)]
pub(super) fn check<K: Kernel>(
    kernel: K,
    line: &[u8],
    base: usize,
    (block, shift): (&Block, usize),
    (starts, scalars): (u64, u64),
) -> Result<(), Odd> {
    let (digits, dots) = kernel.digits_and_dots(block);
    let (digits, dots) = (digits >> shift, dots >> shift);
    let mut starts = starts;
    while starts != 0 {
        let at = starts.trailing_zeros();
        starts &= starts - 1;
        let position = base + at as usize;
        if !is_plain_number(scalars >> at, digits >> at, dots >> at, at, line.get(position).copied()) {
            one(line, position)?;
        }
    }
    Ok(())
}

/// Whether this is digits, perhaps with a dot between. The bits begin at the first byte.
#[inline(always)]
fn is_plain_number(scalars: u64, digits: u64, dots: u64, at: u32, first: Option<u8>) -> bool {
    let length = (!scalars).trailing_zeros();
    let within = (1_u64 << (length & 63)) - 1;
    let dots = dots & within;
    let only_digits_and_dots = within & !(digits | dots) == 0;
    let one_dot_at_most = dots & dots.wrapping_sub(1) == 0;
    let digits_at_both_ends = digits & 1 != 0 && digits & ((within + 1) >> 1) != 0;
    let leading_zero = first == Some(b'0') && digits & within & 2 != 0;
    (length + at < 64) & only_digits_and_dots & one_dot_at_most & digits_at_both_ends & !leading_zero
}

/// Checks one that is anything else than a plain number.
fn one(line: &[u8], position: usize) -> Result<(), Odd> {
    let mut cursor = Cursor::new(line);
    cursor.return_to(position);
    cursor.skip_scalar().map_err(|_| Odd)?;
    match cursor.peek() {
        None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
        Some(_) => Err(Odd),
    }
}
