//! An S3 server in the test process, which checks signatures and keeps objects in a temporary folder.

use std::net::SocketAddr;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::proxy::Proxy;
use fhir_export::destination::s3::{S3Options, S3Uri};

pub(crate) const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET_KEY: &str = "wJalrEXAMPLEKEY";
pub(crate) const BUCKET: &str = "bench";

/// The server behind a recording proxy; both stop when it is dropped.
#[derive(Debug)]
pub(crate) struct S3Server {
    pub(crate) proxy: Proxy,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl S3Server {
    /// Starts a server with one bucket on a free port of the loopback interface.
    pub(crate) async fn start() -> Self {
        Self::start_over(None).await
    }

    /// The same over TLS, with a certificate of this authority.
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        Self::start_over(Some(authority.acceptor("127.0.0.1"))).await
    }

    pub(crate) async fn start_over(tls: Option<TlsAcceptor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, s3s_fs::FileSystem::new(folder.path()).unwrap()));
        let proxy = match tls {
            None => Proxy::start(address).await,
            Some(tls) => Proxy::start_tls(address, tls).await,
        };
        Self { proxy, folder, _tasks: tasks }
    }

    /// Options for the bucket, through the proxy, with the right key.
    pub(crate) fn options(&self, prefix: &str) -> S3Options {
        self.options_of(BUCKET, prefix).with_access_key(ACCESS_KEY, SECRET_KEY)
    }

    /// Options for a bucket, without a key.
    pub(crate) fn options_of(&self, bucket: &str, prefix: &str) -> S3Options {
        let uri = S3Uri::parse(&format!("s3://{bucket}/{prefix}")).unwrap();
        S3Options::new(uri).with_endpoint(format!("http://{}", self.address())).with_region("us-east-1")
    }

    /// Where clients connect to: the proxy.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// An object's bytes as the server keeps them.
    pub(crate) fn object(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(BUCKET).join(path)).ok()
    }

    /// The only manifest below a bucket and prefix.
    pub(crate) fn only_manifest(&self, prefix: &str) -> Vec<u8> {
        let folder = std::fs::read_dir(self.folder.path().join(prefix)).unwrap();
        let paths = folder.map(|entry| entry.unwrap().path());
        let manifests: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(".manifest.json")).collect();
        assert_eq!(manifests.len(), 1, "{manifests:?}");
        std::fs::read(&manifests[0]).unwrap()
    }

    /// Files of uploads that are neither complete nor aborted.
    pub(crate) fn left_open(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload")).collect()
    }
}

async fn serve(listener: TcpListener, files: s3s_fs::FileSystem) {
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        connections.spawn(async move {
            // A client that goes away is no fault of the server.
            drop(http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
        });
    }
}
