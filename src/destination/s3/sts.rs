//! AssumeRole of AWS's Security Token Service.
//!
//! It is one signed POST. The SDK's client for it (`aws-sdk-sts`) would bring thirty crates, among them a second HTTP
//! client with certificate authorities, proxies and timeouts of its own; this goes the way of every other request to the
//! store, is signed by object_store, and is read with limits.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::destination::answer::{self, Judged, read_up_to};
use crate::destination::open::AssumeRole;
use crate::destination::retry::RetryCause;
use crate::destination::store_error::Verdict;
use crate::error::ErrorKind;

/// The largest answer: a token of a session has some kilobytes.
const ANSWER_BYTES: usize = 64 << 10;

/// The most bytes of a token: a header of S3 holds no more.
const TOKEN_BYTES: usize = 16 << 10;

/// How long an answer is waited for.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a form leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Credentials that were given for a time.
pub(super) struct Session {
    pub(super) credential: AwsCredential,
    /// How long they are good for, by the clock of who gave them.
    pub(super) life: Duration,
}

impl fmt::Debug for Session {
    // The credentials are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("life", &self.life).finish_non_exhaustive()
    }
}

/// Where roles are assumed, by whom, and which one.
pub(super) struct Sts {
    pub(super) client: HttpClient,
    pub(super) endpoint: String,
    pub(super) region: String,
    /// The server's own credentials.
    pub(super) own: AwsCredentialProvider,
    pub(super) role: AssumeRole,
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sts").field("endpoint", &self.endpoint).field("role", &self.role).finish_non_exhaustive()
    }
}

/// The endpoint of a region (STS, "Service endpoints").
pub(super) fn regional_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://sts.{region}.amazonaws.com{suffix}")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResponse {
    assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

impl Sts {
    /// Asks for credentials. `now` is the time of day, for answers that don't tell their own.
    pub(super) async fn assume(&self, now: Duration) -> Result<Session, Judged> {
        let own = self.own.get_credential().await.map_err(|error| self.nobody(error))?;
        let mut request = HttpRequest::new(HttpRequestBody::from(self.form()));
        *request.method_mut() = object_store::signer::Method::POST;
        let endpoint = format!("{}/", self.endpoint.trim_end_matches('/'));
        *request.uri_mut() = endpoint.parse().map_err(|_| self.failed("its endpoint is no URL"))?;
        let form = object_store::HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert("content-type", form);
        let signed = AwsAuthorizer::new(&own, "sts", &self.region).try_authorize(&mut request, None);
        signed.map_err(|_| self.failed("the request can't be signed"))?;
        let response = self.client.execute(request).await.map_err(|error| self.refused(error))?;
        self.read(response, now).await
    }

