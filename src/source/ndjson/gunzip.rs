//! Gzip, member by member, pushed from one slice into another.
//!
//! flate2's readers pull, which doesn't go with bytes that arrive asynchronously; this pushes, so one decoder serves
//! files and object stores. The end of the file is looked at closely: an unfinished member or anything but zero
//! padding behind the last one is a fault.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::Error;

/// Largest window of gzip, as a power of two.
const WINDOW_BITS: u8 = 15;

/// First byte of a member. Source: RFC 1952, section 2.3.1.
const MAGIC: u8 = 0x1F;

/// Decompressed bytes that are let through before the expansion is looked at: small files may repeat themselves.
const FREE_BYTES: u64 = 16 << 20;

/// How much is thrown away at once, in bytes, where a file is read from a later place.
const SKIP_AT_ONCE_BYTES: usize = 64 << 10;

/// Decompresses one file.
#[derive(Debug)]
pub(super) struct Gunzip {
    inflate: Decompress,
    place: Place,
    taken_bytes: u64,
    made_bytes: u64,
    max_expansion: u64,
    free_bytes: u64,
    /// How much of what is made is still to be thrown away, and where it goes.
    skip_bytes: u64,
    skipped: Vec<u8>,
}

/// Where in the file the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Member,
    Between,
    Padding,
}

/// How far one step came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) taken: usize,
    pub(super) made: usize,
}

/// Why a file can't be decompressed further.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    cause: Option<flate2::DecompressError>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None }
    }
}

impl Gunzip {
    pub(super) fn new(max_expansion: u32) -> Self {
        Self {
            inflate: Decompress::new_gzip(WINDOW_BITS),
            place: Place::Start,
            taken_bytes: 0,
            made_bytes: 0,
            max_expansion: u64::from(max_expansion),
            free_bytes: FREE_BYTES,
            skip_bytes: 0,
            skipped: Vec::new(),
        }
    }

    /// Throws the first bytes away: a member can't be entered in the middle.
    pub(super) fn skipping(mut self, skip_bytes: u64) -> Self {
        self.skip_bytes = skip_bytes;
        self.skipped = vec![0; usize::try_from(skip_bytes).unwrap_or(SKIP_AT_ONCE_BYTES).min(SKIP_AT_ONCE_BYTES)];
        self
    }

    /// Takes bytes in and puts bytes out, until one of both is used up.
    ///
    /// What was made before a fault is counted in `step`.
    pub(super) fn advance(&mut self, input: &[u8], output: &mut [u8], step: &mut Step) -> Result<(), Fault> {
        loop {
            let rest = input.get(step.taken..).unwrap_or_default();
            let room = output.get_mut(step.made..).unwrap_or_default();
            // Also without input: the decoder holds back output for which there was no room.
            if self.place == Place::Member {
                if (room.is_empty() && self.skip_bytes == 0) || !self.inflate(rest, room, step)? {
                    return Ok(());
                }
                continue;
            }
            let Some(&first) = rest.first() else { return Ok(()) };
            match (self.place, first) {
                (Place::Between, 0) => self.place = Place::Padding,
                (Place::Start | Place::Between, MAGIC) => {
                    self.inflate.reset(true);
                    self.place = Place::Member;
                }
                (Place::Start, _) => return Err(Fault::new("it is no gzip file")),
                (Place::Padding, 0) => {
                    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                    step.taken += zeros;
                    self.taken_bytes += zeros as u64;
                }
                (Place::Member | Place::Between | Place::Padding, _) => {
                    return Err(Fault::new("something that is no gzip member follows the last one"));
                }
            }
        }
    }

    /// Decompresses within a member and tells whether it is worth going on.
    fn inflate(&mut self, input: &[u8], output: &mut [u8], step: &mut Step) -> Result<bool, Fault> {
        let (taken_before, made_before) = (self.inflate.total_in(), self.inflate.total_out());
        let skipping = self.skip_bytes > 0;
        let room = if skipping {
            let most = self.skipped.len().min(usize::try_from(self.skip_bytes).unwrap_or(usize::MAX));
            self.skipped.get_mut(..most).unwrap_or_default()
        } else {
            output
        };
        let answer = self.inflate.decompress(input, room, FlushDecompress::None);
        let taken = usize::try_from(self.inflate.total_in() - taken_before).unwrap_or(0);
        let made = usize::try_from(self.inflate.total_out() - made_before).unwrap_or(0);
        step.taken += taken;
        self.taken_bytes += taken as u64;
        self.made_bytes += made as u64;
        if skipping {
            self.skip_bytes -= made as u64;
        } else {
            step.made += made;
        }
        let status =
            answer.map_err(|error| Fault { message: "the gzip member is corrupt".to_owned(), cause: Some(error) })?;
        if self.made_bytes > self.free_bytes.saturating_add(self.taken_bytes.saturating_mul(self.max_expansion)) {
            let limit = self.max_expansion;
            return Err(Fault::new(format!("it decompresses to more than {limit} times its size, the limit")));
        }
        if status == Status::StreamEnd {
            self.place = Place::Between;
            return Ok(true);
        }
        Ok(taken + made > 0)
    }

