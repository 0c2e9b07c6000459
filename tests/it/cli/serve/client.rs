//! A server that was started, and a client that asks it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::super::program::command;
use super::{PREFER, environment};
use crate::support::authority::Authority;

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Writes the file of the server, and gives its path.
pub(super) fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("serve.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server that runs; it is killed when it is dropped.
pub(super) struct Server {
    child: Child,
    /// What it said at its start.
    pub(super) said: Vec<String>,
    /// The bases of its data stores.
    pub(super) bases: Vec<String>,
    tls: Option<TlsConnector>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    #[cfg(feature = "testing")]
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Server {
    /// Starts a server with a state folder, and waits until it has said where it is.
    pub(super) fn start(arguments: &[&str], folder: &Path) -> Self {
        Self::start_with(arguments, folder, &[])
    }

    /// The same with more in its environment.
    pub(super) fn start_with(arguments: &[&str], folder: &Path, more: &[(&str, &str)]) -> Self {
        let mut command: Command = command(&["serve"]);
        command.args(arguments).arg("--state").arg(folder.join("state")).envs(environment()).envs(more.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines {
            let is_last = line.starts_with("cancel it:");
            said.push(line);
            if is_last {
                break;
            }
        }
        if said.is_empty() {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("the server didn't start: {why}");
        }
        let bases = said.iter().take_while(|line| !line.is_empty()).cloned().collect();
        Self { child, said, bases, tls: None }
    }

    /// Trusts an authority, for servers with TLS.
    pub(super) fn trust(&mut self, authority: &Authority) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.tls = Some(TlsConnector::from(Arc::new(config)));
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Scheme and address.
    pub(super) fn root(&self) -> String {
        self.bases[0].split("/datastore/").next().unwrap().to_owned()
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        self.root().split("//").nth(1).unwrap().to_owned()
    }

    pub(super) async fn get(&self, url: &str) -> Answer {
        self.ask("GET", url, &[], "").await
    }

    /// Asks over a connection of its own.
    pub(super) async fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let uri: Uri = url.parse().unwrap();
        let address = uri.authority().unwrap().to_string();
        let socket = TcpStream::connect(&address).await.unwrap();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path).header("host", &address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let asked = async {
            match &self.tls {
                Some(tls) if uri.scheme_str() == Some("https") => {
                    let name = ServerName::try_from(uri.host().unwrap().to_owned()).unwrap();
                    send(tls.connect(name, socket).await.unwrap(), request).await
                }
                _ => send(socket, request).await,
            }
        };
        tokio::time::timeout(HANGS_AFTER, asked).await.expect("an answer comes")
    }

    /// Starts an export of the profile and gives the URL of its job.
    pub(super) async fn kick_off(&self, base: &str, query: &str) -> String {
        let answer = self.ask("GET", &format!("{base}/$export{query}"), &[PREFER], "").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.header("content-location").to_owned()
    }

    /// Asks for a job until it is over.
    pub(super) async fn until_over(&self, job: &str) -> Answer {
        self.until(job, |answer| answer.status != StatusCode::ACCEPTED).await
    }

    pub(super) async fn until_state(&self, job: &str, state: &str) {
        let is_so = |answer: &Answer| {
            let now = &answer.json()["exportJobProperties"]["jobStatus"];
            assert!(answer.status == StatusCode::ACCEPTED, "{answer:?}");
            now == state
        };
        self.until(job, is_so).await;
    }

    async fn until(&self, job: &str, is_so: impl Fn(&Answer) -> bool + Sync) -> Answer {
        let polls = async {
            loop {
                let answer = self.get(job).await;
                if is_so(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(HANGS_AFTER, polls).await.expect("the job comes so far")
    }

    /// Reads what it says on stderr until this is in a line.
    #[cfg(feature = "testing")]
    pub(super) fn until_said(&mut self, text: &str) {
        let mut said = Vec::new();
        for line in BufReader::new(self.child.stderr.as_mut().unwrap()).lines().map_while(Result::ok) {
            if line.contains(text) {
                return;
            }
            said.push(line);
        }
        panic!("it ended without {text}: {said:?}");
    }

    /// Kills it with SIGKILL.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and gives the exit code and what it said on stderr.
    pub(super) fn terminate(mut self) -> (Option<i32>, String) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn send<S>(socket: S, request: Request<Full<Bytes>>) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let answer = async {
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    };
    let running = async {
        drop(connection.await);
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = running => match never {},
    }
}
