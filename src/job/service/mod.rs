//! Jobs of several data stores, as servers start, show, cancel and delete them.
//!
//! A [`JobService`] knows data stores by their ids. It starts jobs for callers, keeps them in its job store before it
//! says so, shows them while they run and afterwards, and goes on with them after a restart. Who may ask for what is for
//! others to decide.

mod audit;
mod builder;
mod expiry;
mod file;
mod order;
mod places;
mod recovery;
mod running;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub use audit::{AuditEvents, AuditFile};
pub use builder::JobServiceBuilder;
pub use file::ExportedFile;
pub use order::{Order, Origin, SkippedParameter};
#[cfg(feature = "s3")]
pub use places::AssumedRoles;
pub use places::{AllowedOutputs, DataStore, NoOutputs, Outputs, OwnCredentials};
pub use view::JobView;

use self::expiry::Downloads;
use self::order::Kept;
use self::running::Running;
use super::config::OnCancel;
use super::exporter::{Exporter, JobPlaces, new_job_id};
use super::handle::JobHandle;
use super::store::{CancelWish, JobStore};
use super::sweep::{SweepOptions, sweep};
use crate::clock::Clock;
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{ExportRequest, JobId, Level};
use crate::scope::{PatientSet, ScopeOf};

/// Starts and shows jobs of several data stores.
#[derive(Clone, Debug)]
pub struct JobService(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exporter: Exporter,
    jobs: Arc<dyn JobStore>,
    data_stores: BTreeMap<String, DataStore>,
    outputs: Arc<dyn Outputs>,
    running: Running,
    downloads: Downloads,
    /// How long files are kept for download.
    files_lifetime: Duration,
    clock: Arc<dyn Clock>,
    /// What the ends of jobs are told to.
    audit_events: Option<Arc<dyn AuditEvents>>,
    /// Tasks that wait for the end of jobs.
    watchers: TaskTracker,
    /// Most jobs that may wait under one key.
    most_waiting: Option<usize>,
    /// One start at a time, so that a token that comes twice at once starts one job, and jobs run in the order in which
    /// they are kept.
    starting: tokio::sync::Mutex<()>,
}

impl JobService {
    /// Begins to put a service together.
    pub fn builder() -> JobServiceBuilder {
        JobServiceBuilder::default()
    }

    /// The data stores, by id.
    pub fn data_stores(&self) -> impl Iterator<Item = &DataStore> {
        self.0.data_stores.values()
    }

    /// The data store of an id.
    #[must_use]
    pub fn data_store(&self, id: &str) -> Option<&DataStore> {
        self.0.data_stores.get(id)
    }

    /// Starts a job. When this returns, the job is kept, and goes on after a restart.
    ///
    /// Asked for again with the same token, it gives the job that was started first.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`]: there is no such data store, or it holds no such Group.
    /// - [`ErrorKind::InvalidRequest`]: the request can only be empty, it names patients who aren't there, its output can't
    ///   be opened, or the same token was used for another request.
    /// - [`ErrorKind::Throttled`]: too many jobs wait already.
    /// - Any other if the source, the destination or the job store can't be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    ///
    /// # Cancellation
    /// The job isn't started, or it is started whole.
    pub async fn start(&self, datastore: &str, request: ExportRequest, order: &Order) -> Result<JobView> {
        let data_store = self.known(datastore)?;
        let kept = Kept::of(&data_store.id, &request, order);
        let id = new_job_id()?;
        let destination = self.destination(data_store, &kept, &id)?;
        self.look_for_patients(data_store, &request).await?;
        let service = self.clone();
        let started = self.0.watchers.spawn(async move { service.start_kept(id, request, &kept, destination).await });
        started.await.map_err(|error| Error::new(ErrorKind::Internal, "the start ended early").caused_by(error))?
    }

    async fn start_kept(
        &self,
        id: JobId,
        request: ExportRequest,
        kept: &Kept,
        destination: Arc<dyn Destination>,
    ) -> Result<JobView> {
        let data_store = self.known(&kept.datastore_id)?;
        let _one_at_a_time = self.0.starting.lock().await;
        if let Some(view) = self.started_before(kept).await? {
            return Ok(view);
        }
        self.look_for_room(data_store)?;
        let exporter = self.exporter_for(data_store, destination, kept)?;
        let handle = exporter.submit_as(id.clone(), request).await?;
        self.watch(handle);
        let record = self.0.jobs.get(&id).await?;
        match record.as_ref().map(JobView::of).transpose()?.flatten() {
            Some(view) => Ok(view),
            None => Err(Error::new(ErrorKind::Internal, "the job that was just started isn't kept").with("job", id)),
        }
    }

