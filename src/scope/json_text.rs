//! Strings of JSON, from pieces of any size.

use super::json_push::JsonFault;

/// Longest string that is kept, in bytes of UTF-8 after the escapes.
pub(super) const TEXT_CAP_BYTES: usize = 4096;

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Reads one string after another: checks escapes and UTF-8, keeps what fits below the cap.
#[derive(Debug)]
pub(super) struct TextReader {
    kept: Vec<u8>,
    is_whole: bool,
    expects: Expects,
    /// The first half of a surrogate pair, whose second half may follow.
    high_surrogate: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Expects {
    /// A character, an escape or the closing quote.
    Character,
    /// What follows a backslash.
    Escaped,
    /// Hex digits of `\uXXXX`.
    Hex { missing: u8, unit: u16 },
    /// The rest of a character of several bytes; the next one within bounds that exclude overlong forms, surrogates
    /// and what lies beyond U+10FFFF.
    Continuation { missing: u8, least: u8, most: u8 },
}

impl TextReader {
    pub(super) fn new() -> Self {
        Self { kept: Vec::new(), is_whole: true, expects: Expects::Character, high_surrogate: None }
    }

    /// Starts after an opening quote.
    pub(super) fn start(&mut self) {
        self.kept.clear();
        self.is_whole = true;
        self.expects = Expects::Character;
        self.high_surrogate = None;
    }

    /// The string that was read; `None` if it is longer than the cap.
    pub(super) fn whole(&self) -> Option<&str> {
        if self.is_whole { std::str::from_utf8(&self.kept).ok() } else { None }
    }

    /// Takes bytes and returns those after the closing quote; `None` if the string goes on.
    pub(super) fn push<'b>(&mut self, mut bytes: &'b [u8]) -> Result<Option<&'b [u8]>, JsonFault> {
        loop {
            if matches!(self.expects, Expects::Character) {
                let plain = bytes.iter().position(|&byte| !is_plain(byte)).unwrap_or(bytes.len());
                let (run, rest) = bytes.split_at(plain);
                self.keep_run(run);
                bytes = rest;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(None) };
            bytes = rest;
            match self.expects {
                Expects::Character if byte == b'"' => {
                    self.end_lone_surrogate();
                    return Ok(Some(bytes));
                }
                Expects::Character => self.begin(byte)?,
                Expects::Escaped => self.escaped(byte)?,
                Expects::Hex { missing, unit } => self.hex(byte, missing, unit)?,
                Expects::Continuation { missing, least, most } => self.continuation(byte, missing, (least, most))?,
            }
        }
    }

    fn begin(&mut self, byte: u8) -> Result<(), JsonFault> {
        if byte == b'\\' {
            self.expects = Expects::Escaped;
            return Ok(());
        }
        // Table 3-7 of the Unicode standard: well-formed UTF-8.
        let (missing, least, most) = match byte {
            0xC2..=0xDF => (1, 0x80, 0xBF),
            0xE0 => (2, 0xA0, 0xBF),
            0xE1..=0xEC | 0xEE | 0xEF => (2, 0x80, 0xBF),
            0xED => (2, 0x80, 0x9F),
            0xF0 => (3, 0x90, 0xBF),
            0xF1..=0xF3 => (3, 0x80, 0xBF),
            0xF4 => (3, 0x80, 0x8F),
            0..=0x1F => return Err(JsonFault::Syntax),
            _ => return Err(JsonFault::Utf8),
        };
        self.keep_run(&[byte]);
        self.expects = Expects::Continuation { missing, least, most };
        Ok(())
    }

    fn continuation(&mut self, byte: u8, missing: u8, (least, most): (u8, u8)) -> Result<(), JsonFault> {
        if !(least..=most).contains(&byte) {
            return Err(JsonFault::Utf8);
        }
        self.keep_run(&[byte]);
        self.expects = match missing {
            1 => Expects::Character,
            _ => Expects::Continuation { missing: missing - 1, least: 0x80, most: 0xBF },
        };
        Ok(())
    }

    fn escaped(&mut self, byte: u8) -> Result<(), JsonFault> {
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.expects = Expects::Hex { missing: 4, unit: 0 };
                return Ok(());
            }
            _ => return Err(JsonFault::Syntax),
        };
        self.keep_run(&[meant]);
        self.expects = Expects::Character;
        Ok(())
    }

    fn hex(&mut self, byte: u8, missing: u8, unit: u16) -> Result<(), JsonFault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(JsonFault::Syntax),
        };
        let unit = (unit << 4) | u16::from(digit);
        if missing > 1 {
            self.expects = Expects::Hex { missing: missing - 1, unit };
            return Ok(());
        }
        self.expects = Expects::Character;
        self.keep_unit(unit);
        Ok(())
    }

    /// Keeps one UTF-16 unit; a surrogate without its other half is legal JSON and kept as U+FFFD.
    fn keep_unit(&mut self, unit: u16) {
        if let Some(high) = self.high_surrogate
            && (0xDC00..=0xDFFF).contains(&unit)
        {
            self.high_surrogate = None;
            let pair = char::decode_utf16([high, unit]).next();
            self.keep_char(pair.and_then(Result::ok).unwrap_or(REPLACEMENT));
            return;
        }
        self.end_lone_surrogate();
        if (0xD800..=0xDBFF).contains(&unit) {
            self.high_surrogate = Some(unit);
            return;
        }
        self.keep_char(char::from_u32(u32::from(unit)).unwrap_or(REPLACEMENT));
    }

    fn keep_char(&mut self, char: char) {
        let mut buffer = [0; 4];
        self.keep_run(char.encode_utf8(&mut buffer).as_bytes());
    }

    fn end_lone_surrogate(&mut self) {
        if self.high_surrogate.take().is_some() {
            self.keep_char(REPLACEMENT);
        }
    }

    fn keep_run(&mut self, run: &[u8]) {
        if run.is_empty() {
            return;
        }
        self.end_lone_surrogate();
        if !self.is_whole {
            return;
        }
        if self.kept.len() + run.len() > TEXT_CAP_BYTES {
            self.is_whole = false;
            self.kept.clear();
            return;
        }
        self.kept.extend_from_slice(run);
    }
}

/// ASCII that stands for itself inside a string.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7F) && byte != b'"' && byte != b'\\'
}
