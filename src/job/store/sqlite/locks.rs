//! Operating system locks on files beside the database: they end with the process that holds them, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::request::JobId;

/// Whoever looks whether a job is claimed has its lock for an instant, which a claim waits for: this often, so long.
const LOOKS_WAITED_FOR: usize = 5;
const A_LOOK: Duration = Duration::from_millis(5);

/// The folder of the lock files, one for each job.
#[derive(Clone, Debug)]
pub(super) struct Locks(Arc<Path>);

impl Locks {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.into())
    }

    fn path(&self, id: &JobId) -> PathBuf {
        self.0.join(format!("{}.lock", file_name(id)))
    }

    /// Takes the lock of a job, if nobody has it.
    pub(super) async fn take(&self, id: &JobId) -> Result<Option<File>> {
        let path = self.path(id);
        apart(move || {
            let file =
                File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(&path, e))?;
            for _ in 0..LOOKS_WAITED_FOR {
                match file.try_lock() {
                    Ok(()) => return Ok(Some(file)),
                    Err(TryLockError::WouldBlock) => std::thread::sleep(A_LOOK),
                    Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
                }
            }
            Ok(None)
        })
        .await
    }

    /// Whether somebody has the lock of a job.
    pub(super) async fn is_held(&self, id: &JobId) -> Result<bool> {
        let path = self.path(id);
        apart(move || {
            // A shared lock: those who look don't take each other for a holder.
            match File::options().read(true).open(&path).map(|file| file.try_lock_shared()) {
                Ok(Ok(())) => Ok(false),
                Ok(Err(TryLockError::WouldBlock)) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Ok(Err(TryLockError::Error(error))) | Err(error) => Err(failed(&path, error)),
            }
        })
        .await
    }

    /// Removes the file of a job that is gone: whoever opens it again finds no job, whichever file he has the lock of.
    pub(super) fn remove(&self, id: &JobId) {
        let path = self.path(id);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "a lock file is left");
        }
    }
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| super::thread_gone())?
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::io(format!("the lock file {} can't be used", path.display()), error)
}

/// A job's id as the name of a file: ids may have almost any character.
fn file_name(id: &JobId) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    id.as_str()
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_file_name_whatever_it_holds() {
        assert_eq!(file_name(&JobId::new("ab_1-c").unwrap()), "ab_1-c");
        assert_eq!(file_name(&JobId::new("../x").unwrap()), "%2e%2e%2fx");
    }

    #[tokio::test]
    async fn a_look_at_a_lock_never_keeps_it_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let (locks, id) = (Locks::new(folder.path()), JobId::new("a").unwrap());
        let looker = File::options().create(true).truncate(false).write(true).open(locks.path(&id)).unwrap();
        looker.lock_shared().unwrap();
        assert!(!locks.is_held(&id).await.unwrap(), "another look is no holder");
        let (taken, ()) = tokio::join!(locks.take(&id), async {
            tokio::task::yield_now().await;
            drop(looker);
        });
        let taken = taken.unwrap().unwrap();
        assert!(locks.is_held(&id).await.unwrap() && locks.take(&id).await.unwrap().is_none());
        drop(taken);
        assert!(!locks.is_held(&id).await.unwrap());
    }
}
