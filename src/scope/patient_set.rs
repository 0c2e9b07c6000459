//! Who is in a cohort, in at most 40 bytes a patient.

use std::fmt;
use std::hint::black_box;

use siphasher::sip128::SipHasher13;

use crate::error::{Error, ErrorKind, Result};

const PARTITIONS: usize = 256;
/// Places that the memory fetches together: 64 bytes.
const PLACES_IN_LINE: usize = 4;
/// Look-ups that wait for memory together.
const TOGETHER: usize = 64;
/// Stands for a free place; the one fingerprint in 2^128 that equals it is moved next to it.
const FREE: u128 = 0;

/// The ids of a cohort's patients, as keyed fingerprints of 128 bits.
///
/// Two ids are mixed up with a probability of about n² / 2^129, which for ten million patients is 10^-25, and nobody
/// who doesn't know the key can look for a pair. An entry takes 16 bytes in a table that is at most two thirds full, and
/// more than four ninths once it has grown. The tables are 256 and grow one at a time, so growing needs room for one of
/// them twice, not for all.
///
/// A table's places are in lines of four, as the memory fetches them. A look-up goes to the line where the fingerprint
/// belongs, and only if that is full and another's, which one in six is, to the next.
#[derive(Clone)]
pub struct PatientSet {
    hasher: SipHasher13,
    partitions: Vec<Partition>,
    len: usize,
    limit: usize,
}

