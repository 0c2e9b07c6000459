//! A strict S3 server as a process of its own: SeaweedFS with its STS, moto as its KMS, and moto as a second S3.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fhir_export::destination::s3::{S3Options, S3Uri};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector};

use super::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use super::script;

/// Where the servers are; they run as long as this process.
#[derive(Debug)]
pub(crate) struct StrictServer {
    /// SeaweedFS.
    pub(crate) s3: SocketAddr,
    /// moto.
    pub(crate) moto: SocketAddr,
    /// The id of a key that both know.
    pub(crate) kms_key: String,
    /// Holds the pipe open by which the servers see that they are still wanted.
    _script: Child,
}

/// The servers, which the first test that asks for them starts.
///
/// # Panics
/// When they can't be started: a test that can't run fails.
pub(crate) fn strict_server() -> &'static StrictServer {
    static SERVER: OnceLock<Result<StrictServer, String>> = OnceLock::new();
    SERVER.get_or_init(StrictServer::start).as_ref().unwrap_or_else(|error| {
        panic!(
            "the strict S3 server can't be started: {error}\nIt needs Python 3.9 or newer with venv and pip, and PyPI once. \
             To run all tests but these: cargo test --all-features -- --skip strict_s3"
        )
    })
}

impl StrictServer {
    fn start() -> Result<Self, String> {
        let (told, script) = script::start("strict_s3.py")?;
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let address = |name| text(name).strip_prefix("http://").unwrap().parse().unwrap();
        assert_eq!(text("bucket"), BUCKET);
        Ok(Self { s3: address("s3"), moto: address("moto"), kms_key: text("kmsKey"), _script: script })
    }
}

/// Options for the bucket of a server at an address, with the right key.
pub(crate) fn options(server: SocketAddr, prefix: &str) -> S3Options {
    let uri = S3Uri::parse(&format!("s3://{BUCKET}/{prefix}")).unwrap();
    let options = S3Options::new(uri).with_endpoint(format!("http://{server}")).with_region("us-east-1");
    options.with_access_key(ACCESS_KEY, SECRET_KEY)
}

/// A role of SeaweedFS's STS. `ExportRole` may write below `roles/`; nobody may assume `UntrustingRole`.
pub(crate) fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// How long the credentials of a role last there if no time is asked for.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// Sends a signed request without a body.
pub(crate) async fn send(server: SocketAddr, method: &str, target: &str) -> HttpResponse {
    let client: HttpClient = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).unwrap();
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("http://{server}/{BUCKET}{target}").parse().unwrap();
    let (key_id, secret_key) = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
    let credential = Arc::new(AwsCredential { key_id, secret_key, token: None });
    AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).unwrap();
    client.execute(request).await.unwrap()
}
