//! Tokens that were used and may not be used again.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::Hash;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::refusal::Refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, PoisonError};

/// The ids of tokens that were used, until they expire.
///
/// It holds a fingerprint of 128 bits for each, under a key of its own, so that its memory doesn't depend on what issuers
/// write: about 100 bytes each. When it is full, tokens are refused: none is forgotten before its time.
pub struct Seen {
    key: [u8; 16],
    capacity: usize,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    fingerprints: HashSet<u128>,
    /// With the second since 1970 from which each may be forgotten.
    by_end: BTreeSet<(i64, u128)>,
}

impl Seen {
    /// Makes one that remembers so many tokens at a time.
    ///
    /// # Errors
    /// When that is none, or the system gives no random bytes.
    pub fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidConfig, "no one-time token could be remembered"));
        }
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| {
            Error::new(ErrorKind::Internal, "no random bytes").caused_by(std::io::Error::other(error))
        })?;
        Ok(Self { key, capacity, tokens: Mutex::default() })
    }

    /// Remembers a token by its issuer and id. `end` is the second since 1970 from which it is refused anyway.
    ///
    /// # Errors
    /// When it was used before, or more tokens are alive than are remembered.
    pub fn use_up(&self, issuer: &str, id: &str, end: i64, now: i64) -> Result<(), Refusal> {
        let fingerprint = self.fingerprint(issuer, id);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.forget_until(now);
        if tokens.fingerprints.contains(&fingerprint) {
            return Err(Refusal::Replayed);
        }
        if tokens.fingerprints.len() >= self.capacity {
            return Err(Refusal::TooManySeen);
        }
        tokens.fingerprints.insert(fingerprint);
        tokens.by_end.insert((end, fingerprint));
        Ok(())
    }

    fn fingerprint(&self, issuer: &str, id: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        // A `str` hashes with an end mark, so that no two pairs run into the same bytes.
        issuer.hash(&mut hasher);
        id.hash(&mut hasher);
        hasher.finish128().as_u128()
    }
}

impl Tokens {
    fn forget_until(&mut self, now: i64) {
        while let Some((end, fingerprint)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.by_end.remove(&(end, fingerprint));
            self.fingerprints.remove(&fingerprint);
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_once_until_its_end() {
        let seen = Seen::new(10).unwrap();
        assert_eq!(seen.use_up("issuer", "1", 100, 0), Ok(()));
        assert_eq!(seen.use_up("issuer", "1", 100, 99), Err(Refusal::Replayed));
        assert_eq!(seen.use_up("issuer", "2", 100, 99), Ok(()));
        assert_eq!(seen.use_up("another", "1", 100, 99), Ok(()));
        assert_eq!(seen.use_up("issuer", "1", 200, 100), Ok(()));
    }

    #[test]
    fn issuer_and_id_do_not_run_together() {
        let seen = Seen::new(10).unwrap();
        assert_eq!(seen.use_up("ab", "c", 100, 0), Ok(()));
        assert_eq!(seen.use_up("a", "bc", 100, 0), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing() {
        let seen = Seen::new(2).unwrap();
        assert_eq!(seen.use_up("issuer", "1", 100, 0), Ok(()));
        assert_eq!(seen.use_up("issuer", "2", 200, 0), Ok(()));
        for id in 3..100 {
            assert_eq!(seen.use_up("issuer", &id.to_string(), 100, 0), Err(Refusal::TooManySeen));
        }
        assert_eq!(seen.use_up("issuer", "1", 100, 50), Err(Refusal::Replayed));
        assert_eq!(seen.use_up("issuer", "3", 300, 100), Ok(()));
        assert_eq!(seen.use_up("issuer", "2", 200, 100), Err(Refusal::Replayed));
        assert!(Seen::new(0).is_err());
    }
}
