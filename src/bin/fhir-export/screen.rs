//! What goes to stderr: messages, log lines and bars, without running into each other.

use std::error::Error as _;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

/// The terminal, or whatever stderr is.
#[derive(Clone, Debug)]
pub(crate) struct Screen(MultiProgress);

impl Screen {
    /// A screen without bars.
    pub(crate) fn new() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()))
    }

    pub(crate) fn is_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// Lets bars be seen from now on.
    pub(crate) fn show_bars(&self) {
        self.0.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// Adds a bar above the last one.
    pub(crate) fn insert_bar(&self, bar: ProgressBar) -> ProgressBar {
        self.0.insert_from_back(1, bar)
    }

    /// Adds the last bar.
    pub(crate) fn add_last_bar(&self, bar: ProgressBar) -> ProgressBar {
        self.0.add(bar)
    }

    pub(crate) fn remove_bar(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.0.remove(bar);
    }

    /// Takes all bars away, for good.
    pub(crate) fn hide_bars(&self) {
        // A terminal that is gone shows nothing anyway.
        drop(self.0.clear());
        self.0.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Says something, on one line.
    pub(crate) fn say(&self, text: &str) {
        self.0.suspend(|| eprintln_unless_gone(&without_controls(text)));
    }

    /// Says why something failed, with the chain of causes.
    pub(crate) fn failure(&self, error: &fhir_export::Error) {
        self.error(&with_causes(error));
    }

    /// Says what went wrong.
    pub(crate) fn error(&self, text: &str) {
        self.say(&format!("error: {text}"));
    }
}

/// The error and its causes on one line; a cause that an error before it has told already is left out.
pub(crate) fn with_causes(error: &fhir_export::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = error.source();
    }
    told
}

/// Unlike `eprintln!`, this doesn't panic when nobody reads any more.
fn eprintln_unless_gone(text: &str) {
    drop(writeln!(io::stderr().lock(), "fhir-export: {text}"));
}

/// Log lines come whole, and each is one line.
impl Write for Screen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = one_line(line);
        self.0.suspend(|| io::stderr().write_all(&shown))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A text with its control characters written out: names of files may hold any.
fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

/// A log line with its end, and all within it that could end it or go back in it written out: who sends it can't begin a
/// line of his own. Colours stay; the subscriber writes out those that a value brings along.
fn one_line(line: &[u8]) -> Vec<u8> {
    let (text, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |text| (text, b"\n"));
    let mut shown = Vec::with_capacity(line.len());
    for &byte in text {
        match byte {
            b'\t' | 0x1B => shown.push(byte),
            0..0x20 | 0x7F => shown.extend(byte.escape_ascii()),
            _ => shown.push(byte),
        }
    }
    shown.extend(end);
    shown
}

#[cfg(test)]
mod tests {
    use std::io;

    use fhir_export::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_log_line_is_one_line_whatever_is_in_it() {
        for (line, shown) in [
            (" WARN plain\n", " WARN plain\n"),
            ("no end", "no end"),
            ("\n", "\n"),
            ("", ""),
            (" WARN a\nERROR b\n", " WARN a\\nERROR b\n"),
            (" WARN a\r\nERROR b\r\n", " WARN a\\r\\nERROR b\\r\n"),
            (" WARN a\u{8}\u{0}\u{b}\u{c}\u{7f}\n", " WARN a\\x08\\x00\\x0b\\x0c\\x7f\n"),
            ("\u{1b}[33m WARN\u{1b}[0m \u{e4}\t\u{1f600}\n", "\u{1b}[33m WARN\u{1b}[0m \u{e4}\t\u{1f600}\n"),
        ] {
            assert_eq!(String::from_utf8(one_line(line.as_bytes())).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_said_is_one_line_and_moves_no_cursor() {
        let said = without_controls("a\nerror: b\u{1b}[2Jc\td\u{85}\u{e4}");
        assert_eq!(said, "a\\nerror: b\\u{1b}[2Jc\\td\\u{85}\u{e4}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let low = Error::new(ErrorKind::Store, "reading: refused").caused_by(io::Error::other("refused"));
        let error = Error::new(ErrorKind::Store, "the manifest can't be read").with("object", "x").caused_by(low);
        assert_eq!(with_causes(&error), "the manifest can't be read (object: x): reading: refused");
    }
}
