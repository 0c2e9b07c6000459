//! A store with S3's protocol that keeps keys and sizes and throws every body away.
//!
//! It costs as little CPU as a server can: a thread for each connection, and bodies that the kernel drops without
//! copying them (`MSG_TRUNC`). It checks no signature and no checksum. An optional throttle lets so many body bytes a
//! second through, over all connections together.

mod connection;
mod store;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connection::{Connection, Request};
use store::Store;

/// Least time that is worth a sleep; a burst of this length may pass.
const LEAST_SLEEP: Duration = Duration::from_millis(1);

/// Lets so many bytes a second pass.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: f64,
    free_at: Mutex<Instant>,
}

impl Throttle {
    fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Takes as long as the bytes take.
    fn pass(&self, bytes: usize) {
        let wait = {
            let mut free_at = self.free_at.lock().unwrap();
            let now = Instant::now();
            let start = (*free_at).max(now.checked_sub(LEAST_SLEEP).unwrap_or(now));
            *free_at = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            free_at.saturating_duration_since(now)
        };
        if wait > LEAST_SLEEP {
            std::thread::sleep(wait);
        }
    }
}

/// Serves on a free port of the loopback, which it prints, until its process is ended.
pub fn serve(bytes_per_second: Option<f64>) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("http://{}", listener.local_addr()?);
    let throttle = bytes_per_second.map(|rate| Arc::new(Throttle::new(rate)));
    let store = Arc::new(Store::default());
    for stream in listener.incoming() {
        let (stream, store, throttle) = (stream?, Arc::clone(&store), throttle.clone());
        std::thread::spawn(move || answer_all(stream, &store, throttle.as_deref()));
    }
    Ok(())
}

/// Answers the requests of one connection; a client that goes away ends it.
fn answer_all(stream: TcpStream, store: &Store, throttle: Option<&Throttle>) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(head) = connection.head()? {
        let request = Request::parse(&head)?;
        let body_bytes = connection.discard_body(&request, throttle)?;
        let answer = store.answer(&request, body_bytes);
        connection.send(&request, &answer)?;
    }
    Ok(())
}
