//! What a store answers when it refuses, kept with its type.
//!
//! object_store hides the status and the code of a refusal in text. This connector stands between it and the network
//! and turns each refusal into a [`Refusal`] in the error's chain of causes, so that decisions are made on codes and
//! never on text. It sees every request with its fresh signature, because object_store's own retries are off.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use serde::Deserialize;

use super::retry::RetryCause;
use super::store_error::Verdict;
use crate::error::ErrorKind;

/// How much of a refusal's body is read; codes and messages are short.
const REFUSAL_BYTES: usize = 64 << 10;

/// The longest message of a store that is passed on, in characters.
const MESSAGE_CHARACTERS: usize = 300;

/// Connects as object_store does, or over what a test has in place of a network, and watches the answers.
#[derive(Clone, Debug)]
pub(super) struct WatchedConnector(pub(super) Arc<dyn HttpConnector>);

impl Default for WatchedConnector {
    fn default() -> Self {
        Self(Arc::new(ReqwestConnector::default()))
    }
}

impl HttpConnector for WatchedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Watched(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Watched(HttpClient);

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = Asked::of(&request);
        let host = request.uri().authority().map(ToString::to_string);
        let response = self.0.execute(request).await.map_err(|error| asked.explain(error, host))?;
        let status = response.status().as_u16();
        let passing = status == 429 || status >= 500;
        // Without a signature it is a request for credentials, whose refusals object_store acts on itself.
        if passing || (asked.signed && status >= 300 && status != 304) {
            return Err(Refusal::read(status, response).await?.into());
        }
        if asked.completes && status == 200 {
            return checked_completion(response).await;
        }
        Ok(response)
    }
}

/// What matters of a request when its answer is judged.
#[derive(Clone, Copy)]
struct Asked {
    signed: bool,
    completes: bool,
    of_instance: bool,
}

impl Asked {
    fn of(request: &HttpRequest) -> Self {
        let uri = request.uri();
        Self {
            signed: request.headers().contains_key("authorization"),
            completes: request.method().as_str() == "POST"
                && uri.query().is_some_and(|query| query.contains("uploadId=")),
            // Link-local: the metadata service of the machine (AWS, IMDS).
            of_instance: uri.host().is_some_and(|host| host.starts_with("169.254.")),
        }
    }

    fn explain(self, error: HttpError, host: Option<String>) -> HttpError {
        if let Some(reason) = untrusted(&error) {
            return HttpError::new(HttpErrorKind::Unknown, Untrusted { host: host.unwrap_or_default(), reason });
        }
        let unreachable = matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout);
        match self.of_instance && unreachable {
            true => HttpError::new(HttpErrorKind::Unknown, NoCredentials),
            false => error,
        }
    }
}

/// A completion may fail after the store has answered 200: then the body is an error (S3, CompleteMultipartUpload).
async fn checked_completion(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = body.bytes().await?;
    match ErrorBody::parse(&body) {
        Some(error) => Err(Refusal::new(500, error, None).into()),
        None => Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body))),
    }
}

/// There is nobody to ask for credentials.
#[derive(Debug)]
struct NoCredentials;

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no credentials were given, and this machine has no metadata service that gives any")
    }
}

impl StdError for NoCredentials {}

/// The other end isn't who it should be.
#[derive(Debug)]
struct Untrusted {
    host: String,
    reason: String,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate of {} isn't trusted ({})", self.host, self.reason)
    }
}

impl StdError for Untrusted {}

/// Why a certificate wasn't accepted, if that is what an error comes from.
fn untrusted(error: &(dyn StdError + 'static)) -> Option<String> {
    chain(error).find_map(|link| {
        // An error of input and output doesn't give what it carries as its source, but the source of that.
        let carried = std::iter::successors(link.downcast_ref::<std::io::Error>(), |error| {
            error.get_ref()?.downcast_ref::<std::io::Error>()
        });
        let found = carried.last().and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
        match found.or_else(|| link.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(reason)) => Some(reason.to_string()),
            _ => None,
        }
    })
}

/// A store's refusal: status, code, message.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    code: String,
    message: String,
    region: Option<String>,
}

/// The body of a refusal, as S3, GCS (XML) and Azure send it.
#[derive(Deserialize)]
#[serde(rename = "Error", rename_all = "PascalCase")]
struct ErrorBody {
    code: String,
    #[serde(default)]
    message: String,
}

/// The same as services of AWS send it that have no XML of their own, such as STS.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: ErrorBody,
}

