//! What a caller may be allowed to do.

use std::fmt;

/// An action, by its name in IAM (contract section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// HealthLake's start over REST.
    StartExportWithPost,
    /// The profile's kick-off.
    StartExportWithGet,
    /// A look at a job over REST, with its manifest.
    DescribeExportWithGet,
    /// Cancelling a job, or removing one that is over.
    CancelExportWithDelete,
    /// The download of a file of the profile's export.
    GetExportedFile,
    /// The SDK's start.
    StartExport,
    /// The SDK's look at a job.
    DescribeExport,
    /// The SDK's list of jobs.
    ListExports,
    /// The SDK's look at a data store.
    DescribeDatastore,
    /// The SDK's list of data stores.
    ListDatastores,
    /// Handing a role to the service, which starting a job with one asks for too.
    PassRole,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 11] = [
        Self::StartExportWithPost,
        Self::StartExportWithGet,
        Self::DescribeExportWithGet,
        Self::CancelExportWithDelete,
        Self::GetExportedFile,
        Self::StartExport,
        Self::DescribeExport,
        Self::ListExports,
        Self::DescribeDatastore,
        Self::ListDatastores,
        Self::PassRole,
    ];

    /// The name in policies, with its service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartExportWithPost => "healthlake:StartFHIRExportJobWithPost",
            Self::StartExportWithGet => "healthlake:StartFHIRExportJobWithGet",
            Self::DescribeExportWithGet => "healthlake:DescribeFHIRExportJobWithGet",
            Self::CancelExportWithDelete => "healthlake:CancelFHIRExportJobWithDelete",
            Self::GetExportedFile => "healthlake:GetExportedFile",
            Self::StartExport => "healthlake:StartFHIRExportJob",
            Self::DescribeExport => "healthlake:DescribeFHIRExportJob",
            Self::ListExports => "healthlake:ListFHIRExportJobs",
            Self::DescribeDatastore => "healthlake:DescribeFHIRDatastore",
            Self::ListDatastores => "healthlake:ListFHIRDatastores",
            Self::PassRole => "iam:PassRole",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