    /// Says that there is no more input.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        match self.place {
            Place::Member => Err(Fault::new("it ends within a gzip member")),
            _ if self.skip_bytes > 0 => Err(Fault::new("it ends before the place to read on from")),
            Place::Start | Place::Between | Place::Padding => Ok(()),
        }
    }

    /// The fault as the error of a file.
    pub(super) fn error(&self, file: &str, fault: Fault) -> Error {
        let error = super::files::unreadable(file, format!("the file can't be decompressed: {}", fault.message))
            .with("compressed offset", self.taken_bytes)
            .with("offset", self.made_bytes);
        match fault.cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Decompresses in pieces and returns what came, and the fault.
    fn gunzip(mut decoder: Gunzip, file: &[u8], piece: usize, room: usize) -> (Vec<u8>, Result<(), String>) {
        let mut text = Vec::new();
        let mut output = vec![0; room];
        for input in file.chunks(piece).chain([&[][..]]) {
            let mut taken = 0;
            loop {
                let mut step = Step::default();
                let answer = decoder.advance(&input[taken..], &mut output, &mut step);
                text.extend_from_slice(&output[..step.made]);
                taken += step.taken;
                if let Err(fault) = answer {
                    return (text, Err(fault.message));
                }
                if step.made < room && taken == input.len() {
                    break;
                }
            }
        }
        (text, decoder.finish().map_err(|fault| fault.message))
    }

    fn whole(file: &[u8]) -> (Vec<u8>, Result<(), String>) {
        gunzip(Gunzip::new(250), file, usize::MAX, 64)
    }

    proptest! {
        #[test]
        fn members_come_out_joined_in_pieces_of_any_size(
            texts in prop::collection::vec(prop::collection::vec(0u8..4, 0..200), 0..4),
            piece in 1usize..50,
            room in 1usize..50,
            padding in 0usize..9,
        ) {
            let mut file: Vec<u8> = texts.iter().flat_map(|text| member(text)).collect();
            if !file.is_empty() {
                file.extend(vec![0; padding]);
            }
            let (text, result) = gunzip(Gunzip::new(250), &file, piece, room);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(text, texts.concat());
        }

        #[test]
        fn a_file_cut_anywhere_within_a_member_is_a_fault(cut in 1usize..100) {
            let text: Vec<u8> = (0..=255).collect();
            let file = member(&text);
            let cut = cut % (file.len() - 1) + 1;
            let (got, result) = whole(&file[..cut]);
            prop_assert_eq!(result, Err("it ends within a gzip member".to_owned()));
            prop_assert!(text.starts_with(&got));
        }

        #[test]
        fn a_changed_byte_never_goes_unseen(at in 10usize..200, change in 1u8..255) {
            let text: Vec<u8> = (0..=255).collect();
            let mut file = member(&text);
            let at = 10 + at % (file.len() - 10);
            file[at] ^= change;
            prop_assert!(whole(&file).1.is_err());
        }
    }

    #[test]
    fn what_is_skipped_does_not_come_out() {
        let text: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let file = [member(&text[..1000]), member(&text[1000..])].concat();
        for from in [0, 1, 1000, 300_000, text.len()] {
            let (got, result) = gunzip(Gunzip::new(250).skipping(from as u64), &file, 1000, 777);
            assert_eq!((got.as_slice(), result), (&text[from..], Ok(())));
        }
        let (got, result) = gunzip(Gunzip::new(250).skipping(text.len() as u64 + 1), &file, 1000, 777);
        assert_eq!((got, result), (vec![], Err("it ends before the place to read on from".to_owned())));
    }

    #[test]
    fn an_empty_file_is_empty_and_padding_is_no_fault() {
        assert_eq!(whole(b""), (vec![], Ok(())));
        assert_eq!(whole(&[member(b"a\n"), vec![0; 100]].concat()), (b"a\n".to_vec(), Ok(())));
    }

    #[test]
    fn what_is_no_member_is_a_fault_in_any_place() {
        let behind = Err("something that is no gzip member follows the last one".to_owned());
        assert_eq!(whole(b"{\"a\":1}").1, Err("it is no gzip file".to_owned()));
        assert_eq!(whole(&[0; 8]).1, Err("it is no gzip file".to_owned()));
        assert_eq!(whole(&[member(b"a"), b"x".to_vec()].concat()), (b"a".to_vec(), behind.clone()));
        assert_eq!(whole(&[member(b"a"), vec![0, 0], member(b"b")].concat()).1, behind);
        assert_eq!(whole(&[member(b"a"), vec![MAGIC, 1, 2]].concat()).1.unwrap_err(), "the gzip member is corrupt");
    }

    #[test]
    fn a_bomb_is_stopped_soon() {
        let file = member(&vec![b' '; 1 << 20]);
        let mut decoder = Gunzip::new(250);
        decoder.free_bytes = 1000;
        let (text, result) = gunzip(decoder, &file, 64, 1000);
        assert_eq!(result, Err("it decompresses to more than 250 times its size, the limit".to_owned()));
        assert!(text.len() < 40_000, "{}", text.len());
        assert_eq!(whole(&file).1, Ok(()), "a small file may repeat itself");
    }
}