impl ErrorBody {
    fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        // An answer of another kind may have the same fields; only the root's name tells.
        if text.contains("<ErrorResponse") {
            return quick_xml::de::from_str::<ErrorResponse>(text).ok().map(|response| response.error);
        }
        text.contains("<Error").then(|| quick_xml::de::from_str(text).ok()).flatten()
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        Self::new(HttpErrorKind::Unknown, refusal)
    }
}

impl Refusal {
    async fn read(status: u16, response: HttpResponse) -> Result<Self, HttpError> {
        let (parts, body) = response.into_parts();
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (region, code) = (header("x-amz-bucket-region"), header("x-ms-error-code"));
        let mut error = ErrorBody::parse(&beginning(body).await?)
            .unwrap_or(ErrorBody { code: String::new(), message: String::new() });
        if let Some(code) = code {
            error.code = code;
        }
        Ok(Self::new(status, error, region))
    }

    fn new(status: u16, error: ErrorBody, region: Option<String>) -> Self {
        // Line ends and what steers a terminal have no place in a log.
        let printable = |text: String| -> String {
            let letters = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
            letters.take(MESSAGE_CHARACTERS).collect()
        };
        Self { status, code: printable(error.code), message: printable(error.message), region }
    }

    #[cfg(feature = "s3")]
    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    #[cfg(feature = "s3")]
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn judge(&self) -> Verdict {
        if let Some(cause) = self.cause() {
            return Verdict::passing(cause, format!("the store answered {self}"));
        }
        let access = ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "TokenRefreshRequired"];
        match (self.status, self.code.as_str()) {
            (404, "NoSuchBucket" | "ContainerNotFound") => {
                Verdict::new(ErrorKind::NotFound, format!("the bucket isn't there ({self})"))
            }
            (404, "NoSuchUpload") => Verdict::new(ErrorKind::NotFound, "the upload is complete, aborted or never was"),
            (404, _) => Verdict::new(ErrorKind::NotFound, "there is no such object"),
            (401 | 403, _) => Verdict::new(ErrorKind::PermissionDenied, format!("the store refuses access ({self})")),
            (_, code) if access.contains(&code) => {
                Verdict::new(ErrorKind::PermissionDenied, format!("the store refuses access ({self})"))
            }
            (301..=308, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                Verdict::new(
                    ErrorKind::InvalidConfig,
                    format!("the bucket is in another region{} ({self})", self.in_region()),
                )
            }
            (412, _) | (409, "BlobAlreadyExists") => {
                Verdict::new(ErrorKind::AlreadyExists, "the object is already there")
            }
            (507, _) => Verdict::new(ErrorKind::OutOfSpace, format!("the store is full ({self})")),
            _ => Verdict::new(ErrorKind::Store, format!("the store refused ({self})")),
        }
    }

    /// Why it may be repeated (S3, "Error responses"; Azure, "Blob service error codes").
    fn cause(&self) -> Option<RetryCause> {
        match (self.status, self.code.as_str()) {
            (429 | 503, _)
            | (
                _,
                "SlowDown"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "TooManyRequests"
                | "ServerBusy",
            ) => Some(RetryCause::Throttled),
            (408, _) | (_, "RequestTimeout" | "OperationTimedOut") => Some(RetryCause::Timeout),
            // The bytes that came aren't those that were sent.
            (
                _,
                "BadDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody"
                | "Md5Mismatch",
            ) => Some(RetryCause::Connection),
            (_, "InternalError" | "OperationAborted" | "ConditionalRequestConflict") => Some(RetryCause::ServerError),
            (501 | 505 | 507, _) => None,
            (500.., _) => Some(RetryCause::ServerError),
            _ => None,
        }
    }

    fn in_region(&self) -> String {
        self.region.as_ref().map(|region| format!(", {region}")).unwrap_or_default()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl StdError for Refusal {}

/// A failure that was judged where it happened, by who knows more of it than the store's answer says.
#[cfg(feature = "s3")]
#[derive(Clone, Debug)]
pub(super) struct Judged {
    verdict: Verdict,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

#[cfg(feature = "s3")]
impl Judged {
    pub(super) const fn new(verdict: Verdict) -> Self {
        Self { verdict, source: None }
    }

    /// With what it comes from.
    pub(super) fn from(verdict: Verdict, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { verdict, source: Some(Arc::new(source)) }
    }
}

#[cfg(feature = "s3")]
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict.reason)
    }
}

