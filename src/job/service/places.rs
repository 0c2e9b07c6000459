//! Where a service's jobs read and write.

use std::fmt;
use std::sync::Arc;

use super::super::turns::QueueKey;
use crate::destination::Destination;
#[cfg(feature = "s3")]
use crate::destination::open::{AssumeRole, RoleSessions};
use crate::destination::open::{Settings, from_uri};
use crate::error::{Error, ErrorKind, Result};
use crate::request::{DatastoreId, JobId, OutputDataConfig, RoleArn, S3Uri};
use crate::resource::reference::BaseUrls;
use crate::source::Source;

/// One of a service's data stores.
#[derive(Clone, Debug)]
pub struct DataStore {
    pub(super) id: DatastoreId,
    pub(super) source: Arc<dyn Source>,
    pub(super) base_urls: BaseUrls,
    pub(super) files: Option<Arc<dyn Destination>>,
    pub(super) queue_key: QueueKey,
}

impl DataStore {
    /// A data store of this id, whose resources come from a source.
    #[must_use]
    pub fn new(id: DatastoreId, source: Arc<dyn Source>) -> Self {
        let queue_key = QueueKey { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
        Self { id, source, base_urls: BaseUrls::default(), files: None, queue_key }
    }

    /// Sets the source's own bases, for absolute references.
    #[must_use]
    pub fn base_urls(mut self, base_urls: BaseUrls) -> Self {
        self.base_urls = base_urls;
        self
    }

    /// Sets where the output of Bulk Data exports is kept for download; without it there are none.
    #[must_use]
    pub fn files(mut self, files: Arc<dyn Destination>) -> Self {
        self.files = Some(files);
        self
    }

    /// Sets the account and the Region that it belongs to: what its jobs wait in line under.
    #[must_use]
    pub fn queue_key(mut self, queue_key: QueueKey) -> Self {
        self.queue_key = queue_key;
        self
    }

    /// The account and the Region that it belongs to.
    #[must_use]
    pub const fn belongs_to(&self) -> &QueueKey {
        &self.queue_key
    }

    /// The ARN, by which policies name it (HealthLake contract section 7.1).
    #[must_use]
    pub fn arn(&self) -> String {
        let QueueKey { account, region } = &self.queue_key;
        format!("arn:aws:healthlake:{region}:{account}:datastore/fhir/{}", self.id)
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> &DatastoreId {
        &self.id
    }

    /// Whether it keeps output for download.
    #[must_use]
    pub const fn has_files(&self) -> bool {
        self.files.is_some()
    }
}

/// Opens the destinations that callers name.
///
/// A server decides here which buckets it writes to, and in whose name.
pub trait Outputs: fmt::Debug + Send + Sync {
    /// The destination for an output and a role, of a job. No request need be sent.
    ///
    /// # Errors
    /// When the server doesn't write there, or not in that role's name; the message is told to the caller.
    fn open(&self, output: &OutputDataConfig, role: Option<&RoleArn>, job: &JobId) -> Result<Arc<dyn Destination>>;
}

/// Writes wherever the server's own credentials may: what a role's ARN says is passed over.
#[derive(Clone, Debug, Default)]
pub struct OwnCredentials {
    /// How stores are reached. The key is that of the request.
    pub settings: Settings,
}

impl Outputs for OwnCredentials {
    fn open(&self, output: &OutputDataConfig, _: Option<&RoleArn>, _: &JobId) -> Result<Arc<dyn Destination>> {
        let kms_key = output.kms_key_id.as_ref().map(ToString::to_string);
        let settings = Settings { kms_key, ..self.settings.clone() };
        Ok(from_uri(output.s3_uri.as_str(), &settings)?.destination)
    }
}

/// Writes in the name of the role that the caller names, and of nobody else.
///
/// The role is assumed with the server's own credentials through STS; its sessions are named after the jobs. Its
/// credentials are used for that job's output only.
#[cfg(feature = "s3")]
#[derive(Clone, Debug, Default)]
pub struct AssumedRoles {
    /// How stores are reached. Key and role are those of the request.
    pub settings: Settings,
    /// How roles are assumed.
    pub sessions: RoleSessions,
}

#[cfg(feature = "s3")]
impl Outputs for AssumedRoles {
    fn open(&self, output: &OutputDataConfig, role: Option<&RoleArn>, job: &JobId) -> Result<Arc<dyn Destination>> {
        let Some(role) = role else {
            let message = "DataAccessRoleArn is missing: this server writes in its name only";
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        };
        let (role_arn, session_name) = (role.to_string(), job.to_string());
        let role = AssumeRole { role_arn, session_name, sessions: self.sessions.clone() };
        let kms_key = output.kms_key_id.as_ref().map(ToString::to_string);
        let settings = Settings { kms_key, role: Some(role), ..self.settings.clone() };
        Ok(from_uri(output.s3_uri.as_str(), &settings)?.destination)
    }
}

impl Outputs for Arc<dyn Outputs> {
    fn open(&self, output: &OutputDataConfig, role: Option<&RoleArn>, job: &JobId) -> Result<Arc<dyn Destination>> {
        self.as_ref().open(output, role, job)
    }
}

/// Lets callers write below some prefixes only.
#[derive(Debug)]
pub struct AllowedOutputs<O> {
    allowed: Vec<S3Uri>,
    outputs: O,
}

impl<O: Outputs> AllowedOutputs<O> {
    /// Takes the prefixes, none of which lets nobody write anywhere, and who opens what lies below one.
    pub fn new(allowed: impl IntoIterator<Item = S3Uri>, outputs: O) -> Self {
        Self { allowed: allowed.into_iter().collect(), outputs }
    }
}

impl<O: Outputs> Outputs for AllowedOutputs<O> {
    fn open(&self, output: &OutputDataConfig, role: Option<&RoleArn>, job: &JobId) -> Result<Arc<dyn Destination>> {
        if self.allowed.iter().any(|allowed| is_below(output.s3_uri.as_str(), allowed.as_str())) {
            return self.outputs.open(output, role, job);
        }
        // Which ones are allowed is nobody's business.
        let message = "OutputDataConfig.S3Configuration.S3Uri is nowhere that this server writes to";
        Err(Error::new(ErrorKind::InvalidRequest, message))
    }
}

/// Whether a URI is a prefix's own, or lies in the folder that it names. Steps up the tree, whatever a store makes of
/// them, lead nowhere.
fn is_below(uri: &str, prefix: &str) -> bool {
    let has_steps = uri.split('/').any(|part| matches!(part, "." | ".."));
    let rest = uri.strip_prefix(prefix.trim_end_matches('/'));
    !has_steps && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Writes nowhere that a caller names: for servers with Bulk Data exports only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOutputs;

impl Outputs for NoOutputs {
    fn open(&self, _: &OutputDataConfig, _: Option<&RoleArn>, _: &JobId) -> Result<Arc<dyn Destination>> {
        let message = "this server writes to no store of the caller's";
        Err(Error::new(ErrorKind::InvalidRequest, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_prefix_is_allowed() {
        for (uri, prefix, expected) in [
            ("s3://bucket/exports", "s3://bucket/exports", true),
            ("s3://bucket/exports/", "s3://bucket/exports", true),
            ("s3://bucket/exports/a/b", "s3://bucket/exports/", true),
            ("s3://bucket", "s3://bucket/exports", false),
            ("s3://bucket/exports-of-others", "s3://bucket/exports", false),
            ("s3://bucket-of-others/exports", "s3://bucket", false),
            ("s3://bucket/exports/../secrets", "s3://bucket/exports", false),
            ("s3://bucket/exports/./a", "s3://bucket/exports", false),
            ("s3://bucket/a", "s3://bucket", true),
        ] {
            assert_eq!(is_below(uri, prefix), expected, "{uri} below {prefix}");
        }
    }
    #[cfg(feature = "s3")]
    #[test]
    fn a_server_that_assumes_roles_writes_in_nobody_elses_name() {
        let outputs = AllowedOutputs::new([S3Uri::new("s3://bucket/exports").unwrap()], AssumedRoles::default());
        let output = |uri: &str| OutputDataConfig { s3_uri: S3Uri::new(uri).unwrap(), kms_key_id: None };
        let role = RoleArn::new("arn:aws:iam::123456789012:role/Export").unwrap();
        let job = JobId::new("0123456789abcdef0123456789abcdef").unwrap();
        let refused = outputs.open(&output("s3://bucket/exports/a"), None, &job).unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidRequest && refused.message().contains("DataAccessRoleArn"));
        let refused = outputs.open(&output("s3://bucket/other"), Some(&role), &job).unwrap_err();
        assert!(refused.message().contains("nowhere that this server writes to"), "{refused}");
        assert!(outputs.open(&output("s3://bucket/exports/a"), Some(&role), &job).is_ok());
    }
}