    /// A job of a data store; `None` if there is none, its caller has deleted it, or its time is over.
    ///
    /// # Errors
    /// When the job store can't be read.
    pub async fn describe(&self, datastore: &str, id: &JobId) -> Result<Option<JobView>> {
        if self.0.running.is_deleted(id) {
            return Ok(None);
        }
        let record = self.0.jobs.get(id).await?;
        let view = record.as_ref().map(JobView::of).transpose()?.flatten();
        let is_shown = |view: &JobView| view.datastore_id.as_str() == datastore && !self.has_expired(view);
        Ok(view.filter(is_shown).map(|view| self.as_of_now(view)))
    }

    /// The jobs of a data store, in the order in which they were submitted.
    ///
    /// # Errors
    /// When the job store can't be read.
    pub async fn list(&self, datastore: &str) -> Result<Vec<JobView>> {
        let records = self.0.jobs.list().await?;
        let views = records.iter().filter_map(|record| JobView::of(record).transpose());
        let views: Vec<JobView> = views.collect::<Result<_>>()?;
        let is_shown = |view: &JobView| {
            let is_gone = self.0.running.is_deleted(&view.id) || self.has_expired(view);
            view.datastore_id.as_str() == datastore && !is_gone
        };
        Ok(views.into_iter().filter(is_shown).map(|view| self.as_of_now(view)).collect())
    }

    /// Asks for the end of a job; `false` if it is over or was asked to end before.
    ///
    /// # Errors
    /// When the job store can't be used.
    pub async fn cancel(&self, view: &JobView, on_cancel: Option<OnCancel>) -> Result<bool> {
        if let Some(control) = self.0.running.get(&view.id) {
            return Ok(on_cancel.map_or_else(|| control.cancel(), |on_cancel| control.cancel_and(on_cancel)));
        }
        if !view.state.is_cancellable() {
            return Ok(false);
        }
        // Another server runs it, or it waits for one that goes on with it.
        self.0.jobs.ask_cancel(&view.id, CancelWish { on_cancel }).await?;
        Ok(true)
    }

