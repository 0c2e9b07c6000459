//! What goes to stdout: results and events, written on a thread of its own.
//!
//! A reader that stalls must not keep signals from being obeyed, so nothing else waits for it. A reader that goes away
//! is no fault: what it doesn't want isn't written.

use std::io::{self, Write};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

/// Texts that may wait for the reader.
const WAITING: usize = 64;

/// Stdout.
#[derive(Debug)]
pub(crate) struct Output {
    texts: mpsc::Sender<String>,
    done: oneshot::Receiver<io::Result<()>>,
    _thread: JoinHandle<()>,
}

impl Output {
    /// Starts the thread that writes.
    pub(crate) fn new() -> Self {
        let (texts, waiting) = mpsc::channel(WAITING);
        let (tell, done) = oneshot::channel();
        let thread = std::thread::spawn(move || drop(tell.send(write_all(waiting))));
        Self { texts, done, _thread: thread }
    }

    /// Writes a text unless the reader is too far behind.
    pub(crate) fn offer(&self, text: String) {
        drop(self.texts.try_send(text));
    }

    /// Writes the last text and waits until everything is written.
    ///
    /// # Errors
    /// When stdout can't be written to, for another reason than that nobody reads any more.
    pub(crate) async fn end_with(self, text: String) -> io::Result<()> {
        drop(self.texts.send(text).await);
        drop(self.texts);
        self.done.await.unwrap_or(Ok(()))
    }
}

fn write_all(mut waiting: mpsc::Receiver<String>) -> io::Result<()> {
    while let Some(text) = waiting.blocking_recv() {
        print(&text)?;
    }
    Ok(())
}

/// Writes a text at once, waiting for the reader.
///
/// # Errors
/// When stdout can't be written to, for another reason than that nobody reads any more.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