    fn form(&self) -> String {
        let AssumeRole { role_arn, session_name, sessions } = &self.role;
        let seconds = sessions.session_seconds.map(|seconds| seconds.to_string());
        let pairs = [
            ("Action", Some("AssumeRole")),
            ("Version", Some("2011-06-15")),
            ("RoleArn", Some(role_arn)),
            ("RoleSessionName", Some(session_name)),
            ("DurationSeconds", seconds.as_deref()),
            ("ExternalId", sessions.external_id.as_deref()),
        ];
        let given = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let encoded: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, FORM))).collect();
        encoded.join("&")
    }

    async fn read(&self, response: HttpResponse, now: Duration) -> Result<Session, Judged> {
        let date = response.headers().get("date").and_then(|date| date_of(date.to_str().ok()?));
        let read = read_up_to(response.into_body(), ANSWER_BYTES).await.map_err(|error| self.refused(error))?;
        let (body, true) = read else { return Err(self.unreadable()) };
        // Why it can't be read stays untold: the reader may quote what it read.
        let text = std::str::from_utf8(&body).map_err(|_| self.unreadable())?;
        let answer: AssumeRoleResponse = quick_xml::de::from_str(text).map_err(|_| self.unreadable())?;
        let given = answer.assume_role_result.credentials;
        let expires: Timestamp = given.expiration.parse().map_err(|_| self.unreadable())?;
        let (key_id, secret_key, token) = (given.access_key_id, given.secret_access_key, given.session_token);
        // They become parts of headers.
        if ![&key_id, &secret_key, &token].into_iter().all(|text| is_visible(text)) {
            return Err(self.unreadable());
        }
        // A date of HTTP is cut to its second, so it may be later there than it says.
        let now = date.map_or(now, |date| since_epoch(date) + Duration::from_secs(1));
        let life = since_epoch(expires).saturating_sub(now);
        if life.is_zero() {
            return Err(self.failed("the credentials that STS gave are over already; is a clock wrong?"));
        }
        Ok(Session { credential: AwsCredential { key_id, secret_key, token: Some(token) }, life })
    }

    fn failed(&self, reason: impl fmt::Display) -> Judged {
        self.not_assumed(ErrorKind::Store, reason)
    }

    fn unreadable(&self) -> Judged {
        self.failed("the answer of STS can't be read")
    }

    fn not_assumed(&self, kind: ErrorKind, reason: impl fmt::Display) -> Judged {
        Judged::new(Verdict::new(kind, self.sentence(reason)))
    }

    fn sentence(&self, reason: impl fmt::Display) -> String {
        format!("the role {} can't be assumed: {reason}", self.role.role_arn)
    }

    /// That there was no answer in time.
    pub(super) fn late(&self) -> Judged {
        let reason = format!("STS at {} gave no answer in time", self.endpoint);
        Judged::new(Verdict::passing(RetryCause::Timeout, self.sentence(reason)))
    }

    /// There are no credentials to ask with.
    fn nobody(&self, error: object_store::Error) -> Judged {
        let verdict =
            answer::judge(&error).unwrap_or_else(|| Verdict::new(ErrorKind::PermissionDenied, "they can't be had"));
        let reason =
            self.sentence(format!("there are no credentials of this server's own to ask with: {}", verdict.reason));
        Judged::from(Verdict { reason, ..verdict }, error)
    }

    fn refused(&self, error: object_store::client::HttpError) -> Judged {
        let Some(refusal) = answer::refusal(&error) else { return self.unreachable(error) };
        let verdict = refusal.judge();
        if verdict.cause.is_some() {
            return Judged::new(Verdict { reason: self.sentence(format!("STS answered {refusal}")), ..verdict });
        }
        // Whatever is refused is mended by who looks after roles: the job may go on then, so its kind is always that of
        // a refusal.
        let why = match (refusal.status(), refusal.code()) {
            (
                _,
                "ExpiredToken"
                | "ExpiredTokenException"
                | "InvalidClientTokenId"
                | "SignatureDoesNotMatch"
                | "IncompleteSignature"
                | "MissingAuthenticationToken"
                | "UnrecognizedClientException"
                | "InvalidAccessKeyId",
            ) => format!("STS doesn't take this server's own credentials ({refusal})"),
            (401 | 403 | 404, _) | (_, "NoSuchEntity" | "AccessDenied") => format!(
                "STS refuses it ({refusal}); the role must be there, its trust policy must let this server's own \
                 principal do sts:AssumeRole{}, and that principal needs sts:AssumeRole on the role",
                if self.role.sessions.external_id.is_some() { " with the external id that is set here" } else { "" },
            ),
            _ => format!("STS refuses it ({refusal})"),
        };
        self.not_assumed(ErrorKind::PermissionDenied, why)
    }

    fn unreachable(&self, error: object_store::client::HttpError) -> Judged {
        if error.kind() == HttpErrorKind::Timeout {
            return self.late();
        }
        let verdict = answer::judge(&error).unwrap_or_else(|| Verdict::new(ErrorKind::Store, "it can't be asked"));
        let reason = match verdict.cause {
            Some(_) => self.sentence(format!("there is no connection to STS at {}", self.endpoint)),
            None => self.sentence(&verdict.reason),
        };
        Judged::from(Verdict { reason, ..verdict }, error)
    }
}

/// A date as headers have it.
fn date_of(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn since_epoch(time: Timestamp) -> Duration {
    time.duration_since(Timestamp::UNIX_EPOCH).try_into().unwrap_or_default()
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}
