//! What every destination must do, as one suite that each of ours passes, and an embedder's own can.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::PutPayload;

use super::{Destination, ObjectKey, StoredObject};
use crate::error::ErrorKind;

/// Checks that a destination keeps the contract of [`Destination`] and [`Upload`](super::Upload).
///
/// It writes below `contract-suite/` and leaves nothing there.
///
/// # Panics
/// When it doesn't.
pub async fn check(destination: &dyn Destination) {
    a_small_object_is_put_and_read_back(destination).await;
    an_object_of_parts_appears_when_it_is_complete(destination).await;
    parts_may_come_in_any_order(destination).await;
    a_part_may_be_sent_again(destination).await;
    an_aborted_upload_leaves_nothing(destination).await;
    an_upload_without_all_of_its_parts_is_refused(destination).await;
    a_listing_is_in_byte_order(destination).await;
    deleting_nothing_is_no_error(destination).await;
    an_upload_can_be_opened_again(destination).await;
    nothing_is_left(destination).await;
}

const FOLDER: &str = "contract-suite/";

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(format!("{FOLDER}{name}")).expect("a valid key")
}

/// A part of the least size, cut in uneven chunks, whose bytes tell its number.
fn part(destination: &dyn Destination, number: u32) -> PutPayload {
    let size = destination.capabilities().min_part_bytes.max(1) + number as usize;
    let size = if destination.capabilities().equal_parts { size - number as usize } else { size };
    let bytes: Bytes = number.to_le_bytes().into_iter().cycle().take(size).collect::<Vec<_>>().into();
    let third = size / 3;
    PutPayload::from_iter([bytes.slice(..third), Bytes::new(), bytes.slice(third..)])
}

fn flat(payloads: &[PutPayload]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| payload.iter()).flat_map(|chunk| chunk.iter().copied()).collect()
}

async fn read(destination: &dyn Destination, key: &ObjectKey) -> Vec<u8> {
    let chunks: Vec<Bytes> = destination.get(key).await.expect("get").try_collect().await.expect("read to the end");
    chunks.concat()
}

async fn open_keys(destination: &dyn Destination) -> Option<Vec<ObjectKey>> {
    let open = destination.open_uploads(FOLDER).await.expect("open uploads");
    open.map(|open| open.into_iter().map(|upload| upload.key).collect())
}

async fn a_small_object_is_put_and_read_back(destination: &dyn Destination) {
    let key = key("small.ndjson");
    assert_eq!(destination.size_bytes(&key).await.expect("size"), None);
    let missing = destination.get(&key).await.map(|_| ()).expect_err("there is nothing to get");
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    destination.put(&key, PutPayload::from_iter([Bytes::from("one\n"), Bytes::from("two\n")])).await.expect("put");
    assert_eq!(destination.size_bytes(&key).await.expect("size"), Some(8));
    assert_eq!(read(destination, &key).await, b"one\ntwo\n");
    destination.delete(&key).await.expect("delete");
    assert_eq!(destination.size_bytes(&key).await.expect("size"), None);
}

