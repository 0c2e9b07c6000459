//! Who is in a cohort, in at most 40 bytes a patient.

use std::fmt;

use siphasher::sip128::SipHasher13;

use crate::error::{Error, ErrorKind, Result};

const PARTITIONS: usize = 256;
const FIRST_CAPACITY: usize = 4;
/// Stands for a free place; the one fingerprint in 2^128 that equals it is moved next to it.
const FREE: u128 = 0;

/// The ids of a cohort's patients, as keyed fingerprints of 128 bits.
///
/// Two ids are mixed up with a probability of about n² / 2^129, which for ten million patients is 10^-25, and nobody
/// who doesn't know the key can look for a pair. An entry takes 16 bytes in a table that is half to three quarters
/// full. The tables are 256 and grow one at a time, so growing needs room for one of them twice, not for all.
#[derive(Clone)]
pub struct PatientSet {
    hasher: SipHasher13,
    partitions: Vec<Partition>,
    len: usize,
}

impl PatientSet {
    /// An empty set under a random key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| {
            Error::new(ErrorKind::Internal, "the operating system gives no random bytes").caused_by(error)
        })?;
        Ok(Self::with_key(&key))
    }

    /// An empty set under a given key, for tests that must repeat.
    #[must_use]
    pub fn with_key(key: &[u8; 16]) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(key),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            len: 0,
        }
    }

    /// Adds a patient's id and tells whether it is new.
    pub fn insert(&mut self, id: &str) -> bool {
        let fingerprint = self.fingerprint(id);
        let Some(partition) = self.partitions.get_mut(partition_of(fingerprint)) else { return false };
        let new = partition.insert(fingerprint);
        self.len += usize::from(new);
        new
    }

    /// Tells whether a patient's id is in the set.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.holds(self.fingerprint(id))
    }

    /// Looks many ids up at once: `held` gets an answer for each.
    ///
    /// A large set lies in main memory, and look-ups that don't wait for each other's answers wait for it together.
    pub(crate) fn hold(&self, asked: &[Fingerprint], held: &mut Vec<bool>) {
        held.clear();
        held.extend(asked.iter().map(|fingerprint| self.holds(fingerprint.0)));
    }

    /// What an id is looked up by.
    pub(crate) fn fingerprint_of(&self, id: &str) -> Fingerprint {
        Fingerprint(self.fingerprint(id))
    }

    fn holds(&self, fingerprint: u128) -> bool {
        self.partitions.get(partition_of(fingerprint)).is_some_and(|partition| partition.contains(fingerprint))
    }

    /// Number of different patients.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the set takes of memory, in bytes: at most 40 a patient, and 24 KiB.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let places: usize = self.partitions.iter().map(|partition| partition.places.len()).sum();
        places * size_of::<u128>() + self.partitions.capacity() * size_of::<Partition>() + size_of::<Self>()
    }

    /// The key, and a sum over everyone under it: sets of the same patients under one key have the same.
    pub(crate) fn digest(&self) -> ([u8; 16], u128) {
        let places = self.partitions.iter().flat_map(|partition| partition.places.iter());
        let sum = places.filter(|place| **place != FREE).fold(0_u128, |sum, place| sum.wrapping_add(*place));
        (self.hasher.key(), sum)
    }

    /// An empty set under the same key, whose entries can be [moved](Self::append) here.
    pub(super) fn sibling(&self) -> Self {
        Self { hasher: self.hasher, partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(), len: 0 }
    }

    /// Forgets everyone and gives the memory back.
    pub(super) fn clear(&mut self) {
        if self.len > 0 {
            self.partitions.iter_mut().for_each(|partition| *partition = Partition::default());
            self.len = 0;
        }
    }

    /// Moves everyone over from a [sibling](Self::sibling), table by table, so that both are never held twice.
    pub(super) fn append(&mut self, mut other: Self) {
        debug_assert_eq!(self.hasher.key(), other.hasher.key(), "sets under one key");
        for (mine, others) in self.partitions.iter_mut().zip(&mut other.partitions) {
            let others = std::mem::take(others);
            if mine.len == 0 {
                self.len += others.len;
                *mine = others;
                continue;
            }
            mine.reserve(others.len);
            for fingerprint in others.places.into_iter().filter(|&place| place != FREE) {
                self.len += usize::from(mine.insert(fingerprint));
            }
        }
    }

    fn fingerprint(&self, id: &str) -> u128 {
        let fingerprint = self.hasher.hash(id.as_bytes()).as_u128();
        if fingerprint == FREE { FREE + 1 } else { fingerprint }
    }
}

/// The keyed fingerprint of an id.
#[derive(Clone, Copy)]
pub(crate) struct Fingerprint(u128);

fn partition_of(fingerprint: u128) -> usize {
    usize::from(fingerprint.to_be_bytes()[0])
}

/// An open-addressed table with linear probing.
#[derive(Clone, Default)]
struct Partition {
    places: Box<[u128]>,
    len: usize,
}

impl Partition {
    fn contains(&self, fingerprint: u128) -> bool {
        self.find(fingerprint).is_some_and(|index| self.places.get(index) == Some(&fingerprint))
    }

