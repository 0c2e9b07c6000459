//! The exporter: source, destination and settings, ready to start jobs.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::config::Config;
use super::handle::{JobHandle, Shared};
use super::run;
use crate::cpu::CpuPool;
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{ExportRequest, JobId};
use crate::source::Source;

/// Exports from a source to a destination.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use fhir_export::destination::MemoryDestination;
/// use fhir_export::job::{Exporter, JobState};
/// use fhir_export::request::{ExportRequest, Level};
/// use fhir_export::source::memory::{MemoryRange, MemorySource};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let patients = MemoryRange::lines("patients", r#"{"resourceType":"Patient","id":"1"}"#);
/// let source = MemorySource::new().with(patients);
/// let exporter = Exporter::builder()
///     .source(Arc::new(source))
///     .destination(Arc::new(MemoryDestination::new()))
///     .build()?;
/// let report = exporter.start(ExportRequest::new(Level::System))?.join().await;
/// assert_eq!(report.state, JobState::Completed);
/// assert_eq!(report.manifest.unwrap().output[0].count, 1);
/// # Ok::<(), fhir_export::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Exporter {
    source: Arc<dyn Source>,
    destination: Option<Arc<dyn Destination>>,
    config: Arc<Config>,
    cpu: CpuPool,
    jobs: TaskTracker,
}

/// Puts an exporter together.
#[derive(Debug, Default)]
#[must_use = "an exporter exists after build()"]
pub struct ExporterBuilder {
    source: Option<Arc<dyn Source>>,
    destination: Option<Arc<dyn Destination>>,
    config: Config,
}

impl ExporterBuilder {
    /// Sets where resources come from.
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.source = Some(source);
        self
    }

    /// Sets where objects go unless a job says otherwise.
    pub fn destination(mut self, destination: Arc<dyn Destination>) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Sets everything else.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Builds the exporter and starts its CPU pool.
    ///
    /// # Errors
    /// When there is no source, or the settings don't fit together.
    pub fn build(self) -> Result<Exporter> {
        self.config.check()?;
        let Some(source) = self.source else {
            return Err(Error::new(ErrorKind::InvalidConfig, "an exporter needs a source"));
        };
        Ok(Exporter {
            source,
            destination: self.destination,
            cpu: CpuPool::new(self.config.threads)?,
            config: Arc::new(self.config),
            jobs: TaskTracker::new(),
        })
    }
}

impl Exporter {
    /// Begins to put an exporter together.
    pub fn builder() -> ExporterBuilder {
        ExporterBuilder::default()
    }

    /// Starts a job to the exporter's own destination, on the current tokio runtime.
    ///
    /// # Errors
    /// When the exporter has no destination, or the request can only be empty at its level.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn start(&self, request: ExportRequest) -> Result<JobHandle> {
        let destination = self.destination.clone().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the exporter has no destination and the job names none")
        })?;
        self.start_to(request, destination)
    }

    /// Starts a job to a destination of its own, on the current tokio runtime.
    ///
    /// # Errors
    /// When the request can only be empty at its level.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn start_to(&self, request: ExportRequest, destination: Arc<dyn Destination>) -> Result<JobHandle> {
        let compartment = Arc::clone(&self.config.compartment);
        let outside_level = request.outside_level(|resource_type| compartment.contains_type(resource_type))?;
        let shared = Arc::new(Shared::new(new_job_id()?));
        let job = run::Job {
            source: Arc::clone(&self.source),
            destination,
            config: Arc::clone(&self.config),
            cpu: self.cpu.clone(),
            request,
            outside_level,
            shared: Arc::clone(&shared),
        };
        let task = self.jobs.spawn(job.run());
        Ok(JobHandle::new(shared, task))
    }

    /// Waits until no job of this exporter runs any more.
    ///
    /// # Cancellation
    /// The jobs go on.
    pub async fn idle(&self) {
        self.jobs.close();
        self.jobs.wait().await;
        self.jobs.reopen();
    }
}

/// A new job id: 32 lower-case hex digits, as HealthLake's are.
fn new_job_id() -> Result<JobId> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Internal, "the system gives no random bytes").caused_by(error))?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    JobId::new(&id).map_err(|fault| Error::new(ErrorKind::Internal, fault.to_string()))
}