async fn an_object_of_parts_appears_when_it_is_complete(destination: &dyn Destination) {
    let key = key("Patient/parts.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let payloads = [part(destination, 1), part(destination, 2), PutPayload::from("end\n")];
    let mut ids = Vec::new();
    for (number, payload) in (1..).zip(&payloads) {
        ids.push(upload.put_part(number, payload.clone()).await.expect("put part"));
    }
    assert_eq!(destination.size_bytes(&key).await.expect("size"), None, "visible before complete");
    assert_eq!(destination.list(FOLDER).await.expect("list"), [], "listed before complete");
    if let Some(open) = open_keys(destination).await {
        assert_eq!(open, std::slice::from_ref(&key));
    }
    if let Some(stored) = upload.parts().await.expect("parts") {
        let sizes: Vec<_> = stored.iter().map(|part| (part.number, part.size_bytes)).collect();
        let sent: Vec<_> = (1..).zip(payloads.iter().map(|payload| payload.content_length() as u64)).collect();
        assert_eq!(sizes, sent);
    }
    upload.complete(&ids).await.expect("complete");
    assert_eq!(read(destination, &key).await, flat(&payloads));
    if let Some(open) = open_keys(destination).await {
        assert_eq!(open, [], "open after complete");
    }
    destination.delete(&key).await.expect("delete");
}

async fn parts_may_come_in_any_order(destination: &dyn Destination) {
    let key = key("any-order.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let payloads = [part(destination, 1), part(destination, 2), PutPayload::from("end\n")];
    let third = upload.put_part(3, payloads[2].clone()).await.expect("put part 3");
    let (second, first) =
        futures::join!(upload.put_part(2, payloads[1].clone()), upload.put_part(1, payloads[0].clone()));
    let ids = [first.expect("put part 1"), second.expect("put part 2"), third];
    upload.complete(&ids).await.expect("complete");
    assert_eq!(read(destination, &key).await, flat(&payloads));
    destination.delete(&key).await.expect("delete");
}

async fn a_part_may_be_sent_again(destination: &dyn Destination) {
    let key = key("again.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let payloads = [part(destination, 1), PutPayload::from("end\n")];
    upload.put_part(1, payloads[0].clone()).await.expect("put part 1");
    let second = upload.put_part(2, payloads[1].clone()).await.expect("put part 2");
    let first = upload.put_part(1, payloads[0].clone()).await.expect("put part 1 again");
    upload.complete(&[first, second]).await.expect("complete");
    assert_eq!(read(destination, &key).await, flat(&payloads));
    destination.delete(&key).await.expect("delete");
}

async fn an_aborted_upload_leaves_nothing(destination: &dyn Destination) {
    let key = key("Observation/aborted.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let id = upload.put_part(1, part(destination, 1)).await.expect("put part");
    upload.abort().await.expect("abort");
    upload.abort().await.expect("abort again");
    if let Some(open) = open_keys(destination).await {
        assert_eq!(open, [], "open after abort");
    }
    assert!(upload.put_part(2, PutPayload::from("late")).await.is_err(), "a part after abort is refused");
    assert!(upload.complete(&[id]).await.is_err(), "complete after abort is refused");
    assert_eq!(destination.size_bytes(&key).await.expect("size"), None);
}

async fn an_upload_without_all_of_its_parts_is_refused(destination: &dyn Destination) {
    let key = key("hole.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let first = upload.put_part(1, part(destination, 1)).await.expect("put part 1");
    let third = upload.put_part(3, PutPayload::from("end\n")).await.expect("put part 3");
    assert!(upload.complete(&[first, third]).await.is_err(), "a hole is refused");
    assert_eq!(destination.size_bytes(&key).await.expect("size"), None);
    upload.abort().await.expect("abort");
}

async fn a_listing_is_in_byte_order(destination: &dyn Destination) {
    let names = ["a/b.ndjson", "a-b/c.ndjson", "Z.ndjson", "a.ndjson", "ab.ndjson"];
    for name in names {
        destination.put(&key(name), PutPayload::from("x\n")).await.expect("put");
    }
    let listed = destination.list(FOLDER).await.expect("list");
    let mut expected = names.map(|name| StoredObject { key: key(name), size_bytes: 2 });
    expected.sort_by(|a, b| a.key.as_str().as_bytes().cmp(b.key.as_str().as_bytes()));
    assert_eq!(listed, expected);
    let below = destination.list(&format!("{FOLDER}a/")).await.expect("list");
    assert_eq!(below.iter().map(|object| object.key.clone()).collect::<Vec<_>>(), [key("a/b.ndjson")]);
    for name in names {
        destination.delete(&key(name)).await.expect("delete");
    }
}

async fn deleting_nothing_is_no_error(destination: &dyn Destination) {
    destination.delete(&key("never/was.ndjson")).await.expect("delete");
}

async fn an_upload_can_be_opened_again(destination: &dyn Destination) {
    let key = key("reopened.ndjson");
    let upload = destination.begin(&key).await.expect("begin");
    let payloads = [part(destination, 1), PutPayload::from("end\n")];
    let first = upload.put_part(1, payloads[0].clone()).await.expect("put part 1");
    let id = upload.id().to_owned();
    drop(upload);
    let upload = destination.reopen(&key, &id).await.expect("reopen");
    assert_eq!(upload.id(), id);
    let second = upload.put_part(2, payloads[1].clone()).await.expect("put part 2");
    upload.complete(&[first, second]).await.expect("complete");
    assert_eq!(read(destination, &key).await, flat(&payloads));
    destination.delete(&key).await.expect("delete");
}

async fn nothing_is_left(destination: &dyn Destination) {
    assert_eq!(destination.list(FOLDER).await.expect("list"), []);
    if let Some(open) = open_keys(destination).await {
        assert_eq!(open, []);
    }
}
