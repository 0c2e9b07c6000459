//! Compressed files, whole, cut and mangled, against flate2's own reader.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use fhir_export::ErrorKind;
use fhir_export::source::{Asked, Cursor, NdjsonSource, Source as _, contract};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::wait_for;

/// The first byte says how the file is made of the rest, the second how many bytes are read at once.
pub fn gunzip(data: &[u8]) {
    let [how, block_bytes, rest @ ..] = data else { return };
    let file = match how % 4 {
        0 => rest.to_vec(),
        1 => packed(rest),
        2 => mangled(rest),
        _ => [packed(rest), vec![0; usize::from(how / 4)]].concat(),
    };
    let (bytes, result) = wait_for(read(&file, usize::from(*block_bytes)));
    match (result, expected(&file)) {
        (Ok(()), Some(expected)) => assert_eq!(bytes, expected),
        (Ok(()), None) => panic!("a file that can't be decompressed was read to its end"),
        (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Unreadable, "{error:#}"),
        (Err(error), Some(_)) => panic!("a sound file can't be read: {error:#}"),
    }
}

async fn read(file: &[u8], block_bytes: usize) -> (Vec<u8>, fhir_export::Result<()>) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&Path::from("a.ndjson.gz"), file.to_vec().into()).await.expect("memory takes it");
    let source = NdjsonSource::object_prefix(store, Path::default(), "memory").block_bytes(block_bytes);
    let snapshot = source.open().await.expect("there is a file");
    let plan = snapshot.plan(&Asked::default()).await;
    let ranges = plan.expect("memory can be listed").ranges;
    let [range] = ranges.as_slice() else { panic!("one file is one range: {ranges:?}") };
    let (collected, result) = contract::read(&*snapshot, range, &Cursor::start()).await;
    (collected.bytes().to_vec(), result)
}

/// Members, one for each piece between `0xFF`.
fn packed(content: &[u8]) -> Vec<u8> {
    let pack = |piece: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(piece).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    content.split(|byte| *byte == 0xFF).map(pack).collect::<Vec<_>>().concat()
}

/// A packed file of which a byte is another, or that ends early.
fn mangled(content: &[u8]) -> Vec<u8> {
    let [high, low, mask, content @ ..] = content else { return content.to_vec() };
    let mut file = packed(content);
    let place = usize::from(u16::from_be_bytes([*high, *low])) % file.len();
    if *mask == 0 {
        file.truncate(place);
    } else {
        file[place] ^= mask;
    }
    file
}

/// What a file decompresses to; zeros may follow the last member.
fn expected(file: &[u8]) -> Option<Vec<u8>> {
    let zeros = file.iter().rev().take_while(|byte| **byte == 0).count();
    (0..=zeros).find_map(|padding| {
        let mut bytes = Vec::new();
        let members = &file[..file.len() - padding];
        if members.is_empty() {
            return (padding == 0).then_some(bytes);
        }
        MultiGzDecoder::new(members).read_to_end(&mut bytes).ok().map(|_| bytes)
    })
}
