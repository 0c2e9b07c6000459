//! Credentials of an assumed role, kept fresh for as long as they are asked for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::time::Instant;

use super::sts::{ANSWER_WITHIN, Session, Sts};
use crate::clock::Clock;
use crate::destination::answer::Judged;

/// Credentials are asked for anew so long before they end, or a fifth of their life if that is less.
const BEFORE_END: Duration = Duration::from_secs(300);

/// The longest time until they are asked for again while nobody gives new ones.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(30);

/// Assumes a role when credentials are asked for first, and again before they end.
///
/// One request to STS at a time. While it gives no new credentials the old ones go on until they end.
pub(super) struct RoleCredentials {
    sts: Sts,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Why the last request failed.
    failure: Option<Judged>,
    /// How often was asked.
    asked: u64,
}

struct Held {
    credential: Arc<AwsCredential>,
    since: Moment,
    life: Duration,
    refresh_after: Duration,
}

/// A moment by two clocks: one stands still while the machine sleeps, the other may be set.
#[derive(Clone, Copy)]
struct Moment {
    instant: Instant,
    time_of_day: Duration,
}

/// How it stands with what is held.
enum Look {
    Fresh(Arc<AwsCredential>),
    /// Good still, and for how long.
    Ageing(Arc<AwsCredential>, Duration),
    /// Nothing is held that is good. Holds how often was asked.
    Gone(u64),
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleCredentials").field("sts", &self.sts).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for RoleCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.look() {
            Look::Fresh(credential) => Ok(credential),
            Look::Ageing(credential, rest) => match self.asking.try_lock() {
                Ok(_alone) => self.refreshed(credential, rest).await,
                Err(_) => Ok(credential),
            },
            Look::Gone(asked) => {
                let _alone = self.asking.lock().await;
                self.first(asked).await
            }
        }
        .map_err(|judged| object_store::Error::Generic { store: "S3", source: Box::new(judged) })
    }
}

impl RoleCredentials {
    pub(super) fn new(sts: Sts, clock: Arc<dyn Clock>) -> Self {
        Self { sts, clock, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn look(&self) -> Look {
        let state = self.lock();
        let Some(held) = &state.held else { return Look::Gone(state.asked) };
        let age = self.since(held.since);
        match held.life.checked_sub(age) {
            None | Some(Duration::ZERO) => Look::Gone(state.asked),
            Some(_) if age < held.refresh_after => Look::Fresh(Arc::clone(&held.credential)),
            Some(rest) => Look::Ageing(Arc::clone(&held.credential), rest),
        }
    }

    /// New credentials, or the old ones while they last.
    async fn refreshed(&self, old: Arc<AwsCredential>, rest: Duration) -> Result<Arc<AwsCredential>, Judged> {
        // Another may have been faster.
        if let Look::Fresh(credential) = self.look() {
            return Ok(credential);
        }
        match self.ask(ANSWER_WITHIN.min(rest / 2)).await {
            Ok(credential) => Ok(credential),
            Err(judged) => {
                tracing::warn!(
                    role = self.sts.role.role_arn,
                    error = %judged,
                    seconds = rest.as_secs(),
                    "the credentials of a role can't be refreshed; the old ones go on until they end"
                );
                self.put_off(rest);
                match self.look() {
                    Look::Gone(_) => Err(judged),
                    Look::Fresh(_) | Look::Ageing(..) => Ok(old),
                }
            }
        }
    }

    /// Credentials where there were none. `asked`: how often was asked when that was seen.
    async fn first(&self, asked: u64) -> Result<Arc<AwsCredential>, Judged> {
        match self.look() {
            Look::Fresh(credential) | Look::Ageing(credential, _) => return Ok(credential),
            Look::Gone(asked_since) if asked_since > asked => {
                // Who has waited meanwhile is told the same, and doesn't ask again.
                let failure = self.lock().failure.clone();
                if let Some(failure) = failure {
                    return Err(failure);
                }
            }
            Look::Gone(_) => {}
        }
        self.ask(ANSWER_WITHIN).await
    }

    async fn ask(&self, within: Duration) -> Result<Arc<AwsCredential>, Judged> {
        // Their life is counted from before the request: never too long.
        let since = self.moment();
        let asked = tokio::time::timeout(within, self.sts.assume(since.time_of_day)).await;
        let answer = asked.unwrap_or_else(|_| Err(self.sts.late()));
        let mut state = self.lock();
        state.asked += 1;
        match answer {
            Ok(Session { credential, life }) => {
                let credential = Arc::new(credential);
                let refresh_after = life.saturating_sub(BEFORE_END.min(life / 5));
                state.held = Some(Held { credential: Arc::clone(&credential), since, life, refresh_after });
                state.failure = None;
                drop(state);
                let role = self.sts.role.role_arn.as_str();
                tracing::debug!(
                    role,
                    session = self.sts.role.session_name,
                    seconds = life.as_secs(),
                    "a role was assumed"
                );
                Ok(credential)
            }
            Err(judged) => {
                state.failure = Some(judged.clone());
                Err(judged)
            }
        }
    }

    /// Asks again after a while.
    fn put_off(&self, rest: Duration) {
        let mut state = self.lock();
        if let Some(held) = &mut state.held {
            held.refresh_after = self.since(held.since) + BETWEEN_ATTEMPTS.min(rest / 4);
        }
    }

    fn moment(&self) -> Moment {
        Moment { instant: Instant::now(), time_of_day: self.clock.since_epoch() }
    }

    fn since(&self, moment: Moment) -> Duration {
        moment.instant.elapsed().max(self.clock.since_epoch().saturating_sub(moment.time_of_day))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
