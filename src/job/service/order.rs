//! What a service keeps of a job besides what every job has: who asked for it, how, and for where.

use serde::{Deserialize, Serialize};

use super::super::store::JobRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{
    ClientToken, DatastoreId, ExportRequest, Faults, JobName, KmsKeyId, OutputDataConfig, RoleArn, S3Uri,
};

/// How a job was asked for. Status and deletion behave by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// HealthLake's REST operation: the output goes where the caller says.
    HealthLake,
    /// The SDK's `StartFHIRExportJob`: the same, at system level.
    Sdk,
    /// The Bulk Data profile: the output is kept for the caller, who downloads it.
    Profile,
}

/// How a job is asked for, besides the request itself.
#[derive(Clone, Debug)]
pub struct Order {
    /// By which operation.
    pub origin: Origin,
    /// The URL that was asked, without its body.
    pub request_url: String,
    /// The SDK's token: asked for again with the same one, a job isn't started twice.
    pub client_token: Option<ClientToken>,
    /// Whether the answer to a poll keeps the job's own status apart (Bulk Data, `Prefer: separate-export-status`).
    pub separate_status: bool,
    /// What was skipped of the request because the caller allowed it.
    pub skipped: Vec<SkippedParameter>,
    /// Who asks, if anybody was asked who he is.
    pub owner: Option<String>,
}

/// A parameter that was skipped because its caller allowed it. The job tells it in its error report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedParameter {
    /// Its name; empty of those that are only counted.
    pub parameter: String,
    /// Why, in a sentence that names it.
    pub why: String,
}

impl SkippedParameter {
    /// What a request was read without.
    #[must_use]
    pub fn all_of(ignored: &Faults) -> Vec<Self> {
        let each = ignored.iter().map(|fault| Self { parameter: fault.parameter().to_owned(), why: fault.to_string() });
        let others = ignored.not_kept();
        let counted =
            (others > 0).then(|| Self { parameter: String::new(), why: format!("and {others} parameters more") });
        each.chain(counted).collect()
    }
}

/// The same as it is kept in the record of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) origin: Origin,
    pub(super) datastore_id: String,
    pub(super) request_url: String,
    pub(super) client_token: Option<String>,
    pub(super) separate_status: bool,
    pub(super) skipped: Vec<SkippedParameter>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) owner: Option<String>,
    pub(super) job_name: Option<String>,
    pub(super) role_arn: Option<String>,
    pub(super) s3_uri: Option<String>,
    pub(super) kms_key_id: Option<String>,
    /// The request as a query: what a repeated token is compared by.
    pub(super) query: String,
}

impl Kept {
    pub(super) fn of(datastore_id: &DatastoreId, request: &ExportRequest, order: &Order) -> Self {
        let output = request.output();
        Self {
            origin: order.origin,
            datastore_id: datastore_id.to_string(),
            request_url: order.request_url.clone(),
            client_token: order.client_token.as_ref().map(ToString::to_string),
            separate_status: order.separate_status,
            skipped: order.skipped.clone(),
            owner: order.owner.clone(),
            job_name: request.job_name().map(ToString::to_string),
            role_arn: request.data_access_role_arn().map(ToString::to_string),
            s3_uri: output.map(|output| output.s3_uri.to_string()),
            kms_key_id: output.and_then(|output| output.kms_key_id.as_ref()).map(ToString::to_string),
            query: format!("{} {}", request.level(), request.normalised_query()),
        }
    }

    /// That of a job which a service started; `None` of any other.
    pub(super) fn of_record(record: &JobRecord) -> Option<Self> {
        serde_json::from_value(record.context.clone()).ok()
    }

    /// Whether a job was started with this token, told without reading the rest of what is kept.
    pub(super) fn has_token(record: &JobRecord, token: &str) -> bool {
        record.context.get("clientToken").and_then(serde_json::Value::as_str) == Some(token)
    }

    pub(super) fn to_context(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|error| Error::new(ErrorKind::Internal, "what is kept of a job can't be written").caused_by(error))
    }

    /// Where the output goes, if the caller said so.
    pub(super) fn output(&self) -> Result<Option<OutputDataConfig>> {
        let Some(uri) = &self.s3_uri else { return Ok(None) };
        let kms_key_id = self.kms_key_id.as_deref().map(KmsKeyId::new).transpose()?;
        Ok(Some(OutputDataConfig { s3_uri: S3Uri::new(uri)?, kms_key_id }))
    }

    pub(super) fn role(&self) -> Result<Option<RoleArn>> {
        Ok(self.role_arn.as_deref().map(RoleArn::new).transpose()?)
    }

    pub(super) fn job_name(&self) -> Option<JobName> {
        self.job_name.as_deref().and_then(|name| JobName::new(name).ok())
    }

    /// Whether it stands for the same order: all but the URL, which a proxy may change.
    pub(super) fn is_same_order(&self, other: &Self) -> bool {
        let bare = |kept: &Self| Self { request_url: String::new(), ..kept.clone() };
        bare(self) == bare(other)
    }
}
