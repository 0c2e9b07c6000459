//! The end of a job: its objects, its books, its manifest.

use std::convert::Infallible;
use std::future::Future;

use object_store::PutPayload;

use super::closing::Closed;
use super::config::OnCancel;
use super::manifest::Manifest;
use super::opening::Opened;
use super::report::JobReport;
use super::run::Job;
use super::service::SkippedParameter;
use super::state::JobState;
use super::tidy;
use crate::engine::{Ended, FannedOut};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Mark;
use crate::scope::Scope;
use crate::writer::{Ending, Entry, Journal, Leftover, Naming, ObjectName, ObjectOutcome, ObjectReport};

impl Job {
    /// Ends the objects, closes the books and writes the manifest.
    pub(super) async fn conclude(
        &self,
        opened: Opened,
        mut fanned_out: FannedOut,
        ran: Result<()>,
        before: Vec<(ObjectReport, Mark)>,
        naming: &Naming,
    ) -> Result<JobReport> {
        let ran = match ran {
            Ok(()) => self.report_request(&mut fanned_out, &opened).await,
            Err(error) => Err(error),
        };
        let ending = self.ending(ran.as_ref());
        let mut ended = self.end(fanned_out, ending).await;
        ended.outcomes.extend(before.into_iter().map(|(report, mark)| ObjectOutcome::Visible {
            accepted: report.count,
            report,
            mark: Box::new(mark),
        }));
        let mut closed = Closed::new(ended);
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
            None => self.succeed(&opened, closed, ending, naming).await,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_cancelled()
    }

    /// Adds to the error report what there is to be said of the request.
    async fn report_request(&self, fanned_out: &mut FannedOut, opened: &Opened) -> Result<()> {
        for SkippedParameter { parameter, why } in &self.skipped {
            fanned_out.inform_skipped(parameter, why).await?;
        }
        let level = self.request.level().name();
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
            // The fault of a job that is halted is with the courier.
            Err(error) => {
                let fault = self.shared.courier.get().and_then(|courier| courier.fault_kind());
                if self.keeps_after(fault.unwrap_or(error.kind())) { Ending::Keep } else { Ending::Discard }
            }
        }
    }

    /// Whether what is durable stays for another attempt.
    fn keeps_after(&self, kind: ErrorKind) -> bool {
        self.recorder.get().is_some() && (kind.may_be_resumed() || kind == ErrorKind::Fenced)
    }

    /// Whether the job can be resumed though it ended with this error.
    pub(super) fn may_resume_after(&self, error: &Error) -> bool {
        let Some(recorder) = self.recorder.get() else { return false };
        // Before the snapshot is opened there is nothing to go on with; a refusal to go on changes nothing.
        let has_begun = recorder.record().transaction_time.is_some();
        let kind = error.kind();
        has_begun && (kind.may_be_resumed() || kind == ErrorKind::SourceChanged) && !self.is_discarded()
    }

    async fn end(&self, fanned_out: FannedOut, ending: Ending) -> Ended {
        if ending == Ending::Discard {
            self.shared.stop.cancel();
        }
        let stop_requests = async {
            // By a cancellation, or by a fault, after which nothing more is sent.
            self.shared.halt.cancelled().await;
            if self.is_cancelled() {
                self.shared.become_state(JobState::CancelInProgress);
                if let Err(error) = self.record_state(JobState::CancelInProgress).await {
                    tracing::warn!(job = %self.id(), error = format!("{error:#}"), "the cancellation isn't recorded");
                }
                if self.on_cancel() == OnCancel::Seal {
                    tokio::time::sleep(self.config.seal_timeout).await;
                }
            }
            self.shared.stop.cancel();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            ended = fanned_out.end(ending) => ended,
            never = stop_requests => match never {},
        }
    }

    /// Ends a job that failed: what is durable stays for another attempt; if there can be none, nothing is left behind.
    async fn fail(&self, mut closed: Closed, error: Error, naming: &Naming) -> JobReport {
        self.shared.stop.cancel();
        let resumable = self.may_resume_after(&error);
        if error.kind() != ErrorKind::Fenced && !resumable {
            tidy::discard(&self.store(), naming, &mut closed).await;
        }
        JobReport { resumable, ..self.report(self.failed_state(), closed, Some(error), None) }
    }

    async fn succeed(&self, opened: &Opened, mut closed: Closed, ending: Ending, naming: &Naming) -> Result<JobReport> {
        let store = self.store();
        if ending == Ending::Discard {
            tidy::discard(&store, naming, &mut closed).await;
        } else {
            if self.is_cancelled() {
                let gone = tidy::seal(&store, &mut closed, ending == Ending::Finish).await;
                self.note_gone(gone).await;
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
        let state = self.final_state(&closed, opened);
        let manifest = self.manifest(opened, &closed, state);
        let key = naming.manifest()?;
        let payload = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::new(ErrorKind::Internal, "the manifest can't be written").caused_by(error))?;
        let was_gone = store.is_gone();
        if self.resume.is_some() {
            // That of the attempt before, which sealed the job or had no time to say that it was over.
            self.in_time(&store, self.destination.delete(&key)).await?;
        }
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
        report.resumable = self.recorder.get().is_some() && self.is_cancelled() && !self.is_discarded();
        Ok(report)
    }

    /// Notes that objects were removed.
    async fn note_gone(&self, gone: Vec<ObjectName>) {
        for object in gone {
            if let Some(recorder) = self.recorder.get()
                && let Err(error) = recorder.append(Entry::Gone { object }).await
            {
                // Whoever goes on will find that it isn't there.
                tracing::warn!(job = %self.id(), error = format!("{error:#}"), "a removed object isn't noted");
            }
        }
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
            let resumable = self.recorder.get().is_some();
            return JobReport { resumable, ..self.report(JobState::CancelFailed, closed, Some(error), None) };
        }
        self.fail(closed, error, naming).await
    }

    fn final_state(&self, closed: &Closed, opened: &Opened) -> JobState {
        match (self.is_cancelled(), closed.errors) {
            (true, _) if closed.leftovers.is_empty() => JobState::CancelCompleted,
            (true, _) => JobState::CancelFailed,
            (false, 0) if !opened.is_changed => JobState::Completed,
            (false, _) => JobState::CompletedWithErrors,
        }
    }

    pub(super) fn failed_state(&self) -> JobState {
        if self.is_cancelled() { JobState::CancelFailed } else { JobState::Failed }
    }

    pub(super) fn cancelled_before_reading(&self) -> JobReport {
        self.shared.become_state(JobState::CancelInProgress);
        let nothing = Closed::nothing();
        self.report(JobState::CancelCompleted, nothing, None, None)
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
            resumable: false,
        }
    }

    /// Moves the job's state to its last one, by way of the states between.
    pub(super) fn end_in(&self, state: JobState) {
        if matches!(state, JobState::CancelCompleted | JobState::CancelFailed) {
            self.shared.become_state(JobState::CancelInProgress);
        }
        if !self.shared.become_state(state) {
            // A cancel that came after the last look: the job was over already.
            self.shared.state.send_replace(state);
        }
    }
}
