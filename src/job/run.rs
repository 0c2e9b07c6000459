//! One job, from request to manifest.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::config::Config;
use super::handle::Shared;
use super::report::JobReport;
use super::state::JobState;
use crate::budget::Budget;
use crate::cpu::CpuPool;
use crate::destination::Destination;
use crate::engine::{Engine, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::filter::{AfterT, Filter, FilterParts};
use crate::request::{ExportRequest, JobId, Level, TypeSelection};
use crate::scope::{Scope, resolve_cohort};
use crate::source::{AfterTransactionTime, Asked, Plan, Snapshot, Source};
use crate::writer::{Courier, Naming, SpillArea, WriterSettings, Writers};

/// Name of the data store when the exporter has none.
const DEFAULT_DATASTORE_ID: &str = "00000000000000000000000000000000";

/// A job that is about to run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) source: Arc<dyn Source>,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) config: Arc<Config>,
    pub(super) cpu: CpuPool,
    pub(super) request: ExportRequest,
    /// Types that were asked for and are outside the level.
    pub(super) outside_level: Vec<ResourceType>,
    pub(super) shared: Arc<Shared>,
}

/// What was found out before the first line is read.
#[derive(Debug)]
pub(super) struct Opened {
    snapshot: Arc<dyn Snapshot>,
    pub(super) transaction_time: Instant,
    pub(super) scope: Scope,
    pub(super) plan: Plan,
}

impl Job {
    /// Runs the job to its end.
    pub(super) async fn run(self) -> JobReport {
        let submitted = self.config.clock.now();
        let report = match self.try_run(&submitted).await {
            Ok(report) => report,
            Err(error) => JobReport { state: self.failed_state(), ..JobReport::failed(self.id(), error) },
        };
        self.end_in(report.state);
        report
    }

    async fn try_run(&self, submitted: &Instant) -> Result<JobReport> {
        self.shared.become_state(JobState::InProgress);
        let naming = self.naming();
        let opened = match self.shared.halt.run_until_cancelled(self.open(&naming)).await {
            Some(opened) => opened?,
            // Nothing was written yet, so a job that is cancelled now has nothing to seal.
            None => return Ok(self.cancelled_before_reading()),
        };
        let (fanned_out, ran) = self.engine(&opened, &naming)?.run().await;
        self.conclude(opened, fanned_out, ran, &naming, submitted).await
    }

    pub(super) fn id(&self) -> &JobId {
        &self.shared.id
    }

    fn naming(&self) -> Naming {
        let datastore_id = self.config.datastore_id.as_ref().map_or(DEFAULT_DATASTORE_ID, |id| id.as_str());
        Naming::new(self.config.layout, datastore_id, self.id().as_str(), self.config.compression.suffix())
    }

    async fn open(&self, naming: &Naming) -> Result<Opened> {
        self.refuse_existing(naming).await?;
        let snapshot: Arc<dyn Snapshot> = Arc::from(self.source.open().await?);
        let transaction_time = snapshot.transaction_time();
        let scope = self.scope(snapshot.as_ref(), &transaction_time).await?;
        let asked = Asked {
            types: self.asked_types(),
            since: self.request.since().cloned(),
            until: self.request.until().cloned(),
        };
        let plan = snapshot.plan(&asked).await?;
        Ok(Opened { snapshot, transaction_time, scope, plan })
    }

    /// A job writes into a folder of its own: what is there already is somebody else's.
    async fn refuse_existing(&self, naming: &Naming) -> Result<()> {
        let manifest = naming.manifest()?;
        let exists = |what: String| {
            Err(Error::new(ErrorKind::AlreadyExists, "the destination already holds an export").with("object", what))
        };
        if self.destination.size_bytes(&manifest).await?.is_some() {
            return exists(self.destination.url(&manifest));
        }
        let folder = naming.folder();
        let existing = self.destination.list(&folder).await?;
        let suffix = self.config.compression.suffix();
        match existing.into_iter().find(|object| !folder.is_empty() || object.key.as_str().ends_with(suffix)) {
            Some(object) => exists(self.destination.url(&object.key)),
            None => Ok(()),
        }
    }

    async fn scope(&self, snapshot: &dyn Snapshot, transaction_time: &Instant) -> Result<Scope> {
        match self.request.level() {
            Level::System => Ok(Scope::Everything),
            Level::Patient => Ok(Scope::AnyPatient),
            Level::Group { id } => {
                let cohort = resolve_cohort(snapshot, id.as_str(), transaction_time, &self.config.base_urls).await?;
                Ok(Scope::Cohort(Arc::new(cohort)))
            }
        }
    }

    pub(super) fn asked_types(&self) -> Option<BTreeSet<ResourceType>> {
        match self.request.types() {
            TypeSelection::All => None,
            TypeSelection::Only(types) => Some(types.iter().cloned().collect()),
        }
    }

    fn engine(&self, opened: &Opened, naming: &Naming) -> Result<Engine> {
        let budget = Budget::new(self.config.budget_bytes)?;
        let courier = Arc::new(Courier::new(
            Arc::clone(&self.destination),
            budget.flight.clone(),
            self.shared.halt.clone(),
            self.shared.stop.clone(),
            self.shared.cancelled.clone(),
            self.config.closing_timeout,
        ));
        // Only this job sets it, once.
        drop(self.shared.courier.set(Arc::clone(&courier)));
        let capabilities = self.destination.capabilities();
        let settings = WriterSettings {
            compression: self.config.compression,
            member_bytes: self.config.member_bytes(),
            part_sizing: self.config.part_sizing(),
            min_part_bytes: capabilities.min_part_bytes,
            max_parts: capabilities.max_parts,
            split: self.config.split,
            spill: SpillArea::new(self.config.spill_folder.clone(), self.config.spill_limit_bytes),
        };
        Ok(Engine {
            snapshot: Arc::clone(&opened.snapshot),
            ranges: opened.plan.ranges.clone(),
            filter: self.filter(opened),
            writers: Writers::new(settings, naming.clone(), &budget, self.cpu.clone(), courier),
            budget,
            cpu: self.cpu.clone(),
            limits: Limits {
                block_bytes: self.config.block_bytes,
                line_limit_bytes: self.config.line_limit_bytes(),
                read_ahead: self.config.read_ahead,
            },
            validation: self.config.validation,
            on_bad: self.config.on_bad,
            halt: self.shared.halt.clone(),
            progress: self.shared.progress.clone(),
        })
    }

    fn filter(&self, opened: &Opened) -> Filter {
        Filter::new(FilterParts {
            types: self.asked_types(),
            since: self.request.since().cloned(),
            until: self.request.until().cloned(),
            transaction_time: opened.transaction_time.clone(),
            after_t: match opened.snapshot.after_transaction_time() {
                AfterTransactionTime::Kept => AfterT::Count,
                AfterTransactionTime::Excluded => AfterT::Exclude,
            },
            scope: opened.scope.clone(),
            compartment: Arc::clone(&self.config.compartment),
            base_urls: self.config.base_urls.clone(),
            policy: self.config.policy.clone(),
        })
    }
}
