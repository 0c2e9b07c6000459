//! One object, checked as its bytes come.

use std::sync::Arc;

use bytes::Bytes;

use super::duplicates::Seen;
use super::members::Members;
use super::{ObjectCheck, Problem};
use crate::job::manifest::{OutputFile, to_base64};
use crate::resource::{References, ScanPlan, scan};
use crate::writer::Crc64;

/// So many lines are told one by one.
const TOLD_LINES: usize = 10;

/// A line that is longer isn't looked at: four times the longest that a budget of 1 GiB lets through.
const MAX_LINE_BYTES: usize = 1 << 30;

/// Checks one object against its entry in the manifest.
#[derive(Debug)]
pub(super) struct Checker {
    expected: OutputFile,
    url: String,
    crc: Crc64,
    members: Option<Members>,
    gzip_fault: Option<String>,
    lines: Lines,
}

impl Checker {
    pub(super) fn new(expected: &OutputFile, url: String, seen: Option<Arc<Seen>>) -> Self {
        let lines = Lines {
            key: expected.extension.key.clone(),
            resource_type: expected.resource_type.clone(),
            open: Vec::new(),
            count: 0,
            bytes: 0,
            wrong: Vec::new(),
            more_wrong: 0,
            plan: ScanPlan::default(),
            references: References::new(),
            seen,
        };
        let members = expected.extension.key.ends_with(".gz").then(Members::new);
        Self { expected: expected.clone(), url, crc: Crc64::default(), members, gzip_fault: None, lines }
    }

    /// Takes the next bytes of the object.
    pub(super) fn take(&mut self, chunk: &Bytes) {
        self.crc = self.crc.then(Crc64::of([chunk]));
        let Self { members, gzip_fault, lines, .. } = self;
        let Some(members) = members else { return lines.take(chunk) };
        if gzip_fault.is_some() {
            return;
        }
        let mut cut = false;
        let pushed = members.push(chunk, |text, is_end| {
            lines.take(text);
            cut |= is_end && !lines.open.is_empty();
        });
        *gzip_fault = match pushed {
            Err(reason) => Some(reason),
            Ok(()) if cut => Some("a member ends within a line".to_owned()),
            Ok(()) => None,
        };
    }

    /// Says that there is no more.
    pub(super) fn finish(mut self) -> ObjectCheck {
        if let Some(members) = &self.members
            && self.gzip_fault.is_none()
        {
            self.gzip_fault = members.finish().err();
        }
        self.lines.finish();
        let extension = &self.expected.extension;
        let mut problems = Vec::new();
        let mut compare = |what, expected, found| {
            if expected != found {
                problems.push(Problem::Number { what, expected, found });
            }
        };
        compare("bytes", extension.bytes, self.crc.length_bytes());
        compare("lines", self.expected.count, self.lines.count);
        if self.members.is_some() || extension.bytes == self.crc.length_bytes() {
            compare("bytes of lines", extension.line_bytes, self.lines.bytes);
        }
        let found = to_base64(self.crc);
        if found != extension.crc64nvme {
            problems.push(Problem::Checksum { expected: extension.crc64nvme.clone(), found });
        }
        problems.extend(self.gzip_fault.map(Problem::Gzip));
        problems.extend(self.lines.wrong);
        if self.lines.more_wrong > 0 {
            problems.push(Problem::MoreLines(self.lines.more_wrong));
        }
        ObjectCheck {
            key: self.lines.key,
            url: self.url,
            bytes: self.crc.length_bytes(),
            lines: self.lines.count,
            problems,
        }
    }
}

/// The lines of an object.
#[derive(Debug)]
struct Lines {
    key: String,
    resource_type: String,
    /// A line whose end hasn't come yet.
    open: Vec<u8>,
    count: u64,
    bytes: u64,
    wrong: Vec<Problem>,
    more_wrong: u64,
    plan: ScanPlan,
    references: References,
    seen: Option<Arc<Seen>>,
}

impl Lines {
    fn take(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        let mut rest = text;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.open.is_empty() {
                self.line(line);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.open);
                self.line(&line);
                self.open = line;
                self.open.clear();
            }
        }
        self.keep(rest);
    }

    /// Keeps what a line has so far, up to a byte beyond the limit.
    fn keep(&mut self, piece: &[u8]) {
        let room = (MAX_LINE_BYTES + 1).saturating_sub(self.open.len());
        self.open.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn finish(&mut self) {
        if !self.open.is_empty() {
            let line = std::mem::take(&mut self.open);
            self.line(&line);
            self.wrong("it has no line feed".to_owned());
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.count += 1;
        if line.len() > MAX_LINE_BYTES {
            return self.wrong("it is longer than 1 GiB".to_owned());
        }
        if !line.starts_with(b"{") || !line.ends_with(b"}") {
            return self.wrong("it isn't a JSON object from its first byte to its last".to_owned());
        }
        let facts = match scan(line, &self.plan, &mut self.references) {
            Ok(facts) => facts,
            Err(defect) => return self.wrong(defect.to_string()),
        };
        if facts.resource_type != self.resource_type.as_str() {
            let reason = format!("it is of type {}, not {}", facts.resource_type, self.resource_type);
            return self.wrong(reason);
        }
        if let (Some(seen), Some(id)) = (&self.seen, &facts.id) {
            seen.see(&facts.resource_type, id, &self.key, self.count);
        }
    }

    fn wrong(&mut self, reason: String) {
        if self.wrong.len() < TOLD_LINES {
            self.wrong.push(Problem::Line { number: self.count, reason });
        } else {
            self.more_wrong += 1;
        }
    }
}