#[cfg(feature = "s3")]
impl StdError for Judged {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Reads the beginning of a body.
async fn beginning(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    read_up_to(body, REFUSAL_BYTES).await.map(|(bytes, _)| bytes)
}

/// Reads a body up to a size, and tells whether it was whole.
pub(super) async fn read_up_to(body: HttpResponseBody, most_bytes: usize) -> Result<(Bytes, bool), HttpError> {
    let mut pieces = body.bytes_stream();
    let mut read = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        read.extend_from_slice(&piece?);
        if read.len() > most_bytes {
            return Ok((read.freeze(), false));
        }
    }
    Ok((read.freeze(), true))
}

/// The refusal in an error's chain of causes.
pub(super) fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refusal> {
    chain(error).find_map(|link| link.downcast_ref::<Refusal>())
}

/// What an error means, if it came from the network.
pub(super) fn judge(error: &(dyn StdError + 'static)) -> Option<Verdict> {
    #[cfg(feature = "s3")]
    if let Some(judged) = chain(error).find_map(|link| link.downcast_ref::<Judged>()) {
        return Some(judged.verdict.clone());
    }
    if let Some(refusal) = refusal(error) {
        return Some(refusal.judge());
    }
    if let Some(missing) = chain(error).find_map(|link| link.downcast_ref::<NoCredentials>()) {
        return Some(Verdict::new(ErrorKind::PermissionDenied, missing.to_string()));
    }
    if let Some(untrusted) = chain(error).find_map(|link| link.downcast_ref::<Untrusted>()) {
        return Some(Verdict::new(ErrorKind::Store, untrusted.to_string()));
    }
    let failed = chain(error).find_map(|link| link.downcast_ref::<HttpError>())?;
    Some(match failed.kind() {
        HttpErrorKind::Timeout => Verdict::passing(RetryCause::Timeout, "the store gave no answer in time"),
        HttpErrorKind::Connect => Verdict::passing(RetryCause::Connection, "there is no connection to the store"),
        _ => Verdict::passing(RetryCause::Connection, "the connection to the store broke off"),
    })
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| <dyn StdError>::source(*error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Verdict {
        let error =
            ErrorBody::parse(body.as_bytes()).unwrap_or(ErrorBody { code: String::new(), message: String::new() });
        let refusal: HttpError = Refusal::new(status, error, None).into();
        judge(&object_store::Error::Generic { store: "S3", source: Box::new(refusal) }).unwrap()
    }

    fn code(status: u16, code: &str) -> Verdict {
        refused(
            status,
            &format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>Why &amp; so</Message><Extra/></Error>"
            ),
        )
    }

    #[test]
    fn a_refusal_is_judged_by_its_code() {
        for (status, name, cause) in [
            (503, "SlowDown", RetryCause::Throttled),
            (429, "", RetryCause::Throttled),
            (503, "ServiceUnavailable", RetryCause::Throttled),
            (500, "InternalError", RetryCause::ServerError),
            (502, "", RetryCause::ServerError),
            (400, "RequestTimeout", RetryCause::Timeout),
            (400, "BadDigest", RetryCause::Connection),
            (409, "OperationAborted", RetryCause::ServerError),
        ] {
            assert_eq!(code(status, name).cause, Some(cause), "{status} {name}");
        }
        for (status, name, kind) in [
            (404, "NoSuchBucket", ErrorKind::NotFound),
            (404, "NoSuchUpload", ErrorKind::NotFound),
            (403, "SignatureDoesNotMatch", ErrorKind::PermissionDenied),
            (401, "", ErrorKind::PermissionDenied),
            (400, "ExpiredToken", ErrorKind::PermissionDenied),
            (301, "PermanentRedirect", ErrorKind::InvalidConfig),
            (412, "PreconditionFailed", ErrorKind::AlreadyExists),
            (501, "NotImplemented", ErrorKind::Store),
            (507, "", ErrorKind::OutOfSpace),
            (400, "EntityTooSmall", ErrorKind::Store),
        ] {
            let verdict = code(status, name);
            assert_eq!((verdict.kind, verdict.cause), (kind, None), "{status} {name}");
        }
    }

    #[test]
    fn a_refusal_tells_code_and_message() {
        assert_eq!(code(403, "AccessDenied").reason, "the store refuses access (403 AccessDenied: Why & so)");
    }

    #[test]
    fn a_body_that_is_no_error_is_none() {
        for body in ["", "<Error>", "<Other><Code>x</Code></Other>", "<CompleteMultipartUploadResult/>", "\u{fffd}"] {
            assert!(ErrorBody::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert_eq!(refused(502, "<html>Bad gateway</html>").reason, "the store answered 502");
    }
}
