//! Keys of a job's objects.

use sha2::{Digest, Sha256};

use crate::destination::ObjectKey;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;

/// How the objects of a job are laid out below the destination's prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `<datastoreId>-FHIR_EXPORT-<jobId>/<Type>/<Type>-<n>-<shard>-<sequence>.ndjson`.
    /// Source: HealthLake contract, section 6.
    #[default]
    HealthLake,
    /// `<Type>.ndjson`, further sequences `<Type>.<sequence>.ndjson`.
    Flat,
}

/// What an object holds: resources of a type, what was deleted, or the job's error report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// Resources of one type.
    Resources(ResourceType),
    /// `OperationOutcome`s about what was quarantined or left out.
    Errors,
    /// Bundles that delete what isn't there any more.
    Deleted,
}

impl Content {
    /// The type of the resources in the object.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Resources(resource_type) => resource_type.as_str(),
            Self::Errors => "OperationOutcome",
            Self::Deleted => "Bundle",
        }
    }
}

/// Names the objects of one job.
#[derive(Clone, Debug)]
pub struct Naming {
    layout: Layout,
    datastore_id: String,
    job_id: String,
    suffix: &'static str,
}

impl Naming {
    /// Names objects of a job; `suffix` is `.ndjson` or `.ndjson.gz`.
    #[must_use]
    pub fn new(layout: Layout, datastore_id: &str, job_id: &str, suffix: &'static str) -> Self {
        Self { layout, datastore_id: datastore_id.to_owned(), job_id: job_id.to_owned(), suffix }
    }

    /// The job folder, with a slash at its end; empty in the flat layout.
    #[must_use]
    pub fn folder(&self) -> String {
        match self.layout {
            Layout::HealthLake => format!("{}/", self.stem()),
            Layout::Flat => String::new(),
        }
    }

    /// The key of the manifest, beside the job folder.
    ///
    /// # Errors
    /// When the ids don't make a key.
    pub fn manifest(&self) -> Result<ObjectKey> {
        match self.layout {
            Layout::HealthLake => key(format!("{}.manifest.json", self.stem())),
            Layout::Flat => key("manifest.json".to_owned()),
        }
    }

    /// The key of an object. One machine writes shard 0.
    ///
    /// # Errors
    /// When the ids don't make a key.
    pub fn object(&self, content: &Content, sequence: u32) -> Result<ObjectKey> {
        let (name, suffix) = (content.type_name(), self.suffix);
        match (self.layout, content) {
            (Layout::HealthLake, _) => {
                let number = self.number(content);
                key(format!("{}{name}/{name}-{number}-0-{sequence}{suffix}", self.folder()))
            }
            (Layout::Flat, Content::Errors) if sequence == 0 => key(format!("errors{suffix}")),
            (Layout::Flat, Content::Errors) => key(format!("errors.{sequence}{suffix}")),
            (Layout::Flat, Content::Deleted) if sequence == 0 => key(format!("deleted{suffix}")),
            (Layout::Flat, Content::Deleted) => key(format!("deleted.{sequence}{suffix}")),
            (Layout::Flat, Content::Resources(_)) if sequence == 0 => key(format!("{name}{suffix}")),
            (Layout::Flat, Content::Resources(_)) => key(format!("{name}.{sequence}{suffix}")),
        }
    }

    /// A stable non-negative number of job and content that fits a positive `i64`.
    fn number(&self, content: &Content) -> u64 {
        let mut hash = Sha256::new();
        let role = match content {
            Content::Resources(_) => "resources",
            Content::Errors => "errors",
            Content::Deleted => "deleted",
        };
        for part in [self.job_id.as_str(), role, content.type_name()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let first = digest.iter().take(8).fold(0u64, |number, &byte| (number << 8) | u64::from(byte));
        first >> 1
    }

    fn stem(&self) -> String {
        format!("{}-FHIR_EXPORT-{}", self.datastore_id, self.job_id)
    }
}

fn key(text: String) -> Result<ObjectKey> {
    ObjectKey::new(text.as_str()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, "the ids of data store and job don't make an object key").with("key", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient() -> Content {
        Content::Resources(ResourceType::r4("Patient").unwrap())
    }

    #[test]
    fn objects_lie_where_healthlake_lays_them() {
        let naming = Naming::new(Layout::HealthLake, "ds", "job", ".ndjson.gz");
        let key = naming.object(&patient(), 3).unwrap();
        let number = key.as_str().strip_prefix("ds-FHIR_EXPORT-job/Patient/Patient-").unwrap();
        let number = number.strip_suffix("-0-3.ndjson.gz").unwrap();
        assert!(number.parse::<i64>().is_ok_and(|number| number >= 0), "{number}");
        assert_eq!(naming.manifest().unwrap().as_str(), "ds-FHIR_EXPORT-job.manifest.json");
    }

    #[test]
    fn the_job_s_own_objects_never_meet_exported_resources_of_their_type() {
        for layout in [Layout::HealthLake, Layout::Flat] {
            let naming = Naming::new(layout, "ds", "job", ".ndjson");
            for own in [Content::Errors, Content::Deleted] {
                let exported = Content::Resources(ResourceType::r4(own.type_name()).unwrap());
                assert_ne!(naming.object(&own, 0).unwrap(), naming.object(&exported, 0).unwrap());
            }
        }
    }

    #[test]
    fn the_flat_layout_gives_plain_names() {
        let naming = Naming::new(Layout::Flat, "ds", "job", ".ndjson");
        assert_eq!(naming.object(&patient(), 0).unwrap().as_str(), "Patient.ndjson");
        assert_eq!(naming.object(&patient(), 2).unwrap().as_str(), "Patient.2.ndjson");
    }

    #[test]
    fn an_id_with_a_slash_makes_no_key() {
        assert!(Naming::new(Layout::HealthLake, "a/../b", "job", ".ndjson").manifest().is_err());
    }
}
