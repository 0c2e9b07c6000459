//! What a server does when it starts, and from time to time: go on with jobs that nobody runs any more.

use super::exporter::Exporter;
use super::handle::JobHandle;
use super::run::ResumeOptions;
use crate::error::{Error, ErrorKind, Result};

impl Exporter {
    /// Goes on with every job of the store that was interrupted and that nobody runs, in the order in which they were
    /// submitted.
    ///
    /// Jobs that failed or were cancelled are left to [`resume`](Self::resume). So are those of another source or
    /// destination, which are logged. Word of a cancellation that was left for a job is heeded.
    ///
    /// # Errors
    /// When the job store can't be used.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn recover(&self, options: ResumeOptions) -> Result<Vec<JobHandle>> {
        let store =
            self.store().ok_or_else(|| Error::new(ErrorKind::InvalidConfig, "the exporter has no job store"))?;
        let mut handles = Vec::new();
        for record in store.list().await? {
            if !record.is_interrupted() {
                continue;
            }
            match self.resume_with(&record.id, options.heed_cancel(true)).await {
                Ok(handle) => handles.push(handle),
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                Err(error) if error.kind() == ErrorKind::Store => return Err(error),
                Err(error) => {
                    tracing::warn!(job = %record.id, error = format!("{error:#}"), "the job isn't gone on with");
                }
            }
        }
        Ok(handles)
    }
}
