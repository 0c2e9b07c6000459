//! Resources that occur more than once, by type and id.

use std::collections::HashSet;
use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::error::{Error, ErrorKind, Result};

/// How many are told one by one.
const TOLD: usize = 20;

/// Resources that occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Duplicates {
    /// How many resources have the type and id of one before them.
    pub resources: u64,
    /// The first of them, 20 at most.
    pub first: Vec<SeenAgain>,
}

/// A resource with the type and id of one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenAgain {
    /// Its type and id: `Patient/1`.
    pub resource: String,
    /// The key of its object.
    pub key: String,
    /// Its line, from 1.
    pub line: u64,
}

/// What was seen so far: a keyed 128-bit fingerprint of each resource, so that no data can be made to collide.
#[derive(Debug)]
pub(super) struct Seen {
    key: [u8; 16],
    state: Mutex<(HashSet<u128>, Duplicates)>,
}

impl Seen {
    pub(super) fn new() -> Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)
            .map_err(|error| Error::new(ErrorKind::Internal, "the system gives no random bytes").caused_by(error))?;
        Ok(Self { key, state: Mutex::default() })
    }

    /// Takes a resource.
    pub(super) fn see(&self, resource_type: &str, id: &str, key: &str, line: u64) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(resource_type.as_bytes());
        hasher.write(b"/");
        hasher.write(id.as_bytes());
        let fingerprint = hasher.finish128().as_u128();
        let mut state = self.lock();
        let (seen, found) = &mut *state;
        if seen.insert(fingerprint) {
            return;
        }
        found.resources += 1;
        if found.first.len() < TOLD {
            let resource = format!("{resource_type}/{id}");
            found.first.push(SeenAgain { resource, key: key.to_owned(), line });
        }
    }

    pub(super) fn found(&self) -> Duplicates {
        self.lock().1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, (HashSet<u128>, Duplicates)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