    /// Removes a job with its files: at once if it is over, else when it has ended. Nobody sees it from now on.
    ///
    /// # Errors
    /// When the destination or the job store can't be used.
    pub async fn delete(&self, view: &JobView) -> Result<()> {
        match self.0.running.hide(&view.id) {
            Some(control) => {
                control.cancel_and(OnCancel::Discard);
                // Whoever finds the job after a crash removes it.
                let wish = CancelWish { on_cancel: Some(OnCancel::Discard) };
                match self.0.jobs.ask_cancel(&view.id, wish).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    asked => asked,
                }
            }
            None => self.remove(&view.id).await,
        }
    }

    /// Asks the job store for a job that it doesn't have.
    ///
    /// # Errors
    /// When the job store can't be read.
    pub async fn reach_job_store(&self) -> Result<()> {
        self.0.jobs.get(&new_job_id()?).await.map(drop)
    }

    /// Number of jobs that run or wait here.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.running.len()
    }

    /// Waits until no job of the service runs here any more.
    ///
    /// # Cancellation
    /// The jobs go on.
    pub async fn idle(&self) {
        self.0.watchers.close();
        self.0.watchers.wait().await;
        self.0.watchers.reopen();
    }

    fn known(&self, datastore: &str) -> Result<&DataStore> {
        self.data_store(datastore).ok_or_else(|| {
            let shown: String = datastore.chars().take(100).collect();
            Error::new(ErrorKind::NotFound, format!("there is no data store {shown:?}"))
        })
    }

    async fn started_before(&self, kept: &Kept) -> Result<Option<JobView>> {
        let Some(token) = &kept.client_token else { return Ok(None) };
        for record in self.0.jobs.list().await? {
            if !Kept::has_token(&record, token) {
                continue;
            }
            let Some(before) = Kept::of_record(&record) else { continue };
            // Another's token is another token.
            if before.datastore_id != kept.datastore_id || before.owner != kept.owner {
                continue;
            }
            if !before.is_same_order(kept) {
                let message = "the client token was used for another request before";
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
            return JobView::of(&record);
        }
        Ok(None)
    }

    fn destination(&self, data_store: &DataStore, kept: &Kept, job: &JobId) -> Result<Arc<dyn Destination>> {
        match kept.output()? {
            Some(output) => self.0.outputs.open(&output, kept.role()?.as_ref(), job),
            None => data_store
                .files
                .clone()
                .ok_or_else(|| Error::new(ErrorKind::InvalidRequest, "the data store keeps no output for download")),
        }
    }

    /// A Group or a patient that isn't there is told at once, and not by a job that fails.
    async fn look_for_patients(&self, data_store: &DataStore, request: &ExportRequest) -> Result<()> {
        if request.patients().is_none() && !matches!(request.level(), Level::Group { .. }) {
            return Ok(());
        }
        // Only who is asked for is the caller's matter.
        let cannot_open = |error: Error| error.with_kind(ErrorKind::Source);
        let snapshot = data_store.source.open().await.map_err(cannot_open)?;
        let (snapshot, base_urls) = (snapshot.as_ref(), &data_store.base_urls);
        let transaction_time = &snapshot.transaction_time();
        let asked = ScopeOf { request, snapshot, transaction_time, base_urls, is_new: true };
        let patients = PatientSet::new()?.with_limit(self.0.exporter.cohort_limit_patients());
        asked.resolve_into(patients).await.map(drop)
    }

    fn look_for_room(&self, data_store: &DataStore) -> Result<()> {
        let waiting = self.0.exporter.waiting(&data_store.queue_key);
        match self.0.most_waiting {
            Some(most) if waiting >= most => {
                let message = format!("{waiting} exports wait already, and no more are taken; ask again later");
                Err(Error::new(ErrorKind::Throttled, message).retryable(true))
            }
            _ => Ok(()),
        }
    }

    fn exporter_for(&self, data_store: &DataStore, destination: Arc<dyn Destination>, kept: &Kept) -> Result<Exporter> {
        Ok(self.0.exporter.at(JobPlaces {
            source: Arc::clone(&data_store.source),
            destination,
            datastore_id: data_store.id.clone(),
            base_urls: data_store.base_urls.clone(),
            // HealthLake's own exports tell of none (contract section 9.2).
            report_deletions: kept.origin == Origin::Profile,
            skipped: kept.skipped.clone(),
            queue_key: data_store.queue_key.clone(),
            context: kept.to_context()?,
        }))
    }

    /// Keeps a job in sight until it ends.
    fn watch(&self, handle: JobHandle) {
        let id = handle.id().clone();
        self.0.running.add(&id, handle.control());
        let service = self.clone();
        self.0.watchers.spawn(async move {
            let report = handle.join().await;
            if let Some(error) = &report.error {
                // Those who asked for it are told less.
                tracing::error!(job = %id, state = %report.state, error = format!("{error:#}"), "a job has failed");
            }
            service.tell_of_end(&id).await;
            if service.0.running.end(&id)
                && let Err(error) = service.remove(&id).await
            {
                tracing::warn!(job = %id, error = format!("{error:#}"), "a job that was deleted isn't removed");
            }
        });
    }

    async fn tell_of_end(&self, id: &JobId) {
        let Some(events) = &self.0.audit_events else { return };
        let view = self.0.jobs.get(id).await.and_then(|record| record.as_ref().map(JobView::of).transpose());
        match view {
            Ok(Some(Some(view))) => audit::tell(Arc::clone(events), &view).await,
            Ok(_) => {}
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(target: "audit", job = %id, error, "no AuditEvent of a job is kept: it can't be read");
            }
        }
    }

    async fn remove(&self, id: &JobId) -> Result<()> {
        let Some(record) = self.0.jobs.get(id).await? else { return Ok(()) };
        let Some(kept) = Kept::of_record(&record) else { return Ok(()) };
        let destination = self.destination(self.known(&kept.datastore_id)?, &kept, id)?;
        let options = SweepOptions::default().objects(true).record(true);
        sweep(self.0.jobs.as_ref(), destination.as_ref(), id, options).await.map(drop)
    }

    /// The record lags behind a job that runs here.
    fn as_of_now(&self, mut view: JobView) -> JobView {
        view.expires = self.expires(&view);
        if let Some(control) = self.0.running.get(&view.id) {
            let state = control.state();
            // Its end is what the record says, which has the manifest too.
            if !state.is_terminal() && !view.state.is_terminal() {
                view.state = state;
            }
            view.progress = Some(control.progress().borrow().clone());
        }
        view
    }
}
