//! Objects: from lines to durable parts.
//!
//! Lines are appended to the open part of their object, as slices of a block or copied into batches. A full part goes
//! on its way; the flight pool says how many may be. The writer knows bytes, counts and keys, nothing of JSON and
//! nothing of sources.
//!
//! Why parts aren't flushed after some time: only full parts bound the number of requests, and a slow source holds
//! little memory anyway.

mod accumulator;
mod activity;
mod checksum;
mod courier;
mod gzip;
mod journal;
mod naming;
mod object;
mod open_object;
mod part_size;
mod report;
mod room;
mod settings;
mod spill;
mod writers;

pub use activity::WaitsFor;
pub use checksum::Crc64;
pub use journal::{DurablePart, Entry, Journal, ObjectName, WholeObject};
pub use naming::{Content, Layout, Naming};
pub use part_size::PartSizing;
pub use report::{Leftover, ObjectOutcome, ObjectReport, SequenceReason};
pub use settings::{Compression, Split, WriterSettings};
pub use spill::SpillArea;

pub(crate) use activity::Activity;
pub(crate) use courier::Courier;
pub(crate) use gzip::MEMBER_BYTES;
pub(crate) use open_object::ResumedObject;
pub(crate) use writers::{Ending, Lines, Start, Writers};
