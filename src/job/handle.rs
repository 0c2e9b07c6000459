//! The handle of a job that was started.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::OnCancel;
use super::meter::Meter;
use super::report::JobReport;
use super::state::JobState;
use crate::engine::Progress;
use crate::error::{Error, ErrorKind};
use crate::ledger::Count;
use crate::metrics;
use crate::request::JobId;
use crate::writer::{Activity, Content, Courier};

/// A job that was started.
///
/// Dropping the handle changes nothing: the job goes on and ends by itself.
#[derive(Debug)]
pub struct JobHandle {
    shared: Arc<Shared>,
    task: JoinHandle<JobReport>,
}

/// Cancels and watches a job; can be cloned and outlive the handle.
#[derive(Clone, Debug)]
pub struct JobControl(Arc<Shared>);

/// What a job and those who watch it share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) id: JobId,
    pub(super) state: watch::Sender<JobState>,
    pub(super) progress: watch::Sender<Progress>,
    /// No more lines are taken.
    pub(super) halt: CancellationToken,
    /// No more requests are made.
    pub(super) stop: CancellationToken,
    /// The job was cancelled, whatever it does now.
    pub(super) cancelled: CancellationToken,
    pub(super) courier: OnceLock<Arc<Courier>>,
    pub(super) activity: Arc<Activity>,
    pub(super) meter: Meter,
    cancel: Mutex<Cancel>,
    /// What ended the job before it had anything to write with.
    early_fault: Mutex<Option<Error>>,
}

#[derive(Debug, Default)]
struct Cancel {
    asked_at: Option<Instant>,
    on_cancel: Option<OnCancel>,
    durable: BTreeMap<Content, Count>,
}

impl Shared {
    pub(super) fn new(id: JobId) -> Self {
        Self {
            id,
            state: watch::Sender::new(JobState::Submitted),
            progress: watch::Sender::new(Progress::default()),
            halt: CancellationToken::new(),
            stop: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            courier: OnceLock::new(),
            activity: Arc::default(),
            meter: Meter::default(),
            cancel: Mutex::default(),
            early_fault: Mutex::default(),
        }
    }

    /// Ends the job with an error that comes from beside its data.
    pub(super) fn fail(&self, error: Error) {
        match self.courier.get() {
            Some(courier) => courier.report(error),
            None => {
                self.early_fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.halt.cancel();
            }
        }
    }

    pub(super) fn take_early_fault(&self) -> Option<Error> {
        self.early_fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Moves to a state if the job may; tells whether it did.
    pub(super) fn become_state(&self, next: JobState) -> bool {
        let moved = self.state.send_if_modified(|state| {
            let may = state.may_become(next);
            if may {
                *state = next;
            }
            may
        });
        if moved
            && next == JobState::CancelInProgress
            && let Some(asked_at) = self.cancelled_at()
        {
            metrics::record(&metrics::CANCEL_SECONDS, &[], asked_at.elapsed().as_secs_f64());
        }
        moved
    }

    /// When the cancel was asked for.
    pub(super) fn cancelled_at(&self) -> Option<Instant> {
        self.lock().asked_at
    }

    pub(super) fn cancel(&self, on_cancel: Option<OnCancel>) -> bool {
        let mut cancel = self.lock();
        if !self.become_state(JobState::CancelSubmitted) {
            return false;
        }
        cancel.asked_at = Some(Instant::now());
        cancel.on_cancel = on_cancel;
        cancel.durable = self.courier.get().map(|courier| courier.durable_counts()).unwrap_or_default();
        self.cancelled.cancel();
        self.halt.cancel();
        true
    }

    /// Whether the job isn't expected to move: it waits for its turn, looks at its source, or is being cancelled.
    pub(super) fn is_idle(&self) -> bool {
        self.courier.get().is_none() || self.cancelled.is_cancelled()
    }

    /// What is to become of the objects, if the canceller said so.
    pub(super) fn on_cancel(&self) -> Option<OnCancel> {
        self.lock().on_cancel
    }

    /// What was durable when the cancel was asked for.
    pub(super) fn durable_at_cancel(&self) -> BTreeMap<Content, Count> {
        self.lock().durable.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Cancel> {
        self.cancel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobHandle {
    pub(super) const fn new(shared: Arc<Shared>, task: JoinHandle<JobReport>) -> Self {
        Self { shared, task }
    }

    /// The id of the job.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.shared.id
    }

    /// The state of the job now.
    #[must_use]
    pub fn state(&self) -> JobState {
        *self.shared.state.borrow()
    }

    /// How far the job is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress.borrow().clone()
    }

    /// Something to watch and cancel the job with while somebody joins it.
    #[must_use]
    pub fn control(&self) -> JobControl {
        JobControl(Arc::clone(&self.shared))
    }

    /// Asks for the job's end and returns at once; `false` if it is over or was asked to end before.
    ///
    /// No further line is read from now on. What becomes of the objects is the exporter's setting.
    pub fn cancel(&self) -> bool {
        self.shared.cancel(None)
    }

    /// Waits for the job's end.
    ///
    /// # Cancellation
    /// The job goes on, but its report is lost; watch it through [`control`](Self::control).
    pub async fn join(self) -> JobReport {
        match self.task.await {
            Ok(report) => report,
            Err(error) => {
                self.shared.state.send_replace(JobState::Failed);
                let error = Error::new(ErrorKind::Internal, "the job's task ended early").caused_by(error);
                JobReport::failed(&self.shared.id, error)
            }
        }
    }
}

impl JobControl {
    /// The state of the job now.
    #[must_use]
    pub fn state(&self) -> JobState {
        *self.0.state.borrow()
    }

    /// The states of the job as they come.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<JobState> {
        self.0.state.subscribe()
    }

    /// The progress of the job as it comes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// Asks for the job's end and returns at once; `false` if it is over or was asked to end before.
    pub fn cancel(&self) -> bool {
        self.0.cancel(None)
    }

    /// Like [`cancel`](Self::cancel), saying what becomes of the objects.
    pub fn cancel_and(&self, on_cancel: OnCancel) -> bool {
        self.0.cancel(Some(on_cancel))
    }

    /// Ends sealing at once: what isn't durable now is cut.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }
}
