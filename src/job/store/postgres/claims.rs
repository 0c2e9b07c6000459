//! Claims: held, renewed and given up.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::job::store::{Claim, Lease};
use crate::request::JobId;

/// How often a claim is renewed within its lease.
const RENEWALS: u32 = 4;

/// How long one renewal is tried.
const RENEWED_FOR: Duration = Duration::ZERO;

/// A claim that is being asked for.
pub(super) struct Asking {
    /// What tells this claim from all others, so that it is known again after a lost connection.
    pub(super) holder: String,
    lease: Lease,
}

impl Connection {
    /// Begins to ask for a claim: it stands from before it was asked for.
    pub(super) fn asking(&self) -> Result<Asking> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(ErrorKind::Internal, "the system gives no random bytes").caused_by(error))?;
        let holder = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Asking { holder, lease: self.inner.lasting() })
    }

    /// The fence of a claim on a job that was given up here last; none is 0.
    pub(super) fn given_up(&self, id: &JobId) -> i64 {
        let fence = self.inner.given_up().get(id.as_str()).copied();
        fence.and_then(|fence| i64::try_from(fence).ok()).unwrap_or(0)
    }

    /// The claim that was asked for, renewed from now on.
    pub(super) fn claim(&self, id: &JobId, fence: u64, asking: &Asking) -> Claim {
        self.inner.given_up().remove(id.as_str());
        let dropped = CancellationToken::new();
        let (inner, job, lease) = (Arc::clone(&self.inner), id.to_string(), asking.lease.clone());
        let renewed = renew(inner, job, fence, lease, dropped.clone());
        drop(self.inner.spawn(renewed));
        let held = Held { inner: Arc::clone(&self.inner), job: id.to_string(), fence, dropped };
        Claim::new(id.clone(), fence, Arc::new(held)).leased(asking.lease.clone())
    }
}

impl Inner {
    /// What is counted on, of a lease that begins now.
    fn lasting(&self) -> Lease {
        Lease::lasting(self.lease * 3 / 4)
    }
}

/// Held by a claim: dropping it gives the claim up.
struct Held {
    inner: Arc<Inner>,
    job: String,
    fence: u64,
    dropped: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.given_up().insert(self.job.clone(), self.fence);
        self.dropped.cancel();
    }
}

/// Renews a claim until it is dropped or lost, and gives it up then.
async fn renew(inner: Arc<Inner>, job: String, fence: u64, lease: Lease, dropped: CancellationToken) {
    let fence = i64::try_from(fence).unwrap_or(i64::MAX);
    let seconds = inner.lease.as_secs_f64();
    loop {
        tokio::select! {
            () = dropped.cancelled() => break,
            () = inner.closing.cancelled() => break,
            () = tokio::time::sleep(inner.lease / RENEWALS) => {}
        }
        let until = inner.lasting();
        let renewed = inner.run("the claim on a job can't be renewed", RENEWED_FOR, |session| {
            let job = job.clone();
            async move {
                let update = "UPDATE fhir_export.jobs SET lease_until = clock_timestamp() + make_interval(secs => $3)
                              WHERE id = $1 AND fence = $2";
                session
                    .execute_typed(update, &[(&job, Type::TEXT), (&fence, Type::INT8), (&seconds, Type::FLOAT8)])
                    .await
            }
        });
        match renewed.await {
            Ok(0) => {
                lease.lose();
                return;
            }
            Ok(_) => lease.extend(&until),
            Err(error) => tracing::warn!(job, error = format!("{error:#}"), "a claim isn't renewed"),
        }
        if lease.is_lost() {
            return;
        }
    }
    let given_up = inner.run("the claim on a job can't be given up", Duration::ZERO, |session| {
        let job = job.clone();
        async move {
            let update = "UPDATE fhir_export.jobs SET lease_until = clock_timestamp() WHERE id = $1 AND fence = $2";
            session.execute_typed(update, &[(&job, Type::TEXT), (&fence, Type::INT8)]).await
        }
    });
    if let Err(error) = given_up.await {
        tracing::debug!(job, error = format!("{error:#}"), "a claim ends by itself");
    }
}
