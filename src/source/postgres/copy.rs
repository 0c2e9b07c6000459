//! `COPY … (FORMAT binary)`: rows out of chunks that are cut anywhere, without an allocation for each.
//!
//! Source: <https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format".

use crate::error::{Error, ErrorKind, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the length of what may be added to the header.
const HEADER_BYTES: usize = 19;

/// What a chunk held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A row: its fields, `None` for NULL.
    Row([Option<&'a [u8]>; 3]),
    /// The end of all rows.
    End,
}

/// Where in the data the next chunk begins.
#[derive(Debug, Default)]
pub(super) struct CopyReader {
    /// The beginning of a row whose end hasn't come yet.
    held: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
}

/// Rows of one chunk.
pub(super) struct Rows<'a> {
    data: &'a [u8],
    position: usize,
    fields: usize,
}

impl CopyReader {
    /// The rows of what was held and the next chunk. When they are read, [`keep`](Self::keep) what is left.
    ///
    /// # Errors
    /// When the data isn't what it should be.
    pub(super) fn rows<'a>(&'a mut self, chunk: &'a [u8], fields: usize) -> Result<Rows<'a>> {
        if !self.held.is_empty() {
            self.held.extend_from_slice(chunk);
        }
        let data = if self.held.is_empty() { chunk } else { self.held.as_slice() };
        let mut position = 0;
        if !self.has_begun {
            // There is no row before all of the header has come.
            let Some(header) = data.get(..HEADER_BYTES) else { return Ok(Rows { data: &[], position, fields }) };
            if !header.starts_with(SIGNATURE) || header.get(SIGNATURE.len()..) != Some(&[0; 8]) {
                return Err(damaged());
            }
            self.has_begun = true;
            position = HEADER_BYTES;
        }
        Ok(Rows { data, position, fields })
    }

    /// Keeps what a chunk left behind this position of its rows.
    pub(super) fn keep(&mut self, chunk: &[u8], position: usize) {
        if self.held.is_empty() {
            self.held.extend_from_slice(chunk.get(position..).unwrap_or_default());
        } else {
            self.held.drain(..position.min(self.held.len()));
        }
    }

    /// Notes that the end has come.
    pub(super) const fn end(&mut self) {
        self.has_ended = true;
    }

    /// # Errors
    /// When the data has stopped before its end.
    pub(super) fn finish(&self) -> Result<()> {
        if self.has_ended { Ok(()) } else { Err(damaged()) }
    }
}

impl<'a> Rows<'a> {
    /// How far the data was read.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// The next row; `None` if the data doesn't hold all of it.
    ///
    /// # Errors
    /// When the data isn't what it should be.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'a>>> {
        let Some((count, mut rest)) = split_number::<2>(self.data.get(self.position..).unwrap_or_default()) else {
            return Ok(None);
        };
        let count = i16::from_be_bytes(count);
        if count == -1 {
            self.position = self.data.len();
            return Ok(Some(Piece::End));
        }
        if usize::try_from(count) != Ok(self.fields) {
            return Err(damaged());
        }
        let mut fields = [None; 3];
        for field in fields.iter_mut().take(self.fields) {
            let Some((length, behind)) = split_number::<4>(rest) else { return Ok(None) };
            let length = i32::from_be_bytes(length);
            rest = behind;
            if length == -1 {
                continue;
            }
            let length = usize::try_from(length).map_err(|_| damaged())?;
            let Some((value, behind)) = rest.split_at_checked(length) else { return Ok(None) };
            *field = Some(value);
            rest = behind;
        }
        self.position = self.data.len() - rest.len();
        Ok(Some(Piece::Row(fields)))
    }
}

fn split_number<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    let (number, rest) = data.split_first_chunk::<N>()?;
    Some((*number, rest))
}

#[cold]
fn damaged() -> Error {
    Error::new(ErrorKind::Source, "the database sends something else than rows")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut data = SIGNATURE.to_vec();
        data.extend_from_slice(&[0; 8]);
        for row in rows {
            data.extend_from_slice(&i16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                match field {
                    None => data.extend_from_slice(&(-1i32).to_be_bytes()),
                    Some(value) => {
                        data.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
                        data.extend_from_slice(value);
                    }
                }
            }
        }
        data.extend_from_slice(&(-1i16).to_be_bytes());
        data
    }

    fn read(chunks: &[&[u8]], fields: usize) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let (mut reader, mut read) = (CopyReader::default(), Vec::new());
        for chunk in chunks {
            let mut rows = reader.rows(chunk, fields)?;
            let mut ended = false;
            while let Some(piece) = rows.next()? {
                match piece {
                    Piece::Row(row) => read.push(row[..fields].iter().map(|field| field.map(<[u8]>::to_vec)).collect()),
                    Piece::End => {
                        ended = true;
                        break;
                    }
                }
            }
            let position = rows.position();
            if ended {
                reader.end();
            }
            reader.keep(chunk, position);
        }
        reader.finish().map(|()| read)
    }

    proptest! {
        #[test]
        fn rows_are_read_however_they_are_cut(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 3), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let data = encoded(&rows);
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).chain([0, data.len()]).collect();
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks, 3).unwrap(), rows);
            let cut = &data[..data.len() - 2];
            prop_assert!(read(&[cut], 3).is_err());
        }

        #[test]
        fn nothing_that_is_sent_makes_it_panic(data in prop::collection::vec(any::<u8>(), 0..60), is_header in any::<bool>()) {
            let mut all = if is_header { encoded(&[])[..HEADER_BYTES].to_vec() } else { Vec::new() };
            all.extend(data);
            drop(read(&[&all], 2));
        }
    }
}
