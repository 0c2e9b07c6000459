//! A proxy that notes each request and answers some of them itself.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path and query, still encoded.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// As the request says; none if it doesn't.
    pub(crate) body_bytes: usize,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_begin(&self) -> bool {
        self.method == "POST" && self.target.contains("?uploads")
    }

    pub(crate) fn is_part(&self) -> bool {
        self.method == "PUT" && self.target.contains("partNumber=")
    }

    pub(crate) fn is_put(&self) -> bool {
        self.method == "PUT" && !self.target.contains("partNumber=")
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId=")
    }

    pub(crate) fn is_abort(&self) -> bool {
        self.method == "DELETE" && self.target.contains("uploadId=")
    }

    /// A request to STS.
    pub(crate) fn is_sts(&self) -> bool {
        self.method == "POST" && self.target == "/"
    }

    pub(crate) fn part_number(&self) -> Option<&str> {
        self.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("partNumber="))
    }
}

/// What the proxy does instead of passing a request on and its answer back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers itself.
    Answer(u16, String),
    /// Closes the connection; the server sees nothing.
    Reset,
    /// Closes the connection in the middle of the body; the server sees nothing.
    ResetMidway,
    /// Passes the request on, and closes the connection instead of answering.
    LoseAnswer,
    /// Passes the request on, and answers this instead of what the server has said.
    AnswerInstead(u16, String),
    /// Passes the request on with a byte of its body changed.
    Damage,
    /// Takes the request, and never answers; the server sees nothing.
    Stall,
}

impl Act {
    /// An S3 error.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::Answer(status, error_body(code))
    }

    /// An S3 error in place of what the server has done.
    pub(crate) fn error_instead(status: u16, code: &str) -> Self {
        Self::AnswerInstead(status, error_body(code))
    }
}

fn error_body(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Please wait.</Message></Error>")
}

struct Rule {
    applies: fn(&Recorded) -> bool,
    times: usize,
    act: Act,
}

/// Acts by chance: the same chances each time.
struct Flapping {
    acts: Vec<Act>,
    one_in: u64,
    random: u64,
}

impl Flapping {
    fn next(&mut self) -> Option<Act> {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let hit = (mixed >> 32).is_multiple_of(self.one_in);
        hit.then(|| self.acts[(mixed & 0xFFFF) as usize % self.acts.len()].clone())
    }
}

/// How fast bodies are taken, all together.
struct Pace {
    bytes_per_second: usize,
    free_at: Instant,
}

#[derive(Default)]
struct State {
    recorded: Vec<Recorded>,
    acted: Vec<Act>,
    rules: Vec<Rule>,
    flapping: Option<Flapping>,
    pace: Option<Pace>,
}

impl State {
    fn next_act(&mut self, recorded: Recorded) -> Option<Act> {
        let rule = self.rules.iter_mut().find(|rule| rule.times > 0 && (rule.applies)(&recorded));
        let act = match rule {
            Some(rule) => {
                rule.times -= 1;
                Some(rule.act.clone())
            }
            None => self.flapping.as_mut().and_then(Flapping::next),
        };
        self.recorded.push(recorded);
        self.acted.extend(act.clone());
        act
    }

    /// When so many bytes more have been taken.
    fn taken_at(&mut self, bytes: usize) -> Option<Instant> {
        let pace = self.pace.as_mut()?;
        let takes = Duration::from_secs_f64(bytes as f64 / pace.bytes_per_second as f64);
        pace.free_at = pace.free_at.max(Instant::now()) + takes;
        Some(pace.free_at)
    }
}

