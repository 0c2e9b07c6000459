//! Where jobs are kept: a folder, or a database that servers share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fhir_export::job::{JobRecord, JobStore, SqliteJobStore};
use fhir_export::source::open::{Password, whole_uri};

use super::screen::{Screen, with_causes};

/// The store of a run or of a look at jobs.
pub(crate) type Store = Arc<dyn JobStore>;

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nowhere.
    Off,
    /// Where the system keeps such things; `None`: it doesn't say where.
    Usual(Option<PathBuf>),
    /// In this folder.
    Given(PathBuf),
    /// In a database.
    Shared {
        /// Without its password.
        uri: String,
        /// The one that was typed.
        password: Password,
    },
}

impl State {
    /// Of an export.
    pub(crate) fn of_run(given: Option<&str>, is_off: bool) -> Self {
        if is_off { Self::Off } else { Self::of(given) }
    }

    /// Of a look at the jobs.
    pub(crate) fn of(given: Option<&str>) -> Self {
        match given {
            Some(uri) if uri.starts_with("postgres:") || uri.starts_with("postgresql:") => {
                Self::Shared { uri: whole_uri(uri), password: Password::of(uri) }
            }
            Some(folder) => Self::Given(folder.into()),
            None => Self::Usual(usual(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))),
        }
    }

    /// That of a server: its jobs are its own, and no `resume` is to take them.
    pub(crate) fn of_server(self) -> Self {
        match self {
            Self::Usual(Some(folder)) => Self::Usual(Some(folder.join("serve"))),
            other => other,
        }
    }

    /// The folder, if there is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Given(folder) | Self::Usual(Some(folder)) => Some(folder),
            Self::Off | Self::Usual(None) | Self::Shared { .. } => None,
        }
    }

    /// Opens the store for an export. Where nobody has asked for one and none can be had, the job does without.
    ///
    /// # Errors
    /// When the folder that was named can't be used.
    pub(crate) fn open_for_run(&self, screen: &Screen) -> fhir_export::Result<Option<Store>> {
        let without = |why: &str| {
            screen.say(&format!("warning: the job can't be resumed: {why}"));
            Ok(None)
        };
        match self {
            Self::Off => Ok(None),
            Self::Given(folder) => SqliteJobStore::open(folder).map(|store| Some(Arc::new(store) as Store)),
            Self::Shared { uri, password } => shared(uri, password).map(Some),
            Self::Usual(None) => without("there is no home folder to keep it in; name one with --state"),
            Self::Usual(Some(folder)) => match SqliteJobStore::open(folder) {
                Ok(store) => Ok(Some(Arc::new(store))),
                Err(error) => without(&with_causes(&error)),
            },
        }
    }

    /// Opens the store to look for jobs.
    ///
    /// # Errors
    /// When it can't be used, or there is no folder to look in.
    fn open(&self) -> fhir_export::Result<Store> {
        match self {
            Self::Given(folder) | Self::Usual(Some(folder)) => {
                SqliteJobStore::open(folder).map(|store| Arc::new(store) as Store)
            }
            Self::Shared { uri, password } => shared(uri, password),
            Self::Off | Self::Usual(None) => {
                let message = "there is no home folder to look for jobs in; name one with --state";
                Err(fhir_export::Error::new(fhir_export::ErrorKind::InvalidConfig, message))
            }
        }
    }

    /// Opens the store, with the records of its jobs.
    ///
    /// # Errors
    /// As of [`open`](Self::open), and when the jobs can't be read.
    pub(crate) async fn look(&self) -> fhir_export::Result<(Store, Vec<JobRecord>)> {
        let store = self.open()?;
        let jobs = store.list().await?;
        Ok((store, jobs))
    }

    /// How the folder would have to be named again, with a blank before it; empty for the usual one.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Given(folder) => format!(" --state {}", folder.display()),
            Self::Shared { uri, .. } => format!(" --state '{uri}'"),
            Self::Off | Self::Usual(_) => String::new(),
        }
    }
}

#[cfg(feature = "postgres")]
fn shared(uri: &str, password: &Password) -> fhir_export::Result<Store> {
    let from_environment = std::env::var("PGPASSWORD").ok();
    let store = fhir_export::job::PostgresJobStore::open(password.uri(uri), from_environment.as_deref())?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "postgres"))]
fn shared(uri: &str, _: &Password) -> fhir_export::Result<Store> {
    let message = "this build can't keep jobs there: it was built without the feature postgres";
    Err(fhir_export::Error::new(fhir_export::ErrorKind::InvalidConfig, message).with("state", uri))
}

/// XDG Base Directory Specification: state that should persist between restarts.
fn usual(state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state_home = state_home.and_then(absolute);
    let folder = state_home.or_else(|| home.and_then(absolute).map(|home| home.join(".local/state")))?;
    Some(folder.join("fhir-export"))
}

/// The job whose id begins so.
///
/// # Errors
/// A sentence about it, when there is none or more than one.
pub(crate) fn named<'j>(jobs: &'j [JobRecord], beginning: &str) -> Result<&'j JobRecord, String> {
    let mut found = jobs.iter().filter(|job| job.id.as_str().starts_with(beginning));
    if let Some(exact) = jobs.iter().find(|job| job.id.as_str() == beginning) {
        return Ok(exact);
    }
    match (found.next(), found.next()) {
        (Some(job), None) => Ok(job),
        (None, _) => Err(format!("there is no job {beginning:?}; fhir-export jobs lists them")),
        (Some(_), Some(_)) => Err(format!("more than one job begins with {beginning:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_kept_where_the_system_keeps_state() {
        let text = |path: &str| Some(OsString::from(path));
        for (state_home, home, folder) in [
            (text("/s"), text("/h"), Some("/s/fhir-export")),
            (None, text("/h"), Some("/h/.local/state/fhir-export")),
            (text("relative"), text("/h"), Some("/h/.local/state/fhir-export")),
            (None, None, None),
        ] {
            assert_eq!(usual(state_home, home), folder.map(PathBuf::from));
        }
    }
}
