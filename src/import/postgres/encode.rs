//! Rows as binary `COPY` takes them.
//!
//! Source: <https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{Row, Stamp};
use crate::source::postgres::schema::MALFORMED;

/// Bytes that are sent together.
const CHUNK_BYTES: usize = 256 << 10;

/// Encoded rows.
pub(super) struct Rows {
    full: Vec<Bytes>,
    open: BytesMut,
}

impl Default for Rows {
    fn default() -> Self {
        let mut open = BytesMut::new();
        open.put_slice(b"PGCOPY\n\xff\r\n\0");
        open.put_bytes(0, 8);
        Self { full: Vec::new(), open }
    }
}

impl Rows {
    /// Adds a resource: type, id, updated, beyond, body, and that it hasn't won yet.
    pub(super) fn resource(&mut self, row: &Row<'_>) {
        let (micros, beyond) = match row.stamp {
            Stamp::At(instant) => {
                let (micros, beyond) = instant.to_micros();
                (Some(micros), beyond)
            }
            Stamp::Unknown { is_malformed: true } => (None, MALFORMED.to_owned()),
            Stamp::Unknown { is_malformed: false } => (None, String::new()),
        };
        self.open.put_i16(6);
        self.field(row.resource_type.as_str().as_bytes());
        self.field(row.id.as_bytes());
        match micros {
            Some(micros) => self.field(&micros.to_be_bytes()),
            None => self.open.put_i32(-1),
        }
        self.field(beyond.as_bytes());
        self.field(row.body);
        self.field(&[0]);
        self.split();
    }

    /// Adds a row of texts, and a number behind them if there is one.
    pub(super) fn texts(&mut self, texts: &[&str], number: Option<i64>) {
        let fields = texts.len() + usize::from(number.is_some());
        self.open.put_i16(i16::try_from(fields).unwrap_or_default());
        for text in texts {
            self.field(text.as_bytes());
        }
        if let Some(number) = number {
            self.field(&number.to_be_bytes());
        }
        self.split();
    }

    fn field(&mut self, bytes: &[u8]) {
        self.open.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.open.put_slice(bytes);
    }

    fn split(&mut self) {
        if self.open.len() >= CHUNK_BYTES {
            self.full.push(self.open.split().freeze());
        }
    }

    /// All of it, with its end.
    pub(super) fn finish(&mut self) -> Vec<Bytes> {
        self.open.put_i16(-1);
        self.full.push(self.open.split().freeze());
        std::mem::take(&mut self.full)
    }
}
