//! From a journal back to a running job.
//!
//! What is read again is bounded. Of each type everything up to its *mark* is durable: the end of the longest row of
//! parts without a hole. A range of the snapshot is read
//!
//! - not at all, if everything in it is before the marks of its types;
//! - from a mark in it, if everything before that is of the mark's own type, and none of it in quarantine: so a file of
//!   one type is read again from its last durable part;
//! - else from its start, and each type is passed over up to its mark.
//!
//! Which types a range holds is known from the journal: after ranges with 4 MiB of resources or more the rows that have
//! changed are noted. So for files of one type each, what is read again is at most, per type, the open part and those on
//! their way, and 4 MiB of small files; of a mixed file it is the file. What was stored and not noted is sent again.

mod ranges;
mod reconcile;
mod replay;

pub(super) use reconcile::{Progressed, reconcile};
pub(super) use replay::{durable_bytes, open_uploads_of};
