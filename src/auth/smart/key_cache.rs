//! Keys that are fetched when they are needed, and not more often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::algorithm::Algorithm;
use super::key_fetch::{FetchKeys, FetchedKeys};
use super::key_set::KeySet;
use super::refusal::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// How long a place of keys may take, whatever it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long keys are kept, and how often their issuer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPatience {
    /// How long keys are used before they are fetched again; a shorter `Cache-Control` of the answer counts.
    pub keep: Duration,
    /// The least time between two fetches. It is also how long a new key may stay unknown, and it bounds what strangers
    /// with invented key ids can make us ask of the issuer.
    pub at_most_every: Duration,
    /// How long after [`keep`](Self::keep) the old keys are used while the issuer doesn't answer. Then tokens are refused.
    pub outlive: Duration,
}

impl Default for KeyPatience {
    /// 5 minutes, 10 seconds, 1 hour.
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(300),
            at_most_every: Duration::from_secs(10),
            outlive: Duration::from_secs(3600),
        }
    }
}

/// The keys of an issuer, now and after the next rotation.
#[derive(Debug)]
pub struct KeySource {
    fetch: Box<dyn FetchKeys>,
    patience: KeyPatience,
    state: Mutex<State>,
    /// Whoever holds it fetches; the others wait for what comes of it.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    loaded: Option<Loaded>,
    /// When the last fetch began, in seconds since 1970.
    asked: Option<i64>,
}

#[derive(Clone)]
struct Loaded {
    keys: Arc<KeySet>,
    /// When they were fetched, and until when they are used before and without another fetch: seconds since 1970.
    fetched: i64,
    fresh_until: i64,
    usable_until: i64,
}

/// How good the keys that we have are.
enum Held {
    Fresh(Arc<KeySet>),
    Stale(Arc<KeySet>),
    Nothing,
}

impl KeySource {
    /// Takes keys from a place, which is asked when the first token comes.
    #[must_use]
    pub fn new(fetch: impl FetchKeys + 'static, patience: KeyPatience) -> Self {
        Self { fetch: Box::new(fetch), patience, state: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Takes keys that never change.
    #[must_use]
    pub fn fixed(keys: KeySet) -> Self {
        let (fetched, always) = (i64::MIN, i64::MAX);
        let loaded = Loaded { keys: Arc::new(keys), fetched, fresh_until: always, usable_until: always };
        let source = Self::new(Unchanging, KeyPatience::default());
        source.lock().loaded = Some(loaded);
        source
    }

    /// Fetches the keys, so that a server that can't have them says so when it starts. Gives their number.
    ///
    /// # Errors
    /// When they can't be had, or none can be used.
    pub async fn check(&self, now_unix_seconds: i64) -> Result<usize> {
        let _turn = self.turn.lock().await;
        if !matches!(self.held(now_unix_seconds), Held::Fresh(_)) {
            self.load(now_unix_seconds).await?;
        }
        let none = || Error::new(ErrorKind::InvalidConfig, "the issuer has no key that can be used");
        match self.held(now_unix_seconds) {
            Held::Fresh(keys) | Held::Stale(keys) if !keys.is_empty() => Ok(keys.len()),
            Held::Fresh(keys) | Held::Stale(keys) => {
                Err(none().with("left out", keys.left_out().first().copied().unwrap_or("nothing")))
            }
            Held::Nothing => Err(none()),
        }
    }

    /// Finds the keys in which a token's is looked for: with it, if the issuer has it.
    pub(super) async fn keys_for(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: i64,
    ) -> Result<Arc<KeySet>, Refusal> {
        let lacks = |keys: &KeySet| matches!(keys.find(id, algorithm), Err(Refusal::UnknownKey));
        let _turn = match self.held(now) {
            Held::Fresh(keys) if !lacks(&keys) || !self.may_ask(now) => return Ok(keys),
            Held::Stale(keys) if !self.may_ask(now) => return Ok(keys),
            // Somebody fetches already: what is known needn't wait for it.
            Held::Stale(keys) if !lacks(&keys) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(keys),
            },
            Held::Fresh(_) | Held::Stale(_) | Held::Nothing => self.turn.lock().await,
        };
        // While we waited, another may have fetched them, or have failed.
        if self.may_ask(now)
            && let Err(error) = self.load(now).await
        {
            tracing::warn!(error = format!("{error:#}"), "keys not fetched");
        }
        match self.held(now) {
            Held::Fresh(keys) | Held::Stale(keys) => Ok(keys),
            Held::Nothing => Err(Refusal::KeysUnavailable),
        }
    }

    /// Fetches. What is held is changed at the end only, so that this may be dropped at any moment.
    async fn load(&self, now: i64) -> Result<()> {
        self.lock().asked = Some(now);
        let late = |_| Error::new(ErrorKind::Source, "the keys didn't come in time").retryable(true);
        let FetchedKeys { document, max_age } =
            tokio::time::timeout(DEADLINE, self.fetch.fetch()).await.map_err(late)??;
        let keys = KeySet::from_json(&document)?;
        if !keys.left_out().is_empty() {
            tracing::debug!(reasons = ?keys.left_out(), "keys left out");
        }
        let keep = max_age.map_or(self.patience.keep, |max_age| max_age.min(self.patience.keep));
        let fresh_until = now.saturating_add(seconds(keep));
        let usable_until = fresh_until.saturating_add(seconds(self.patience.outlive));
        self.lock().loaded = Some(Loaded { keys: Arc::new(keys), fetched: now, fresh_until, usable_until });
        Ok(())
    }

    fn held(&self, now: i64) -> Held {
        let state = self.lock();
        match &state.loaded {
            // The clock was set back: how old they are isn't known any more.
            Some(loaded) if now < loaded.fetched.saturating_sub(self.pause()) => Held::Stale(Arc::clone(&loaded.keys)),
            Some(loaded) if now < loaded.fresh_until => Held::Fresh(Arc::clone(&loaded.keys)),
            Some(loaded) if now < loaded.usable_until => Held::Stale(Arc::clone(&loaded.keys)),
            _ => Held::Nothing,
        }
    }

    /// Whether the last fetch is long enough ago.
    fn may_ask(&self, now: i64) -> bool {
        let state = self.lock();
        let is_fixed = state.loaded.as_ref().is_some_and(|loaded| loaded.fresh_until == i64::MAX);
        !is_fixed && state.asked.is_none_or(|asked| now.saturating_sub(asked).saturating_abs() >= self.pause())
    }

    fn pause(&self) -> i64 {
        seconds(self.patience.at_most_every)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.loaded.as_ref().map(|loaded| &loaded.keys);
        f.debug_struct("State").field("keys", &keys).field("asked", &self.asked).finish()
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The place of keys that never change.
#[derive(Debug)]
struct Unchanging;

#[async_trait::async_trait]
impl FetchKeys for Unchanging {
    async fn fetch(&self) -> Result<FetchedKeys> {
        Err(Error::new(ErrorKind::Internal, "these keys never change"))
    }
}
