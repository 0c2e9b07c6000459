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

    /// Says something.
    pub(crate) fn say(&self, text: &str) {
        self.0.suspend(|| eprintln_unless_gone(text));
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

/// Log lines come whole.
impl Write for Screen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use fhir_export::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let low = Error::new(ErrorKind::Store, "reading: refused").caused_by(io::Error::other("refused"));
        let error = Error::new(ErrorKind::Store, "the manifest can't be read").with("object", "x").caused_by(low);
        assert_eq!(with_causes(&error), "the manifest can't be read (object: x): reading: refused");
    }
}
