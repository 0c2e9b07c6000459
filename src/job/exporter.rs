//! The exporter: source, destination and settings, ready to start jobs.

use std::sync::{Arc, OnceLock};

use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::config::Config;
use super::handle::{JobHandle, Shared};
use super::recorder::Recorder;
use super::resume::durable_bytes;
use super::run::{self, ResumeOptions};
use super::service::SkippedParameter;
use super::state::JobState;
use super::store::{JobRecord, JobStore};
use super::turns::{QueueKey, Turn, Turns};
use crate::cpu::CpuPool;
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;
use crate::request::{DatastoreId, ExportRequest, JobId, Level};
use crate::resource::reference::BaseUrls;
use crate::scope::for_no_system;
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
    turns: Turns,
    queue_key: QueueKey,
    store: Option<Arc<dyn JobStore>>,
    skipped: Vec<SkippedParameter>,
    context: serde_json::Value,
}

/// Where a job reads and writes, if not where its exporter does.
#[derive(Clone, Debug)]
pub struct JobPlaces {
    /// Where resources come from.
    pub source: Arc<dyn Source>,
    /// Where objects go.
    pub destination: Arc<dyn Destination>,
    /// The id of the data store, in the names of objects.
    pub datastore_id: DatastoreId,
    /// The source's own bases, for absolute references.
    pub base_urls: BaseUrls,
    /// Whether what was deleted since `_since` is told, if the source knows.
    pub report_deletions: bool,
    /// What was skipped of the request, for the error report.
    pub skipped: Vec<SkippedParameter>,
    /// What the job waits in line under.
    pub queue_key: QueueKey,
    /// What is kept in the record of the job.
    pub context: serde_json::Value,
}

/// Puts an exporter together.
#[derive(Debug, Default)]
#[must_use = "an exporter exists after build()"]
pub struct ExporterBuilder {
    source: Option<Arc<dyn Source>>,
    destination: Option<Arc<dyn Destination>>,
    config: Config,
    store: Option<Arc<dyn JobStore>>,
    context: serde_json::Value,
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

    /// Sets where jobs are kept, so that they survive this process; without it they don't.
    pub fn job_store(mut self, store: Arc<dyn JobStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets what is kept in the record of each job for whoever resumes it, such as the URIs of source and destination.
    pub fn context(mut self, context: serde_json::Value) -> Self {
        self.context = context;
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
            turns: Turns::new(self.config.jobs_at_once, self.config.jobs_at_once_of_key),
            queue_key: QueueKey::default(),
            config: Arc::new(self.config),
            jobs: TaskTracker::new(),
            store: self.store,
            skipped: Vec::new(),
            context: self.context,
        })
    }
}

impl Exporter {
    /// Begins to put an exporter together.
    pub fn builder() -> ExporterBuilder {
        ExporterBuilder::default()
    }

    /// The same exporter elsewhere: it has the settings, the CPU pool, the turns and the job store in common.
    #[must_use]
    pub fn at(&self, places: JobPlaces) -> Self {
        let JobPlaces { source, destination, datastore_id, base_urls, report_deletions, skipped, queue_key, context } =
            places;
        let (destination, datastore_id) = (Some(destination), Some(datastore_id));
        let config = Config { datastore_id, base_urls, report_deletions, ..Config::clone(&self.config) };
        Self { source, destination, config: Arc::new(config), skipped, queue_key, context, ..self.clone() }
    }

