//! Going on when the snapshot is lost and its source isn't.
//!
//! The range that was being read is read on from the cursor behind the last row that was handed over, in a snapshot that
//! is opened again, and those behind it as well. If it isn't the same snapshot, what is stamped after T by now counts as
//! superseded: the job goes on time-bounded. A cohort stays what it was. Its ids were given back when the first plan was
//! made, so its Groups are read again for the source to filter by them; if they don't name all of it any more, the source
//! filters nothing of it and the engine does.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;
use crate::resource::Compartment;
use crate::resource::reference::BaseUrls;
use crate::scope::{Cohort, list_again};
use crate::source::{Asked, Plan, Pushdown, Snapshot, Source};

/// How often in a row a source is opened again without a row being read in between.
const MOST_ATTEMPTS: u32 = 5;

/// The pause before it is opened for the second time; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What it takes to open the source again.
#[derive(Clone, Debug)]
pub(crate) struct Reopener {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) transaction_time: Instant,
    /// Without the cohort's ids, which were given back.
    pub(crate) asked: Asked,
    /// Whose data, of a Group.
    pub(crate) cohort: Option<KnownCohort>,
    /// What the source filters and isn't verified.
    pub(crate) believed: Pushdown,
    pub(crate) attempts: u32,
}

/// A cohort whose ids can be found again.
#[derive(Clone, Debug)]
pub(crate) struct KnownCohort {
    pub(crate) group_id: String,
    pub(crate) cohort: Arc<Cohort>,
    pub(crate) base_urls: BaseUrls,
    pub(crate) compartment: Arc<Compartment>,
}

/// A source that was opened again.
#[derive(Debug)]
pub(super) struct Reopened {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) plan: Plan,
    /// It is the snapshot that was lost.
    pub(super) is_same: bool,
}

impl Reopener {
    /// Opens the source again, because of this error.
    ///
    /// # Errors
    /// When it can't be opened, or what it was believed to filter isn't filtered any more.
    pub(super) async fn reopen(&mut self, mut lost: Error) -> Result<Reopened> {
        loop {
            self.attempts += 1;
            if self.attempts > MOST_ATTEMPTS {
                return Err(lost.with("opened again", MOST_ATTEMPTS));
            }
            if self.attempts > 1 {
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(self.attempts - 2)).await;
            }
            match self.try_reopen().await {
                Ok(reopened) => return self.check(reopened),
                Err(error) if error.is_retryable() || error.kind() == ErrorKind::SnapshotLost => lost = error,
                Err(error) => return Err(error.caused_by(lost)),
            }
        }
    }

    /// Rows came: the source can be read again.
    pub(super) const fn succeeded(&mut self) {
        self.attempts = 0;
    }

    async fn try_reopen(&self) -> Result<Reopened> {
        let snapshot: Arc<dyn Snapshot> = Arc::from(self.source.reopen(&self.transaction_time).await?);
        let plan = snapshot.plan(&self.asked_of(snapshot.as_ref()).await?).await?;
        let is_same = snapshot.transaction_time() == self.transaction_time;
        Ok(Reopened { snapshot, plan, is_same })
    }

    async fn asked_of(&self, snapshot: &dyn Snapshot) -> Result<Asked> {
        let mut asked = self.asked.clone();
        let Some(KnownCohort { group_id, cohort, base_urls, compartment }) = &self.cohort else { return Ok(asked) };
        match list_again(cohort, snapshot, group_id, &self.transaction_time, base_urls).await {
            Ok(ids) => asked.cohort = ids.map(|ids| Arc::new(ids.under(base_urls.clone(), compartment))),
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::SnapshotLost => return Err(error),
            // A Group that is gone or has become something else: its cohort is what it was.
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the source can't filter by the cohort any more")
            }
        }
        Ok(asked)
    }

    fn check(&self, reopened: Reopened) -> Result<Reopened> {
        let (believed, now) = (self.believed, reopened.plan.pushdown);
        let is_less = believed.types && !now.types || believed.times && !now.times || believed.cohort && !now.cohort;
        if is_less {
            let message = "the snapshot is lost, and what it filtered and nobody verifies isn't filtered in another; resume the job";
            return Err(Error::new(ErrorKind::SnapshotLost, message).with("source", self.source.name()));
        }
        Ok(reopened)
    }
}