impl PatientSet {
    /// Patients of a cohort at most, where nothing else is set: a gibibyte.
    pub(crate) const DEFAULT_LIMIT: usize = 25_000_000;

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
            limit: Self::DEFAULT_LIMIT,
        }
    }

    /// The same, for a Group of so many patients at most.
    pub(crate) const fn with_limit(mut self, patients: usize) -> Self {
        self.limit = patients;
        self
    }

    /// How many patients a Group may have.
    pub(super) const fn limit(&self) -> usize {
        self.limit
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

    /// Tells for each of many ids whether it is in the set; `held` gets the answers in place of what it held.
    ///
    /// A large set lies in main memory. Ids that are asked for together wait for it together, so in batches of some 64 a
    /// look-up takes a fraction of the time.
    pub fn contain<'i>(&self, ids: impl IntoIterator<Item = &'i str>, held: &mut Vec<bool>) {
        held.clear();
        let mut batch = [Fingerprint(FREE); TOGETHER];
        let mut ids = ids.into_iter().map(|id| self.fingerprint_of(id));
        loop {
            let count = batch.iter_mut().zip(&mut ids).map(|(place, asked)| *place = asked).count();
            self.add_answers(batch.get(..count).unwrap_or_default(), held);
            if count < TOGETHER {
                return;
            }
        }
    }

    /// Looks many ids up at once: `held` gets an answer for each.
    pub(crate) fn hold(&self, asked: &[Fingerprint], held: &mut Vec<bool>) {
        held.clear();
        asked.chunks(TOGETHER).for_each(|together| self.add_answers(together, held));
    }

    /// Adds the answers for at most [`TOGETHER`] fingerprints.
    ///
    /// A word of each line is read first, in a loop without branches on what is read: the processor goes on to the next one
    /// while it waits, so that the waits overlap. The answers come from the cache then.
    fn add_answers(&self, asked: &[Fingerprint], held: &mut Vec<bool>) {
        let mut lines: [Option<&Line>; TOGETHER] = [None; TOGETHER];
        for (fingerprint, line) in asked.iter().zip(&mut lines) {
            *line = self.partition(fingerprint.0).and_then(|partition| partition.home(fingerprint.0));
        }
        // What isn't used wouldn't be read.
        black_box(lines.iter().flatten().fold(FREE, |all, line| all ^ line.first()));
        held.extend(asked.iter().zip(lines).map(|(fingerprint, line)| {
            let found = line.is_some_and(|line| line.holds(fingerprint.0));
            found || (line.is_some_and(Line::is_full) && self.holds(fingerprint.0))
        }));
    }

    fn partition(&self, fingerprint: u128) -> Option<&Partition> {
        self.partitions.get(partition_of(fingerprint))
    }

    /// What an id is looked up by.
    pub(crate) fn fingerprint_of(&self, id: &str) -> Fingerprint {
        Fingerprint(self.fingerprint(id))
    }

    fn holds(&self, fingerprint: u128) -> bool {
        self.partition(fingerprint).is_some_and(|partition| partition.contains(fingerprint))
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
        let lines: usize = self.partitions.iter().map(|partition| partition.lines.len()).sum();
        lines * size_of::<Line>() + self.partitions.capacity() * size_of::<Partition>() + size_of::<Self>()
    }

    /// The key, and a sum over everyone under it: sets of the same patients under one key have the same.
    pub(crate) fn digest(&self) -> ([u8; 16], u128) {
        let taken = self.partitions.iter().flat_map(|partition| taken(&partition.lines));
        let sum = taken.fold(0, u128::wrapping_add);
        (self.hasher.key(), sum)
    }

    /// An empty set under the same key, whose entries can be [moved](Self::append) here.
    pub(super) fn sibling(&self) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Partition::default()).collect();
        Self { hasher: self.hasher, partitions, len: 0, limit: self.limit }
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
            for fingerprint in taken(&others.lines) {
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

/// Places that lie in one line of the cache; free ones are behind those that are taken.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u128; PLACES_IN_LINE]);

impl Line {
    const FREE: Self = Self([FREE; PLACES_IN_LINE]);

    /// Whether the fingerprint is in it; looks at every place, which is quicker than to branch.
    fn holds(&self, fingerprint: u128) -> bool {
        self.0.iter().fold(false, |found, &place| found | (place == fingerprint))
    }

    const fn first(&self) -> u128 {
        let [first, ..] = self.0;
        first
    }

    fn is_full(&self) -> bool {
        let [.., last] = self.0;
        last != FREE
    }
}

/// An open-addressed table with linear probing, line by line.
#[derive(Clone, Default)]
struct Partition {
    lines: Box<[Line]>,
    len: usize,
}

impl Partition {
    fn contains(&self, fingerprint: u128) -> bool {
        self.way(fingerprint).any(|line| line.holds(fingerprint))
    }

    fn insert(&mut self, fingerprint: u128) -> bool {
        if self.contains(fingerprint) {
            return false;
        }
        if (self.len + 1) * 3 > self.lines.len() * PLACES_IN_LINE * 2 {
            self.grow_to((self.lines.len() + self.lines.len() / 2).max(self.lines.len() + 1));
        }
        self.put(fingerprint);
        self.len += 1;
        true
    }

    /// Makes room for so many more at once: entries that come in the order of another table would pile up in front of
    /// a table that grows under way.
    fn reserve(&mut self, additional: usize) {
        let needed = ((self.len + additional) * 3 / 2 + 1).div_ceil(PLACES_IN_LINE);
        if needed > self.lines.len() {
            self.grow_to(needed);
        }
    }

    fn grow_to(&mut self, lines: usize) {
        let old = std::mem::replace(&mut self.lines, vec![Line::FREE; lines].into_boxed_slice());
        for fingerprint in taken(&old) {
            self.put(fingerprint);
        }
    }

    /// Puts in what isn't there, into a table that has a free place.
    fn put(&mut self, fingerprint: u128) {
        let (before, after) = self.lines.split_at_mut(home(fingerprint, self.lines.len()));
        let mut places = after.iter_mut().chain(before).flat_map(|line| &mut line.0);
        if let Some(place) = places.find(|place| **place == FREE) {
            *place = fingerprint;
        }
    }

    /// The line where a fingerprint belongs; `None` only of a table without places.
    fn home(&self, fingerprint: u128) -> Option<&Line> {
        self.lines.get(home(fingerprint, self.lines.len()))
    }

    /// The lines that a fingerprint may be in: from where it belongs to the first that isn't full.
    fn way(&self, fingerprint: u128) -> impl Iterator<Item = &Line> {
        let (before, after) = self.lines.split_at(home(fingerprint, self.lines.len()));
        let mut behind_free = false;
        after.iter().chain(before).take_while(move |line| !std::mem::replace(&mut behind_free, !line.is_full()))
    }
}

/// The fingerprints in a table.
fn taken(lines: &[Line]) -> impl Iterator<Item = u128> {
    lines.iter().flat_map(|line| line.0).filter(|&place| place != FREE)
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
                let largest = set.partitions.iter().map(|partition| partition.lines.len()).max().unwrap();
                assert!(set.memory_bytes() + largest * 64 * 3 / 2 <= 40 * set.len(), "while growing at {}", set.len());
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
            let mut held = vec![true];
            set.contain(first.iter().chain(&probes).map(String::as_str), &mut held);
            let expected: Vec<bool> = first.iter().chain(&probes).map(|id| model.contains(id)).collect();
            prop_assert_eq!(&held, &expected);
            let asked: Vec<_> = first.iter().chain(&probes).map(|id| set.fingerprint_of(id)).collect();
            set.hold(&asked, &mut held);
            prop_assert_eq!(held, expected);
            set.clear();
            prop_assert!(set.is_empty() && !first.iter().any(|id| set.contains(id)));
        }
    }
}