    /// Starts a job to the exporter's own destination once it is kept in the job store, if there is one.
    ///
    /// # Errors
    /// As of [`start`](Self::start), and when the job store can't be written to.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn submit(&self, request: ExportRequest) -> Result<JobHandle> {
        self.submit_as(new_job_id()?, request).await
    }

    /// The same under an id that was made before.
    pub(super) async fn submit_as(&self, id: JobId, request: ExportRequest) -> Result<JobHandle> {
        let shared = Arc::new(Shared::new(id));
        let mut job =
            self.job(request, self.own_destination()?, Arc::clone(&self.config), self.config.clock.now(), &shared)?;
        job.record().await?;
        self.stand_in_line(&mut job).await?;
        Ok(self.spawn(job, shared))
    }

    /// Starts a job to the exporter's own destination, on the current tokio runtime.
    ///
    /// # Errors
    /// When the exporter has no destination, or the request can only be empty at its level.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn start(&self, request: ExportRequest) -> Result<JobHandle> {
        self.start_to(request, self.own_destination()?)
    }

    fn own_destination(&self) -> Result<Arc<dyn Destination>> {
        self.destination.clone().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the exporter has no destination and the job names none")
        })
    }

    /// Starts a job to a destination of its own, on the current tokio runtime.
    ///
    /// # Errors
    /// When the request can only be empty at its level.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn start_to(&self, request: ExportRequest, destination: Arc<dyn Destination>) -> Result<JobHandle> {
        let shared = Arc::new(Shared::new(new_job_id()?));
        let job = self.job(request, destination, Arc::clone(&self.config), self.config.clock.now(), &shared)?;
        Ok(self.spawn(job, shared))
    }

    fn job(
        &self,
        request: ExportRequest,
        destination: Arc<dyn Destination>,
        config: Arc<Config>,
        submitted: Instant,
        shared: &Arc<Shared>,
    ) -> Result<run::Job> {
        if request.patients().is_some() && request.level() == &Level::System {
            return Err(for_no_system());
        }
        let compartment = Arc::clone(&config.compartment);
        let outside_level = request.outside_level(|resource_type| compartment.contains_type(resource_type))?;
        Ok(run::Job {
            source: Arc::clone(&self.source),
            destination,
            config,
            cpu: self.cpu.clone(),
            request,
            outside_level,
            skipped: self.skipped.clone(),
            shared: Arc::clone(shared),
            turn: None,
            submitted,
            store: self.store.clone(),
            context: self.context.clone(),
            recorder: OnceLock::new(),
            resume: None,
        })
    }

    /// How many patients a Group may have.
    pub(super) fn cohort_limit_patients(&self) -> usize {
        self.config.cohort_limit_patients
    }

    /// Number of jobs that wait under a key.
    pub(super) fn waiting(&self, key: &QueueKey) -> usize {
        self.turns.waiting(key)
    }

    /// Gives a job that is kept its place before anybody is told of it.
    async fn stand_in_line(&self, job: &mut run::Job) -> Result<()> {
        let turn = self.place();
        job.look_at_line(&turn).await?;
        job.turn = Some(turn);
        Ok(())
    }

    fn place(&self) -> Turn {
        let is_let_in = !self.store.as_ref().is_some_and(|store| store.keeps_lines());
        self.turns.stand_in_line(&self.queue_key, is_let_in)
    }

    fn spawn(&self, mut job: run::Job, shared: Arc<Shared>) -> JobHandle {
        // Here, because tasks begin in any order.
        job.turn.get_or_insert_with(|| self.place());
        let span = tracing::info_span!("job", job = %shared.id, level = job.request.level().name());
        let task = self.jobs.spawn(job.run().instrument(span));
        JobHandle::new(shared, task)
    }

    /// Resumes a job of the exporter's job store, to the exporter's own destination.
    ///
    /// See [`resume_with`](Self::resume_with).
    ///
    /// # Errors
    /// As of [`resume_with`](Self::resume_with).
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn resume(&self, id: &JobId) -> Result<JobHandle> {
        self.resume_with(id, ResumeOptions::default()).await
    }

    /// Resumes a job that was interrupted, that failed with what can pass, or that was sealed, with the settings that it
    /// was begun with. What is durable of it is kept, and the rest is written as it would have been.
    ///
    /// The exporter must have the source and the destination that the job was begun with. Whether the source is what it
    /// was is found out when the job runs.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`]: there is no such job.
    /// - [`ErrorKind::Fenced`]: somebody else runs it.
    /// - [`ErrorKind::InvalidRequest`]: it is over, or its source or destination is another.
    /// - [`ErrorKind::LimitExceeded`]: it was resumed too often without anything becoming durable. It has failed for good.
    /// - Any other if the job store can't be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn resume_with(&self, id: &JobId, options: ResumeOptions) -> Result<JobHandle> {
        let (store, destination) = self.store_and_destination()?;
        let record = store.get(id).await?.ok_or_else(|| no_such_job(id))?;
        let claim = store
            .claim(id)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Fenced, "another process runs the job").with("job", id))?;
        // Whoever had it may have brought it to its end meanwhile.
        let mut record = store.get(id).await?.unwrap_or(record);
        if !record.is_unfinished() {
            let message = format!("the job is over: it is {}", record.state);
            return Err(Error::new(ErrorKind::InvalidRequest, message).with("job", id));
        }
        let config = Arc::new(record.settings.over(&self.config)?);
        let shared = Arc::new(Shared::new(id.clone()));
        let submitted = Instant::parse(&record.submitted).unwrap_or_else(|_| config.clock.now());
        let mut job = self.job(record.request()?, destination, Arc::clone(&config), submitted, &shared)?;
        job.resume = Some(options);
        self.check_same(&record, &job)?;
        let durable = durable_bytes(&store.entries(id).await?);
        record.begin_attempt(durable);
        let gives_up = record.fruitless_attempts > config.fruitless_attempts;
        let recorder = Recorder::new(store, claim, Arc::clone(&config.clock), record);
        if gives_up {
            return Err(give_up(&recorder, config.fruitless_attempts).await);
        }
        recorder.change(|record| (record.error, record.public_error) = (None, None)).await?;
        match recorder.heartbeat().await? {
            Some(wish) if options.heed_cancel => drop(shared.cancel(wish.on_cancel)),
            Some(_) => recorder.clear_cancel().await?,
            None => {}
        }
        // Only this job sets it, once.
        drop(job.recorder.set(Arc::new(recorder)));
        self.stand_in_line(&mut job).await?;
        Ok(self.spawn(job, shared))
    }

    pub(super) const fn store(&self) -> Option<&Arc<dyn JobStore>> {
        self.store.as_ref()
    }

    fn store_and_destination(&self) -> Result<(Arc<dyn JobStore>, Arc<dyn Destination>)> {
        let lacks = |what| Error::new(ErrorKind::InvalidConfig, format!("the exporter has no {what}"));
        let store = self.store.clone().ok_or_else(|| lacks("job store"))?;
        let destination = self.destination.clone().ok_or_else(|| lacks("destination"))?;
        Ok((store, destination))
    }

    fn check_same(&self, record: &JobRecord, job: &run::Job) -> Result<()> {
        let (source, manifest_url) = (self.source.name(), job.destination.url(&job.naming().manifest()?));
        for (what, was, is) in
            [("source", &record.source, &source), ("destination", &record.manifest_url, &manifest_url)]
        {
            if was != is {
                let message = format!("the job's {what} is another than the exporter's");
                let error = Error::new(ErrorKind::InvalidRequest, message);
                return Err(error.with("job", &record.id).with("was", was).with("is", is));
            }
        }
        Ok(())
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

fn no_such_job(id: &JobId) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such job").with("job", id)
}

/// Ends a job for good that gets nowhere.
async fn give_up(recorder: &Recorder, attempts: u32) -> Error {
    let message = format!("the job was resumed {attempts} times without anything becoming durable, and is given up");
    let error = Error::new(ErrorKind::LimitExceeded, message).with("job", recorder.record().id);
    let text = error.to_string();
    let recorded = recorder.change(|record| {
        record.state = JobState::Failed;
        record.resumable = false;
        record.error = Some(text);
        record.public_error = Some(error.kind().public_text().to_owned());
    });
    match recorded.await {
        Ok(()) => error,
        Err(unrecorded) => error.caused_by(unrecorded),
    }
}

/// A new job id: 32 lower-case hex digits, as HealthLake's are.
pub(super) fn new_job_id() -> Result<JobId> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Internal, "the system gives no random bytes").caused_by(error))?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    JobId::new(&id).map_err(|fault| Error::new(ErrorKind::Internal, fault.to_string()))
}
