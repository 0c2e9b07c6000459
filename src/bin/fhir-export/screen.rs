//! What goes to stderr: messages, log lines and bars, without running into each other.

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

    /// Says something.
    pub(crate) fn say(&self, text: &str) {
        self.0.suspend(|| eprintln_unless_gone(text));
    }

    /// Says what went wrong.
    pub(crate) fn error(&self, text: &str) {
        self.say(&format!("error: {text}"));
    }
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
