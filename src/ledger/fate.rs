//! What can become of a resource that was read: one closed list.

use std::fmt;

/// What became of a resource that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is in an object.
    Written,
    /// The request or the embedder left it out.
    Excluded(Exclusion),
    /// It couldn't be understood.
    Quarantined,
    /// It was read, but the job ended before it was durable.
    Cut,
    /// After the snapshot was lost: it was replaced by a version stamped after T.
    Superseded,
}

/// Why a resource was left out; the first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exclusion {
    /// The source marks it as deleted.
    Deleted,
    /// Its type wasn't asked for.
    Type,
    /// It was last modified before `_since`.
    Since,
    /// It was last modified after `_until`, or has no time.
    Until,
    /// It is stamped after the transaction time and comes with the next export.
    AfterT,
    /// It is outside the level or the cohort.
    Scope,
    /// A filter of the request left it out.
    Filter,
    /// The embedder's own rule left it out.
    Policy,
}

impl Exclusion {
    /// All reasons, in the order in which they are tried.
    pub const ALL: [Self; 8] =
        [Self::Deleted, Self::Type, Self::Since, Self::Until, Self::AfterT, Self::Scope, Self::Filter, Self::Policy];

    /// The name in manifests, metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Type => "type",
            Self::Since => "since",
            Self::Until => "until",
            Self::AfterT => "after-T",
            Self::Scope => "scope",
            Self::Filter => "filter",
            Self::Policy => "policy",
        }
    }

    /// The place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exclusion_stands_at_its_index() {
        for (index, exclusion) in Exclusion::ALL.into_iter().enumerate() {
            assert_eq!(exclusion.index(), index);
        }
    }
}