    fn insert(&mut self, fingerprint: u128) -> bool {
        let found = self.find(fingerprint);
        if found.is_some_and(|index| self.places.get(index) == Some(&fingerprint)) {
            return false;
        }
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.grow_to((self.places.len() + self.places.len() / 2).max(FIRST_CAPACITY));
        }
        self.put(fingerprint);
        self.len += 1;
        true
    }

    /// Makes room for so many more at once: entries that come in the order of another table would pile up in front of
    /// a table that grows under way.
    fn reserve(&mut self, additional: usize) {
        let needed = (self.len + additional) * 3 / 2 + 1;
        if needed > self.places.len() {
            self.grow_to(needed);
        }
    }

    fn grow_to(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.places, vec![FREE; capacity].into_boxed_slice());
        for fingerprint in old.into_iter().filter(|&place| place != FREE) {
            self.put(fingerprint);
        }
    }

    fn put(&mut self, fingerprint: u128) {
        if let Some(place) = self.find(fingerprint).and_then(|index| self.places.get_mut(index)) {
            *place = fingerprint;
        }
    }

    /// The place where the fingerprint is or would go; `None` only of a table without places.
    fn find(&self, fingerprint: u128) -> Option<usize> {
        let start = home(fingerprint, self.places.len());
        let (before, after) = self.places.split_at_checked(start)?;
        let fits = |place: &u128| *place == fingerprint || *place == FREE;
        after.iter().position(fits).map(|offset| start + offset).or_else(|| before.iter().position(fits))
    }
}

/// Where a fingerprint belongs in a table: its low half, as a fraction of 2^64, times the length.
#[expect(clippy::cast_possible_truncation, reason = "the product's high half is below the length, a usize")]
fn home(fingerprint: u128, length: usize) -> usize {
    ((u128::from(fingerprint as u64) * length as u128) >> 64) as usize
}

impl fmt::Debug for PatientSet {
    /// Tells the number only: neither ids nor the key belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientSet").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 16] = *b"a key for tests.";

    #[test]
    fn membership_costs_at_most_40_bytes_a_patient_at_any_size() {
        let mut set = PatientSet::with_key(&KEY);
        for number in 0..1_000_000usize {
            assert!(set.insert(&number.to_string()));
            if number % 1009 == 0 || number < 2000 {
                let allowed = 40 * set.len() + (24 << 10);
                assert!(set.memory_bytes() <= allowed, "{} bytes for {}", set.memory_bytes(), set.len());
            }
            if number >= 100_000 && number % 5003 == 0 {
                // While one table grows, its old places and at most twice as many new ones are held.
                let largest = set.partitions.iter().map(|partition| partition.places.len()).max().unwrap();
                assert!(set.memory_bytes() + largest * 16 * 3 / 2 <= 40 * set.len(), "while growing at {}", set.len());
            }
        }
        assert_eq!(set.len(), 1_000_000);
        assert!((0..1_000_000usize).all(|number| set.contains(&number.to_string())));
        assert!((1_000_000..1_100_000usize).all(|number| !set.contains(&number.to_string())));
    }

    #[test]
    fn appending_a_set_takes_no_more_than_the_two_together() {
        let mut set = PatientSet::with_key(&KEY);
        let mut other = set.sibling();
        for number in 0..50_000usize {
            set.insert(&number.to_string());
            other.insert(&(number + 50_000).to_string());
        }
        set.append(other);
        assert_eq!(set.len(), 100_000);
        assert!(set.memory_bytes() <= 40 * set.len());
        assert!((0..100_000usize).all(|number| set.contains(&number.to_string())));
    }

    #[test]
    fn two_jobs_use_different_keys() {
        let (one, other) = (PatientSet::new().unwrap(), PatientSet::new().unwrap());
        assert_ne!(one.hasher.key(), other.hasher.key());
    }

    #[test]
    fn a_set_tells_nothing_of_its_members_when_it_is_logged() {
        let mut set = PatientSet::with_key(&KEY);
        set.insert("secret");
        assert_eq!(format!("{set:?}"), "PatientSet { len: 1, .. }");
    }

    #[test]
    fn a_fingerprint_that_looks_like_a_free_place_is_kept_apart() {
        let mut partition = Partition::default();
        assert!(!partition.contains(1));
        assert!(partition.insert(1) && !partition.insert(1));
        assert!(partition.contains(1));
    }

    fn ids() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-c0-9]{0,3}", 0..600)
    }

    proptest! {
        #[test]
        fn a_set_holds_what_a_hash_set_holds(first in ids(), second in ids(), probes in ids()) {
            let mut model = HashSet::new();
            let mut set = PatientSet::with_key(&KEY);
            for id in &first {
                prop_assert_eq!(set.insert(id), model.insert(id.clone()));
            }
            let mut other = set.sibling();
            for id in &second {
                other.insert(id);
            }
            set.append(other);
            model.extend(second);
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            for id in first.iter().chain(&probes) {
                prop_assert_eq!(set.contains(id), model.contains(id));
            }
            set.clear();
            prop_assert!(set.is_empty() && !first.iter().any(|id| set.contains(id)));
        }
    }
}
