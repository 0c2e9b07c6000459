//! A destination whose failed calls are repeated.
//!
//! Repeating is ours, not the store client's: a part is sent again under its number with a fresh signature, each
//! failure is counted by cause, and a store that asks for less gets less. After any error of
//! [`Upload::complete`] the object may be complete all the same: the call is repeated, and the object looked for, until
//! it is known. An upload is never aborted here on suspicion.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::PutPayload;
use tokio::time::{Instant, sleep, timeout};

use super::retry::{RetryCause, RetryCounts, RetryPolicy, Throttle, no_answer};
use super::{Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;

/// The slowest store that [`Upload::complete`] is waited for, in bytes of the object a second.
const SLOWEST_COMPLETE_BYTES_PER_SECOND: u64 = 64 << 20;

/// How often the store may say that it can't complete an upload whose completion had no answer before.
const DEFINITE_ANSWERS: u32 = 5;

/// Repeats the calls of another destination that failed for a passing cause.
///
/// It is for stores behind a network; a local folder doesn't need it. Parts have ids of their own, which hold their
/// size, so an upload that was begun through this must be reopened through it.
#[derive(Debug)]
pub struct Retrying<D: ?Sized> {
    // Before the destination, which may be unsized.
    shared: Shared,
    destination: Arc<D>,
}

#[derive(Clone, Debug)]
struct Shared {
    policy: RetryPolicy,
    counts: Arc<RetryCounts>,
    throttle: Arc<Throttle>,
}

impl<D: Destination + ?Sized> Retrying<D> {
    /// Wraps a destination.
    #[must_use]
    pub fn new(destination: Arc<D>) -> Self {
        let shared = Shared { policy: RetryPolicy::default(), counts: Arc::default(), throttle: Arc::default() };
        Self { shared, destination }
    }

    /// Sets how often and how long.
    #[must_use]
    pub fn with_policy(mut self, policy: RetryPolicy) -> Self {
        self.shared.policy = policy;
        self
    }

    /// How many calls failed, by cause.
    #[must_use]
    pub fn counts(&self) -> Arc<RetryCounts> {
        Arc::clone(&self.shared.counts)
    }

    /// What the store asks of the flight.
    #[must_use]
    pub fn throttle(&self) -> Arc<Throttle> {
        Arc::clone(&self.shared.throttle)
    }

    fn upload(&self, key: &ObjectKey, upload: Box<dyn Upload>) -> Box<dyn Upload>
    where
        D: 'static,
    {
        let destination = Arc::clone(&self.destination);
        Box::new(RetryingUpload { shared: self.shared.clone(), key: key.clone(), upload, destination })
    }
}

impl Shared {
    /// Makes a call until it succeeds, fails for good, or was made often enough.
    async fn repeat<T, F>(&self, what: &str, deadline: Duration, call: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut failures = 0;
        loop {
            let error = match self.once(what, deadline, call()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            if !error.is_retryable() {
                return Err(error);
            }
            if failures >= self.policy.attempts {
                return Err(error.with("attempts", failures));
            }
            tracing::debug!(failures, what, error = format!("{error:#}"), "a request is repeated");
            sleep(self.policy.wait(failures)).await;
        }
    }

    /// Makes one call, in time, and counts its failure.
    async fn once<T>(&self, what: &str, deadline: Duration, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let answer = timeout(deadline, call).await.unwrap_or_else(|_| Err(no_answer(what, deadline)));
        match &answer {
            Ok(_) => self.throttle.succeeded(),
            Err(error) => self.count(error),
        }
        answer
    }

    fn count(&self, error: &Error) {
        let Some(cause) = RetryCause::of(error) else { return };
        self.counts.add(cause);
        metrics::add(&metrics::STORE_FAILURES, &[("cause", cause.as_str())], 1);
        if cause == RetryCause::Throttled {
            self.throttle.throttled();
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<D: Destination + ?Sized + 'static> Destination for Retrying<D> {
    fn capabilities(&self) -> Capabilities {
        self.destination.capabilities()
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        self.shared.throttle.allowed(self.destination.flight_bytes(most_bytes))
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.destination.url(key)
    }

    async fn signed_url(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<String>> {
        let deadline = self.shared.policy.deadline(0);
        self.shared.repeat("signing a URL", deadline, || self.destination.signed_url(key, lifetime)).await
    }

    /// Begins an upload; one whose beginning had no answer may stay open beside it, and
    /// [`open_uploads`](Destination::open_uploads) finds it.
    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let deadline = self.shared.policy.deadline(0);
        let upload = self.shared.repeat("beginning an upload", deadline, || self.destination.begin(key)).await?;
        Ok(self.upload(key, upload))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let deadline = self.shared.policy.deadline(payload.content_length() as u64);
        self.shared.repeat("storing an object", deadline, || self.destination.put(key, payload.clone())).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let deadline = self.shared.policy.listing_for;
        self.shared.repeat("listing objects", deadline, || self.destination.list(folder)).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let deadline = self.shared.policy.deadline(0);
        self.shared.repeat("looking for an object", deadline, || self.destination.size_bytes(key)).await
    }

    /// Reads an object. What was begun to be read isn't repeated, but each piece must come in time.
    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        let deadline = self.shared.policy.deadline(0);
        let pieces = self.shared.repeat("reading an object", deadline, || self.destination.get(key)).await?;
        Ok(in_time(pieces, self.shared.clone()))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let deadline = self.shared.policy.deadline(0);
        self.shared.repeat("removing an object", deadline, || self.destination.delete(key)).await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        let deadline = self.shared.policy.listing_for;
        self.shared.repeat("listing uploads", deadline, || self.destination.open_uploads(folder)).await
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        let deadline = self.shared.policy.listing_for;
        let reopen = || self.destination.reopen(key, upload_id);
        let upload = self.shared.repeat("opening an upload again", deadline, reopen).await?;
        Ok(self.upload(key, upload))
    }
}

/// A stream of which each piece must come in time, and that ends after an error.
fn in_time(pieces: BoxStream<'static, Result<Bytes>>, shared: Shared) -> BoxStream<'static, Result<Bytes>> {
    let next = move |pieces: Option<BoxStream<'static, Result<Bytes>>>| {
        let shared = shared.clone();
        async move {
            let mut pieces = pieces?;
            let next = async { pieces.next().await.transpose() };
            let piece = shared.once("reading an object", shared.policy.deadline(0), next).await.transpose()?;
            let rest = piece.is_ok().then_some(pieces);
            Some((piece, rest))
        }
    };
    stream::unfold(Some(pieces), next).fuse().boxed()
}

struct RetryingUpload<D: ?Sized> {
    shared: Shared,
    key: ObjectKey,
    upload: Box<dyn Upload>,
    destination: Arc<D>,
}

impl<D: ?Sized> std::fmt::Debug for RetryingUpload<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetryingUpload").field("upload", &self.upload).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<D: Destination + ?Sized + 'static> Upload for RetryingUpload<D> {
    fn id(&self) -> &str {
        self.upload.id()
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        let size_bytes = payload.content_length() as u64;
        let deadline = self.shared.policy.deadline(size_bytes);
        let send = || self.upload.put_part(number, payload.clone());
        let PartId(id) = self.shared.repeat("storing a part", deadline, send).await?;
        Ok(PartId(format!("{size_bytes}:{id}")))
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        let mut size_bytes = 0;
        let mut inner = Vec::with_capacity(parts.len());
        for part in parts {
            let (size, id) = self.split(part)?;
            size_bytes += size;
            inner.push(id);
        }
        self.complete_surely(&inner, size_bytes).await
    }

    async fn abort(&self) -> Result<()> {
        let deadline = self.shared.policy.listing_for;
        self.shared.repeat("aborting an upload", deadline, || self.upload.abort()).await
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        let deadline = self.shared.policy.listing_for;
        self.shared.repeat("listing parts", deadline, || self.upload.parts()).await
    }
}

impl<D: Destination + ?Sized + 'static> RetryingUpload<D> {
    /// The size of a part and the store's own id of it.
    fn split(&self, part: &PartId) -> Result<(u64, PartId)> {
        let split = part.0.split_once(':').and_then(|(size, id)| Some((size.parse().ok()?, PartId(id.to_owned()))));
        split
            .ok_or_else(|| Error::new(ErrorKind::Store, "the part has an id that isn't ours").with("object", &self.key))
    }

    /// Completes, and takes no error for an answer while the object may be complete.
    async fn complete_surely(&self, parts: &[PartId], size_bytes: u64) -> Result<()> {
        let policy = &self.shared.policy;
        let began = Instant::now();
        let longest = policy.request_for + Duration::from_secs(size_bytes / SLOWEST_COMPLETE_BYTES_PER_SECOND);
        let (mut failures, mut unanswered, mut definite) = (0, false, 0);
        loop {
            let left = policy.complete_for.saturating_sub(began.elapsed());
            let call = self.upload.complete(parts);
            let error = match self.shared.once("completing an upload", longest.min(left), call).await {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Cancelled) => return Err(error),
                Err(error) => error,
            };
            failures += 1;
            if self.is_there(size_bytes).await {
                return Ok(());
            }
            if error.is_retryable() {
                unanswered = true;
            } else {
                definite += 1;
            }
            // A store that never left us without an answer means what it says.
            if !error.is_retryable() && (!unanswered || definite >= DEFINITE_ANSWERS) {
                return Err(error.retryable(unanswered));
            }
            let wait = policy.wait(failures);
            if began.elapsed() + wait >= policy.complete_for {
                return Err(error.retryable(true).with("attempts", failures));
            }
            tracing::debug!(object = %self.key, failures, error = format!("{error:#}"), "completing is repeated");
            sleep(wait).await;
        }
    }

    /// Whether the object is there, with the size of its parts. If that can't be told, it is not known to be.
    async fn is_there(&self, size_bytes: u64) -> bool {
        let look = self.destination.size_bytes(&self.key);
        let found = self.shared.once("looking for an object", self.shared.policy.deadline(0), look).await;
        matches!(found, Ok(Some(found)) if found == size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::faulty::{Call, Fault, FaultyDestination};
    use crate::destination::{MemoryDestination, contract};

    type Judge = FaultyDestination<MemoryDestination>;

    fn key() -> ObjectKey {
        ObjectKey::new("job/Patient.ndjson").unwrap()
    }

    fn judge() -> Judge {
        FaultyDestination::new(MemoryDestination::new().with_min_part_bytes(1))
    }

    fn retrying(judge: Judge) -> Retrying<Judge> {
        Retrying::new(Arc::new(judge))
    }

    /// Sends an object of two parts.
    async fn export(destination: &dyn Destination) -> Result<()> {
        let upload = destination.begin(&key()).await?;
        let parts = [upload.put_part(1, "first ".into()).await?, upload.put_part(2, "second".into()).await?];
        upload.complete(&parts).await
    }

    fn assert_whole(destination: &Retrying<Judge>) {
        let memory = destination.destination.inner();
        assert_eq!(memory.object(&key()).unwrap(), "first second");
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::check(&retrying(judge())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_call_fails_the_object_is_whole() {
        for cause in RetryCause::ALL {
            for number in 1..=4 {
                let destination = retrying(judge().with_fault_at(number, Fault::FailFor(cause)));
                export(&destination).await.unwrap();
                assert_whole(&destination);
                assert_eq!(destination.counts().get(cause), 1, "{cause} at call {number}");
                assert_eq!(destination.counts().total(), 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_answer_is_lost_the_object_is_whole() {
        for number in 1..=4 {
            let destination = retrying(judge().with_fault_at(number, Fault::LoseAnswer));
            export(&destination).await.unwrap();
            assert_whole(&destination);
            assert_eq!(destination.counts().get(RetryCause::Connection), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_is_given_up_in_time_and_repeated() {
        for number in 1..=4 {
            let destination = retrying(judge().with_fault_at(number, Fault::Stall));
            let began = Instant::now();
            export(&destination).await.unwrap();
            assert_whole(&destination);
            assert_eq!(destination.counts().get(RetryCause::Timeout), 1);
            assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_keeps_failing_is_asked_ten_times() {
        let fault = Fault::FailFor(RetryCause::Throttled);
        let destination = retrying(judge().with_fault_from(2, fault));
        let error = export(&destination).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(destination.destination.count(Call::PutPart), 10);
        assert_eq!(destination.counts().get(RetryCause::Throttled), 10);
        assert!(destination.throttle().allowed(16) < 16);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_good_is_not_repeated() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::Fenced, ErrorKind::Cancelled] {
            for (number, call) in [(1, Call::Begin), (2, Call::PutPart), (4, Call::Complete)] {
                let destination = retrying(judge().with_fault_at(number, Fault::Fail(kind)));
                let error = export(&destination).await.unwrap_err();
                assert_eq!(error.kind(), kind);
                assert_eq!(destination.destination.count(call), 1, "{call:?}");
                assert_eq!(destination.destination.count(Call::Abort), 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fenced_complete_asks_the_store_nothing_more() {
        let destination = retrying(judge().with_fault_at(4, Fault::Fail(ErrorKind::Fenced)));
        export(&destination).await.unwrap_err();
        assert_eq!(destination.destination.calls().last(), Some(&Call::Complete));
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_that_keeps_failing_ends_after_ten_minutes_and_may_be_tried_later() {
        let mut judge = judge();
        for number in 1..=100 {
            judge = judge.with_fault_on(Call::Complete, number, Fault::FailFor(RetryCause::ServerError));
        }
        let destination = retrying(judge);
        let began = Instant::now();
        let error = export(&destination).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        let took = began.elapsed();
        assert!(took > Duration::from_secs(560) && took <= Duration::from_secs(600), "{took:?}");
        assert_eq!(destination.destination.count(Call::Abort), 0, "never aborted on suspicion");
        assert_eq!(destination.destination.inner().open_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_is_gone_without_its_object_is_an_error() {
        // The answer to the first complete never comes; meanwhile someone else aborts the upload.
        let memory = MemoryDestination::new().with_min_part_bytes(1);
        let others = memory.clone();
        let abort = Fault::Run(Arc::new(move || {
            let others = others.clone();
            let abort = async {
                let open = others.open_uploads("").await.unwrap().unwrap();
                for upload in open {
                    others.reopen(&upload.key, &upload.upload_id).await.unwrap().abort().await.unwrap();
                }
            };
            futures::FutureExt::now_or_never(abort).unwrap();
        }));
        let judge = FaultyDestination::new(memory).with_fault_on(Call::Complete, 1, Fault::Stall).with_fault_on(
            Call::Complete,
            2,
            abort,
        );
        let destination = retrying(judge);
        let error = export(&destination).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.is_retryable());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_of_another_size_under_the_key_is_not_taken_for_ours() {
        let destination = retrying(judge().with_fault_on(Call::Complete, 1, Fault::Fail(ErrorKind::Store)));
        destination.put(&key(), "older".into()).await.unwrap();
        assert!(export(&destination).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_reopened_upload_still_has_its_size() {
        let destination = retrying(judge().with_fault_on(Call::Complete, 1, Fault::LoseAnswer));
        let upload = destination.begin(&key()).await.unwrap();
        let first = upload.put_part(1, "first ".into()).await.unwrap();
        let upload = destination.reopen(&key(), upload.id()).await.unwrap();
        let second = upload.put_part(2, "second".into()).await.unwrap();
        upload.complete(&[first, second]).await.unwrap();
        assert_whole(&destination);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_stalls_is_an_error() {
        let pieces = stream::iter([Ok(Bytes::from("a"))]).chain(stream::pending()).boxed();
        let read: Vec<_> = in_time(pieces, retrying(judge()).shared).collect().await;
        assert_eq!(read.len(), 2);
        assert!(read[0].is_ok() && read[1].as_ref().unwrap_err().is_retryable());
    }

    #[tokio::test]
    async fn a_read_that_is_over_stays_over() {
        let mut read = in_time(stream::iter([Ok(Bytes::from("a"))]).boxed(), retrying(judge()).shared);
        assert!(read.next().await.unwrap().is_ok());
        assert!(read.next().await.is_none() && read.next().await.is_none());
    }
}
