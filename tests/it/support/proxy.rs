//! A proxy that notes each request and answers some of them itself.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path and query, still encoded.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
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

    pub(crate) fn part_number(&self) -> Option<&str> {
        self.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("partNumber="))
    }
}

/// What the proxy does instead of passing a request on and its answer back.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers itself.
    Answer(u16, String),
    /// Closes the connection; the server sees nothing.
    Reset,
    /// Passes the request on, and closes the connection instead of answering.
    LoseAnswer,
}

impl Act {
    /// An S3 error.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Please wait.</Message></Error>");
        Self::Answer(status, body)
    }
}

struct Rule {
    applies: fn(&Recorded) -> bool,
    times: usize,
    act: Act,
}

#[derive(Default)]
struct State {
    recorded: Vec<Recorded>,
    rules: Vec<Rule>,
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
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this to the next so many requests of a kind.
    pub(crate) fn next(&self, times: usize, applies: fn(&Recorded) -> bool, act: Act) {
        self.state.lock().unwrap().rules.push(Rule { applies, times, act });
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

async fn accept(listener: TcpListener, server: SocketAddr, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(request, server, Arc::clone(&state)));
            drop(server::Builder::new().serve_connection(TokioIo::new(socket), service).await);
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
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let recorded = Recorded {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers.clone(),
        body_bytes: body.len(),
    };
    match next_act(&state, recorded) {
        None => forward(Request::from_parts(parts, Full::new(body)), server).await,
        Some(Act::Answer(status, text)) => Ok(Response::builder().status(status).body(Full::from(text)).unwrap()),
        Some(Act::Reset) => Err(Closed),
        Some(Act::LoseAnswer) => {
            forward(Request::from_parts(parts, Full::new(body)), server).await?;
            Err(Closed)
        }
    }
}

fn next_act(state: &Mutex<State>, recorded: Recorded) -> Option<Act> {
    let mut state = state.lock().unwrap();
    let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && (rule.applies)(&recorded));
    let act = rule.map(|rule| {
        rule.times -= 1;
        rule.act.clone()
    });
    state.recorded.push(recorded);
    act
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
