//! Where resources come from and where objects go: as arguments say, and as the record of a job keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::destination::open as destination;
use fhir_export::job::JobRecord;
use fhir_export::source::Source;
use fhir_export::source::open::{self as source, Password, whole_uri};
use serde::{Deserialize, Serialize};

use super::args::{RunArgs, StoreArgs};

/// The checksums of `--checksum`.
pub(crate) const CHECKSUMS: [(&str, destination::Checksum); 3] = [
    ("crc64nvme", destination::Checksum::Crc64Nvme),
    ("sha256", destination::Checksum::Sha256),
    ("none", destination::Checksum::Off),
];

/// Source and destination of a job, with all that it takes to open them but credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Places {
    pub(crate) source: String,
    pub(crate) to: String,
    scan_all: bool,
    lag_ms: Option<u64>,
    endpoint: Option<String>,
    region: Option<String>,
    ca_file: Option<PathBuf>,
    kms_key: Option<String>,
    checksum: Option<String>,
    /// Of the source, if it was typed.
    #[serde(skip)]
    password: Password,
}

impl Places {
    pub(crate) fn of(args: &RunArgs, lag: Option<Duration>) -> Self {
        let StoreArgs { endpoint, region, ca_file } = args.store.clone();
        Self {
            source: whole_uri(&args.source),
            to: whole_uri(&args.to),
            scan_all: args.request.scan_all,
            lag_ms: lag.and_then(|lag| u64::try_from(lag.as_millis()).ok()),
            endpoint,
            region,
            // Whoever resumes the job may be in another folder.
            ca_file: ca_file.map(|file| std::path::absolute(&file).unwrap_or_else(|_| file.into())),
            kms_key: args.kms_key.clone(),
            checksum: args.checksum.clone(),
            password: Password::of(&args.source),
        }
    }

    /// Those of a job; `None` if it was begun by a program that keeps something else with its jobs.
    pub(crate) fn of_record(record: &JobRecord) -> Option<Self> {
        serde_json::from_value(record.context.clone()).ok()
    }

    pub(crate) fn open_source(&self) -> fhir_export::Result<Arc<dyn Source>> {
        let settings = source::Settings {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            ca_file: self.ca_file.clone(),
            scan_all: self.scan_all,
            password: self.password.clone(),
            lag: self.lag_ms.map(Duration::from_millis),
        };
        source::from_uri(&self.source, &settings)
    }

    pub(crate) fn open_destination(&self) -> fhir_export::Result<destination::Opened> {
        let chosen = |text: &str| CHECKSUMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let settings = if is_s3(&self.to) {
            destination::Settings {
                endpoint: self.endpoint.clone(),
                region: self.region.clone(),
                ca_file: self.ca_file.clone(),
                kms_key: self.kms_key.clone(),
                checksum: self.checksum.as_deref().and_then(chosen).map(|(_, checksum)| *checksum),
                role: None,
            }
        } else {
            destination::Settings::default()
        };
        destination::from_uri(&self.to, &settings)
    }
}

pub(crate) fn is_postgres(uri: &str) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

pub(crate) fn is_s3(uri: &str) -> bool {
    uri.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3:"))
}
