//! One job, from request to manifest.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use object_store::PutPayload;

use super::closing::Closed;
use super::config::{Config, OnCancel};
use super::handle::Shared;
use super::manifest::{FORMAT_VERSION, LedgerEntry, Manifest, ManifestExtension, OutputFile, cohort_entry};
use super::report::JobReport;
use super::state::JobState;
use super::tidy;
use crate::budget::Budget;
use crate::cpu::CpuPool;
use crate::destination::Destination;
use crate::engine::{Engine, FannedOut, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::filter::{AfterT, Filter, FilterParts};
use crate::ledger::LedgerRow;
use crate::request::{ExportRequest, JobId, Level, TypeSelection};
use crate::scope::{Scope, resolve_cohort};
use crate::source::{AfterTransactionTime, Asked, Plan, Snapshot, Source};
use crate::writer::{Content, Courier, Ending, Leftover, Naming, SpillArea, WriterSettings, Writers};

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
struct Opened {
    snapshot: Arc<dyn Snapshot>,
    transaction_time: Instant,
    scope: Scope,
    plan: Plan,
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
            None => return self.cancelled_before_reading(submitted),
        };
        let (fanned_out, ran) = self.engine(&opened, &naming)?.run().await;
        self.conclude(opened, fanned_out, ran, &naming, submitted).await
    }

    fn id(&self) -> &JobId {
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

    fn asked_types(&self) -> Option<std::collections::BTreeSet<ResourceType>> {
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

    /// Ends the objects, closes the books and writes the manifest.
    async fn conclude(
        &self,
        opened: Opened,
        mut fanned_out: FannedOut,
        ran: Result<()>,
        naming: &Naming,
        submitted: &Instant,
    ) -> Result<JobReport> {
        let ran = match ran {
            Ok(()) => self.report_outside(&mut fanned_out, &opened).await,
            Err(error) => Err(error),
        };
        let ending = self.ending(ran.as_ref());
        let mut closed = Closed::new(self.end(fanned_out, ending).await);
        let ending = match ending {
            // It was cancelled when everything was read.
            Ending::Finish if self.is_discarded() => Ending::Discard,
            ending => ending,
        };
        let was_cancelled = self.is_cancelled() && ran.as_ref().err().is_none_or(Error::is_cancelled);
        // A fault of the store shows itself as a halted job.
        let fault = self.shared.courier.get().and_then(|courier| courier.take_fault());
        let error = match (fault, ran) {
            // What is sealed is whole, and what is discarded is gone, though a part on its way may have failed.
            (Some(fault), _) if was_cancelled && fault.kind() != ErrorKind::Fenced => {
                closed.error.get_or_insert(fault);
                None
            }
            (Some(fault), _) => Some(fault),
            (None, Err(error)) if !was_cancelled => Some(error),
            (None, Ok(()) | Err(_)) => None,
        };
        match error {
            Some(error) => Ok(self.fail(closed, error, naming).await),
            None => self.succeed(&opened, closed, ending, naming, submitted).await,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_cancelled()
    }

    async fn report_outside(&self, fanned_out: &mut FannedOut, opened: &Opened) -> Result<()> {
        let level = match self.request.level() {
            Level::System => "system",
            Level::Patient => "patient",
            Level::Group { .. } => "group",
        };
        for resource_type in &self.outside_level {
            fanned_out.inform_outside_level(resource_type, level).await?;
        }
        if let Scope::Cohort(cohort) = &opened.scope {
            for fault in cohort.report.faults() {
                fanned_out.report_cohort(&fault).await?;
            }
        }
        Ok(())
    }

    /// What becomes of the objects if the job is cancelled.
    fn on_cancel(&self) -> OnCancel {
        self.shared.on_cancel().unwrap_or(self.config.on_cancel)
    }

    fn is_discarded(&self) -> bool {
        self.is_cancelled() && self.on_cancel() == OnCancel::Discard
    }

    fn ending(&self, ran: Result<&(), &Error>) -> Ending {
        match ran {
            Ok(()) => Ending::Finish,
            Err(error) if error.is_cancelled() && self.is_cancelled() => match self.on_cancel() {
                OnCancel::Seal => Ending::Seal,
                OnCancel::Discard => Ending::Discard,
            },
            Err(_) => Ending::Discard,
        }
    }

    async fn end(&self, fanned_out: FannedOut, ending: Ending) -> crate::engine::Ended {
        if ending == Ending::Discard {
            self.shared.stop.cancel();
        }
        let seal_timeout = async {
            self.shared.cancelled.cancelled().await;
            self.shared.become_state(JobState::CancelInProgress);
            if self.on_cancel() == OnCancel::Seal {
                tokio::time::sleep(self.config.seal_timeout).await;
            }
            self.shared.stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = fanned_out.end(ending) => ended,
            () = seal_timeout => unreachable!("sealing only stops the requests"),
        }
    }

    /// Removes what the job wrote: a job that failed leaves nothing behind.
    async fn fail(&self, mut closed: Closed, error: Error, naming: &Naming) -> JobReport {
        self.shared.stop.cancel();
        if error.kind() != ErrorKind::Fenced {
            tidy::discard(&self.store(), naming, &mut closed).await;
        }
        let state = if self.is_cancelled() { JobState::CancelFailed } else { JobState::Failed };
        self.report(state, closed, Some(error), None)
    }

    async fn succeed(
        &self,
        opened: &Opened,
        mut closed: Closed,
        ending: Ending,
        naming: &Naming,
        submitted: &Instant,
    ) -> Result<JobReport> {
        let store = self.store();
        if ending == Ending::Discard {
            tidy::discard(&store, naming, &mut closed).await;
        } else {
            if self.is_cancelled() {
                tidy::seal(&store, &mut closed, ending == Ending::Finish).await;
            }
            tidy::abort_strays(&store, naming, &closed).await;
        }
        let folder = naming.folder();
        let checked = match closed.check() {
            Ok(()) if closed.leftovers.is_empty() => {
                self.in_time(&store, closed.check_store(self.destination.as_ref(), &folder)).await
            }
            checked => checked,
        };
        if let Err(error) = checked {
            return Ok(self.fail_at_last(closed, error, ending, naming).await);
        }
        if ending != Ending::Discard && self.is_discarded() {
            // It was cancelled in the meantime.
            tidy::discard(&store, naming, &mut closed).await;
        }
        let state = self.final_state(&closed);
        let manifest = self.manifest(opened, &closed, state, submitted);
        let key = naming.manifest()?;
        let payload = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::new(ErrorKind::Internal, "the manifest can't be written").caused_by(error))?;
        let was_gone = store.is_gone();
        if let Err(error) = self.in_time(&store, self.destination.put(&key, PutPayload::from(payload))).await {
            let error = error.with("object", &key);
            if !was_gone {
                // It may be stored all the same, if only the answer was lost.
                closed.leftovers.push(Leftover { key, upload_id: None });
            }
            return Ok(self.fail_at_last(closed, error, ending, naming).await);
        }
        let error = closed.error.take();
        let mut report = self.report(state, closed, error, Some(manifest));
        report.manifest_url = Some(self.destination.url(&key));
        Ok(report)
    }

    fn store(&self) -> tidy::Store<'_> {
        tidy::Store::new(self.destination.as_ref(), self.config.closing_timeout)
    }

    /// A cancelled job must end though the store doesn't answer; any other waits as long as its requests are retried.
    async fn in_time<T>(&self, store: &tidy::Store<'_>, request: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_cancelled() { store.ask(request).await } else { request.await }
    }

    /// Fails when all objects have ended: a cancelled job keeps those that are sealed, for they are whole.
    async fn fail_at_last(&self, closed: Closed, error: Error, ending: Ending, naming: &Naming) -> JobReport {
        if ending == Ending::Seal && error.kind() != ErrorKind::Unbalanced {
            return self.report(JobState::CancelFailed, closed, Some(error), None);
        }
        self.fail(closed, error, naming).await
    }

    fn final_state(&self, closed: &Closed) -> JobState {
        match (self.is_cancelled(), closed.errors) {
            (true, _) if closed.leftovers.is_empty() => JobState::CancelCompleted,
            (true, _) => JobState::CancelFailed,
            (false, 0) => JobState::Completed,
            (false, _) => JobState::CompletedWithErrors,
        }
    }

    fn failed_state(&self) -> JobState {
        if self.is_cancelled() { JobState::CancelFailed } else { JobState::Failed }
    }

    fn cancelled_before_reading(&self, _submitted: &Instant) -> Result<JobReport> {
        self.shared.become_state(JobState::CancelInProgress);
        let nothing = Closed::nothing();
        Ok(self.report(JobState::CancelCompleted, nothing, None, None))
    }

    fn report(&self, state: JobState, closed: Closed, error: Option<Error>, manifest: Option<Manifest>) -> JobReport {
        JobReport {
            job_id: self.id().clone(),
            state,
            error,
            manifest,
            manifest_url: None,
            ledger: closed.rows.into_iter().collect(),
            objects: closed.objects,
            leftovers: closed.leftovers,
        }
    }

    /// Moves the job's state to its last one, by way of the states between.
    fn end_in(&self, state: JobState) {
        if matches!(state, JobState::CancelCompleted | JobState::CancelFailed) {
            self.shared.become_state(JobState::CancelInProgress);
        }
        if !self.shared.become_state(state) {
            // A cancel that came after the last look: the job was over already.
            self.shared.state.send_replace(state);
        }
    }

    fn manifest(&self, opened: &Opened, closed: &Closed, state: JobState, submitted: &Instant) -> Manifest {
        let (mut output, mut error) = (Vec::new(), Vec::new());
        for object in &closed.objects {
            let file = OutputFile::new(object, self.destination.url(&object.key));
            match object.content {
                Content::Resources(_) => output.push(file),
                Content::Errors => error.push(file),
            }
        }
        let base = self.source.name();
        Manifest {
            transaction_time: opened.transaction_time.to_string(),
            request: format!(
                "{}/{}?{}",
                base.trim_end_matches('/'),
                self.request.level().operation_path(),
                self.request.normalised_query()
            ),
            requires_access_token: false,
            output,
            error,
            extension: ManifestExtension {
                format_version: FORMAT_VERSION,
                job_id: self.id().to_string(),
                job_status: state.to_string(),
                source: base,
                submit_time: submitted.to_string(),
                end_time: self.config.clock.now().to_string(),
                snapshot: "kept".to_owned(),
                ledger: self.ledger(closed),
                cohort: self.cohort(opened, closed),
                skipped: opened.plan.skipped.iter().map(|range| range.name.clone()).collect(),
                durable_at_cancel: self.durable_at_cancel(),
                warnings: warnings(opened, closed),
            },
        }
    }

    /// A row for each type that was met or asked for.
    fn ledger(&self, closed: &Closed) -> Vec<LedgerEntry> {
        let mut rows: BTreeMap<Option<ResourceType>, LedgerRow> = closed.rows.clone();
        for asked in self.asked_types().into_iter().flatten() {
            rows.entry(Some(asked)).or_default();
        }
        rows.iter().map(|(name, row)| LedgerEntry::new(name.as_ref().map(ResourceType::as_str), row)).collect()
    }

    fn cohort(&self, opened: &Opened, closed: &Closed) -> Option<serde_json::Value> {
        let Scope::Cohort(cohort) = &opened.scope else { return None };
        let mut report = cohort.report.clone();
        let sees_all_patients = matches!(self.request.types(), TypeSelection::All)
            && self.request.since().is_none()
            && self.request.until().is_none()
            && !self.is_cancelled();
        if sees_all_patients {
            let patients = closed.rows.get(&ResourceType::r4("Patient"));
            report.patients_found = Some(patients.map_or(0, |row| row.written.resources));
        }
        cohort_entry(&report)
    }

    fn durable_at_cancel(&self) -> Option<BTreeMap<String, super::manifest::CountEntry>> {
        if !self.is_cancelled() {
            return None;
        }
        let counts = self.shared.durable_at_cancel();
        let of_types = counts.into_iter().filter_map(|(content, count)| match content {
            Content::Resources(resource_type) => Some((resource_type.to_string(), count.into())),
            Content::Errors => None,
        });
        Some(of_types.collect())
    }
}

fn warnings(opened: &Opened, closed: &Closed) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Scope::Cohort(cohort) = &opened.scope {
        warnings.extend(cohort.report.warnings.iter().cloned());
    }
    for (resource_type, row) in &closed.rows {
        let Some(resource_type) = resource_type else { continue };
        if !resource_type.is_r4() {
            warnings.push(format!("{resource_type} is no resource type of R4"));
        }
        if row.notes.stamped_after_t > 0 {
            let count = row.notes.stamped_after_t;
            warnings.push(format!("{count} of {resource_type} are stamped after the transaction time"));
        }
    }
    warnings
}