/// The proxy; it stops when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy of a server, on a free port of the loopback interface.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        Self::start_over(server, None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_tls(server: SocketAddr, tls: TlsAcceptor) -> Self {
        Self::start_over(server, Some(tls)).await
    }

    async fn start_over(server: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&state), tls));
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this to the next so many requests of a kind.
    pub(crate) fn next(&self, times: usize, applies: fn(&Recorded) -> bool, act: Act) {
        self.state.lock().unwrap().rules.push(Rule { applies, times, act });
    }

    /// Does one of these to one in so many requests, by chance.
    pub(crate) fn flap(&self, one_in: u64, acts: &[Act]) {
        let mut state = self.state.lock().unwrap();
        // Other chances each time, so that they don't fall on the same calls.
        let random = state.recorded.len() as u64;
        state.flapping = Some(Flapping { acts: acts.to_vec(), one_in, random });
    }

    /// Takes no more than so many bytes a second from now on.
    pub(crate) fn pace(&self, bytes_per_second: usize) {
        self.state.lock().unwrap().pace = Some(Pace { bytes_per_second, free_at: Instant::now() });
    }

    /// Does nothing of its own any more.
    pub(crate) fn behave(&self) {
        let mut state = self.state.lock().unwrap();
        (state.rules, state.flapping, state.pace) = (Vec::new(), None, None);
    }

    /// What was done so far instead of passing a request on and its answer back.
    pub(crate) fn acted(&self) -> Vec<Act> {
        self.state.lock().unwrap().acted.clone()
    }

    /// The requests so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.state.lock().unwrap().recorded.clone()
    }

    /// The requests of a kind so far.
    pub(crate) fn of(&self, kind: fn(&Recorded) -> bool) -> Vec<Recorded> {
        self.recorded().into_iter().filter(kind).collect()
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: Arc<Mutex<State>>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| handle(request, server, Arc::clone(&state)));
            match tls {
                None => drop(server::Builder::new().serve_connection(TokioIo::new(socket), service).await),
                // A client that doesn't trust us goes away.
                Some(tls) => {
                    let Ok(socket) = tls.accept(socket).await else { return };
                    drop(server::Builder::new().serve_connection(TokioIo::new(socket), service).await);
                }
            }
        });
    }
}

/// The error that makes hyper close the connection without an answer.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

type Answer = Response<Full<Bytes>>;

async fn handle(request: Request<Incoming>, server: SocketAddr, state: Arc<Mutex<State>>) -> Result<Answer, Closed> {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let recorded = Recorded {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers.clone(),
        body_bytes: length.unwrap_or(0),
    };
    let most_bytes = recorded.body_bytes / 2;
    let act = state.lock().unwrap().next_act(recorded);
    if let Some(Act::ResetMidway) = act {
        read(body, most_bytes, &state).await?;
        return Err(Closed);
    }
    let body = read(body, usize::MAX, &state).await?;
    let forward = |body| forward(Request::from_parts(parts, Full::new(body)), server);
    let answer = |status, text| Response::builder().status(status).body(Full::from(text)).unwrap();
    match act {
        None => forward(body.freeze()).await,
        Some(Act::Answer(status, text)) => Ok(answer(status, text)),
        Some(Act::AnswerInstead(status, text)) => {
            forward(body.freeze()).await?;
            Ok(answer(status, text))
        }
        Some(Act::Damage) => {
            let mut body = body;
            let middle = body.len() / 2;
            body[middle] ^= 1;
            forward(body.freeze()).await
        }
        Some(Act::Reset | Act::ResetMidway) => Err(Closed),
        Some(Act::Stall) => std::future::pending().await,
        Some(Act::LoseAnswer) => {
            forward(body.freeze()).await?;
            Err(Closed)
        }
    }
}

/// Reads a body, or so many bytes of it, not faster than the pace.
async fn read(mut body: Incoming, most_bytes: usize, state: &Mutex<State>) -> Result<BytesMut, Closed> {
    let mut read = BytesMut::new();
    while read.len() < most_bytes
        && let Some(frame) = body.frame().await
    {
        let Ok(bytes) = frame.map_err(|_| Closed)?.into_data() else { continue };
        let taken_at = state.lock().unwrap().taken_at(bytes.len());
        if let Some(taken_at) = taken_at {
            sleep_until(taken_at).await;
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

async fn forward(request: Request<Full<Bytes>>, server: SocketAddr) -> Result<Answer, Closed> {
    let socket = TcpStream::connect(server).await.map_err(|_| Closed)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|_| Closed)?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await.map_err(|_| Closed)?.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    };
    let running = async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = running => match never {},
    }
}
