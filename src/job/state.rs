//! States of a job and the moves between them.

use std::fmt;

/// The state of a job, as HealthLake names it. Source: HealthLake contract, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It was taken.
    Submitted,
    /// It waits for another job to end.
    Queued,
    /// It runs.
    InProgress,
    /// Everything is written.
    Completed,
    /// It ran to its end, but something couldn't be read or understood: the error report says what.
    CompletedWithErrors,
    /// It ended early; nothing of it is left in the store, or the report says what may be.
    Failed,
    /// It is to be cancelled.
    CancelSubmitted,
    /// Its objects are being sealed or discarded.
    CancelInProgress,
    /// It was cancelled; its objects are sealed or gone.
    CancelCompleted,
    /// It was cancelled, but the store didn't let all objects be sealed or removed: the report says which.
    CancelFailed,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Submitted,
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::CompletedWithErrors,
        Self::Failed,
        Self::CancelSubmitted,
        Self::CancelInProgress,
        Self::CancelCompleted,
        Self::CancelFailed,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Queued => "QUEUED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::CompletedWithErrors => "COMPLETED_WITH_ERRORS",
            Self::Failed => "FAILED",
            Self::CancelSubmitted => "CANCEL_SUBMITTED",
            Self::CancelInProgress => "CANCEL_IN_PROGRESS",
            Self::CancelCompleted => "CANCEL_COMPLETED",
            Self::CancelFailed => "CANCEL_FAILED",
        }
    }

    /// Whether the job is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::CompletedWithErrors | Self::Failed | Self::CancelCompleted | Self::CancelFailed
        )
    }

    /// Whether the job can be cancelled now.
    #[must_use]
    pub const fn is_cancellable(self) -> bool {
        matches!(self, Self::Submitted | Self::Queued | Self::InProgress)
    }

    /// Whether a job may move from this state to another.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Submitted => {
                matches!(next, Self::Queued | Self::InProgress | Self::Failed | Self::CancelSubmitted)
            }
            Self::Queued => matches!(next, Self::InProgress | Self::Failed | Self::CancelSubmitted),
            Self::InProgress => {
                matches!(next, Self::Completed | Self::CompletedWithErrors | Self::Failed | Self::CancelSubmitted)
            }
            Self::CancelSubmitted => matches!(next, Self::CancelInProgress),
            Self::CancelInProgress => matches!(next, Self::CancelCompleted | Self::CancelFailed),
            Self::Completed | Self::CompletedWithErrors | Self::Failed | Self::CancelCompleted | Self::CancelFailed => {
                false
            }
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_over_stays_so() {
        for state in JobState::ALL {
            let goes_on = JobState::ALL.into_iter().any(|next| state.may_become(next));
            assert_eq!(goes_on, !state.is_terminal(), "{state}");
        }
    }

    #[test]
    fn only_a_job_that_can_be_cancelled_becomes_cancel_submitted() {
        for state in JobState::ALL {
            assert_eq!(state.may_become(JobState::CancelSubmitted), state.is_cancellable(), "{state}");
        }
    }
}
