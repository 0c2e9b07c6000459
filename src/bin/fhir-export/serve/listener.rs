//! Connections: how many, how long each may take, and TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes that a connection may hold of what comes and what goes, the head of a request included.
pub(super) const HEAD_BYTES: usize = 128 << 10;

/// Less than this the server's buffers can't be.
pub(super) const LEAST_HEAD_BYTES: usize = 8 << 10;

/// Headers of a request.
pub(super) const MOST_HEADERS: usize = 100;

/// How long it is waited when no connection can be accepted, as when there are no more file handles.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How long answers may go on when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) connections: usize,
    /// Longest head of a request.
    pub(super) head_bytes: usize,
    /// Headers of a request at most.
    pub(super) headers: usize,
    /// For the headers of a request, and for a handshake.
    pub(super) for_headers: Duration,
    /// For a client that takes nothing of what is sent.
    pub(super) stalled: Duration,
}

/// Lets the process have as many open files as the system allows, and tells how many connections that is room for.
#[cfg(unix)]
fn most_connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the number of open files can't be raised");
    }
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    // A download has a file open besides its connection.
    files.map_or(usize::MAX, |files| (files / 2).max(1))
}

#[cfg(not(unix))]
const fn most_connections() -> usize {
    usize::MAX
}

/// Listens, and answers with a router.
pub(super) struct Listener {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: ConnectionLimits,
}

impl Listener {
    pub(super) async fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        limits: ConnectionLimits,
    ) -> io::Result<Self> {
        let limits = ConnectionLimits { connections: limits.connections.min(most_connections()), ..limits };
        Ok(Self { listener: TcpListener::bind(address).await?, tls, limits })
    }

    /// Serves until it is to stop, and lets answers come to their end for a while.
    pub(super) async fn serve(self, app: Router, stop: impl Future<Output = ()>) {
        let connections = TaskTracker::new();
        let stopping = CancellationToken::new();
        tokio::select! {
            () = self.accept(&app, &connections, &stopping) => {}
            () = stop => {}
        }
        stopping.cancel();
        connections.close();
        if timeout(LAST_ANSWERS, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some answers are broken off");
        }
    }

    async fn accept(&self, app: &Router, connections: &TaskTracker, stopping: &CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            // Those who come when all places are taken wait in the system's own line.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (socket, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted");
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            // For those who say whom they let in from where.
            let app = app.clone().layer(Extension(ConnectInfo(peer)));
            let (app, tls, limits, stopping) = (app, self.tls.clone(), self.limits, stopping.clone());
            connections.spawn(async move {
                serve_one(socket, tls, app, limits, &stopping).await;
                drop(place);
            });
        }
    }
}

/// A client that breaks off, or is too slow, is no fault of the server.
async fn serve_one(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    app: Router,
    limits: ConnectionLimits,
    stopping: &CancellationToken,
) {
    // Answers are small, or sent in large pieces.
    drop(socket.set_nodelay(true));
    match tls {
        None => answer(socket, app, limits, stopping).await,
        Some(tls) => match timeout(limits.for_headers, tls.accept(socket)).await {
            Ok(Ok(socket)) => answer(socket, app, limits, stopping).await,
            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            Err(_) => tracing::debug!("a handshake took too long"),
        },
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: S,
    app: Router,
    limits: ConnectionLimits,
    stopping: &CancellationToken,
) {
    let socket = TokioIo::new(Impatient { socket, limit: limits.stalled, waits: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.for_headers)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers)
        .serve_connection(socket, TowerToHyperService::new(app));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was broken off");
    }
}

/// A socket that fails if its other end takes nothing for too long: what it was sent would be held for ever.
struct Impatient<S> {
    socket: S,
    limit: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let limit = self.limit;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(limit)));
        waits.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.socket).poll_shutdown(context);
        self.in_time(context, shut_down)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, pieces);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
