//! JSON strings: finding their end, checking their escapes, undoing them.

use std::borrow::Cow;

use super::grammar::{Broken, Cursor};
use crate::resource::defect::DefectKind;

/// Strings are looked through in words of eight bytes up to this length; most end before.
const SHORT_BYTES: usize = 64;

/// A high and a low surrogate together make one of the characters from here on.
const BEYOND_BASIC_PLANE: u32 = 0x1_0000;

/// Where a string's content lies, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringSpan {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

impl StringSpan {
    /// The string as it is written in the line, escapes and all.
    pub(super) fn raw<'l>(&self, line: &'l str) -> &'l str {
        line.get(self.start..self.end).unwrap_or_default()
    }

    /// The string that is meant.
    pub(super) fn text<'l>(&self, line: &'l str) -> Cow<'l, str> {
        let raw = self.raw(line);
        if !self.escaped {
            return Cow::Borrowed(raw);
        }
        let mut text = String::with_capacity(raw.len());
        unescape_into(raw, &mut text);
        Cow::Owned(text)
    }
}

impl Cursor<'_> {
    /// Passes over the string whose opening quote is next and tells where its content lies.
    pub(super) fn string_span(&mut self) -> Result<StringSpan, Broken> {
        let start = self.position() + 1;
        let escaped = self.string()?;
        Ok(StringSpan { start, end: self.position() - 1, escaped })
    }

    /// Passes over the string whose opening quote is next and tells whether it has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<bool, Broken> {
        self.advance(1);
        let plain = plain_length(self.rest());
        self.advance(plain);
        if self.peek() == Some(b'"') {
            self.advance(1);
            return Ok(false);
        }
        self.escaped_rest()
    }

    /// Passes over the rest of a string that the next byte doesn't end.
    fn escaped_rest(&mut self) -> Result<bool, Broken> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(true);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.broken(DefectKind::ControlCharacter)),
                None => return Err(self.truncated()),
            }
            let plain = plain_length(self.rest());
            self.advance(plain);
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                self.advance(2);
                Ok(())
            }
            [_, b'u', digits @ ..] => {
                let valid = digits.iter().take(4).take_while(|digit| digit.is_ascii_hexdigit()).count();
                if valid < digits.len().min(4) {
                    return Err(self.broken(DefectKind::Grammar("\\u without four hexadecimal digits")));
                }
                if valid < 4 {
                    return Err(self.truncated());
                }
                self.advance(6);
                Ok(())
            }
            [_] | [] => Err(self.truncated()),
            _ => Err(self.broken(DefectKind::Grammar("unknown escape"))),
        }
    }
}

/// How many bytes come before the next quote, backslash or control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut length = 0;
    while length < SHORT_BYTES
        && let Some((word, after)) = rest.split_first_chunk()
    {
        let special = special_bytes(*word);
        if special != 0 {
            return length + (special.trailing_zeros() / 8) as usize;
        }
        length += 8;
        rest = after;
    }
    length + long_plain_length(rest)
}

/// The same for what is likely to be long.
fn long_plain_length(bytes: &[u8]) -> usize {
    let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    before_control_character(bytes.get(..end).unwrap_or_default())
}

/// Sets the top bit of the first byte that is a quote, a backslash or a control character; bits above it are noise.
#[inline]
fn special_bytes(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_zero(word ^ (ONES * u64::from(b'"'))) | is_zero(word ^ (ONES * u64::from(b'\\'))) | is_control) & TOPS
}

fn before_control_character(bytes: &[u8]) -> usize {
    // A fold without early exit is what the compiler turns into vector code.
    let has_control = |chunk: &[u8]| chunk.iter().fold(false, |found, &byte| found | (byte < 0x20));
    for (index, chunk) in bytes.chunks(256).enumerate() {
        if has_control(chunk) {
            let within = chunk.iter().position(|&byte| byte < 0x20).unwrap_or(0);
            return index * 256 + within;
        }
    }
    bytes.len()
}

/// Appends the meaning of a string whose escapes were checked. A lone surrogate becomes U+FFFD.
pub(super) fn unescape_into(raw: &str, text: &mut String) {
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        rest = match escape.as_bytes().first() {
            Some(b'u') => push_unicode(escape.get(1..).unwrap_or_default(), text),
            Some(&letter) => {
                text.push(meaning(letter));
                escape.get(1..).unwrap_or_default()
            }
            None => "",
        };
    }
    text.push_str(rest);
}

fn meaning(letter: u8) -> char {
    match letter {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(other),
    }
}

/// Appends the character whose hexadecimal digits come first, and returns what follows.
fn push_unicode<'r>(digits: &'r str, text: &mut String) -> &'r str {
    let (unit, rest) = code_unit(digits);
    if !(0xD800..0xDC00).contains(&unit) {
        text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        return rest;
    }
    let Some((low @ 0xDC00..0xE000, after)) = rest.strip_prefix("\\u").map(code_unit) else {
        text.push(char::REPLACEMENT_CHARACTER);
        return rest;
    };
    let both = BEYOND_BASIC_PLANE + ((unit - 0xD800) << 10) + (low - 0xDC00);
    text.push(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER));
    after
}

fn code_unit(digits: &str) -> (u32, &str) {
    let (first, rest) = digits.split_at_checked(4).unwrap_or((digits, ""));
    (u32::from_str_radix(first, 16).unwrap_or(u32::from(char::REPLACEMENT_CHARACTER)), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(raw: &str) -> String {
        let mut text = String::new();
        unescape_into(raw, &mut text);
        text
    }

    #[test]
    fn escapes_mean_what_rfc_8259_says() {
        assert_eq!(unescaped(r#"a\"\\\/\b\f\n\r\tz"#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(unescaped(r"\u0041\u00e9\u20AC\ud83d\ude00"), "Aé€😀");
    }

    #[test]
    fn a_lone_surrogate_is_replaced_and_what_follows_is_kept() {
        assert_eq!(unescaped(r"\ud83dx"), "\u{fffd}x");
        assert_eq!(unescaped(r"\ude00\ud83d"), "\u{fffd}\u{fffd}");
        assert_eq!(unescaped(r"\ud83d\n"), "\u{fffd}\n");
        assert_eq!(unescaped(r"\ud83d\u0041"), "\u{fffd}A");
        assert_eq!(unescaped(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
    }

    #[test]
    fn the_end_of_the_plain_part_is_found_at_any_distance() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for distance in (0..200).chain([255, 256, 257, 1000]) {
                let mut bytes = vec![0x7f; distance];
                bytes.push(special);
                bytes.extend([0xC3, b'"', 0, b'\\', b'x', b'x', b'x', b'x', b'x']);
                assert_eq!(plain_length(&bytes), distance, "{special} after {distance}");
            }
        }
        assert_eq!(plain_length(" !#[]\u{7f}é😀".repeat(50).as_bytes()), 12 * 50);
    }
}
