//! A service in memory behind its router, and a client that asks it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use fhir_export::destination::{Destination, MemoryDestination};
use fhir_export::http::{Settings, router};
use fhir_export::job::service::{DataStore, Outputs};
use fhir_export::job::{Config, JobService, JobServiceBuilder, MemoryJobStore};
use fhir_export::request::{DatastoreId, JobId, OutputDataConfig, RoleArn};
use fhir_export::source::Source;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::support::small_job;

pub(crate) const BASE: &str = "/datastore/store1/r4";

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// An output and the role in whose name it is written.
type Asked = (OutputDataConfig, Option<RoleArn>);

/// What a server was asked to write to, and where that goes.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    pub(crate) bucket: MemoryDestination,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Buckets {
    fn new() -> Self {
        Self { bucket: small_job::destination(), asked: Arc::default() }
    }
}

impl Outputs for Buckets {
    fn open(
        &self,
        output: &OutputDataConfig,
        role: Option<&RoleArn>,
        _: &JobId,
    ) -> fhir_export::Result<Arc<dyn Destination>> {
        // What no store could be opened by isn't opened here either.
        #[cfg(feature = "s3")]
        fhir_export::destination::open::from_uri(output.s3_uri.as_str(), &Default::default())?;
        self.asked.lock().unwrap().push((output.clone(), role.cloned()));
        Ok(Arc::new(self.bucket.clone()))
    }
}

/// A server in memory, with all that it is made of.
pub(crate) struct Served {
    pub(crate) service: JobService,
    pub(crate) files: MemoryDestination,
    pub(crate) buckets: Buckets,
    pub(crate) jobs: MemoryJobStore,
    app: Router,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// The codes and expressions of an `OperationOutcome`.
    pub(crate) fn issues(&self) -> Vec<(String, Option<String>)> {
        let outcome = self.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
        assert_eq!(self.header("content-type"), "application/fhir+json");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let issues = outcome["issue"].as_array().unwrap().iter();
        issues.map(|issue| (text(&issue["code"]).unwrap(), text(&issue["expression"][0]))).collect()
    }
}

impl Served {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self::with(source, MemoryJobStore::new(), small_job::destination(), Buckets::new())
    }

    /// A server that follows another one.
    pub(crate) fn after(other: &Self, source: impl Source + 'static) -> Self {
        Self::with(source, other.jobs.clone(), other.files.clone(), other.buckets.clone())
    }

    fn with(source: impl Source + 'static, jobs: MemoryJobStore, files: MemoryDestination, buckets: Buckets) -> Self {
        let builder = JobService::builder().data_store(data_store("store1", source, &files)).config(config());
        Self::made_of(builder, Settings::default(), jobs, files, buckets)
    }

    /// A server whose service is put together by the test, but for where jobs are kept and files go.
    pub(crate) fn set_up(settings: Settings, build: impl FnOnce(&MemoryDestination) -> JobServiceBuilder) -> Self {
        let files = small_job::destination();
        let builder = build(&files);
        Self::made_of(builder, settings, MemoryJobStore::new(), files, Buckets::new())
    }

    fn made_of(
        builder: JobServiceBuilder,
        settings: Settings,
        jobs: MemoryJobStore,
        files: MemoryDestination,
        buckets: Buckets,
    ) -> Self {
        let service = builder.job_store(Arc::new(jobs.clone())).outputs(Arc::new(buckets.clone())).build().unwrap();
        let app = router(service.clone(), settings);
        Self { service, files, buckets, jobs, app }
    }

    pub(crate) fn app(&self) -> Router {
        self.app.clone()
    }

    /// The answer to a request, its body not read.
    pub(crate) async fn response(&self, request: Request<Body>) -> Response<Body> {
        self.app().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.response(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], Body::empty()).await
    }

    /// Starts an export of the profile and gives the path of its job.
    pub(crate) async fn kick_off(&self, path: &str) -> String {
        let answer = self.ask_to_start("store1", path).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        path_of(answer.header("content-location"))
    }

    /// Asks for an export of a data store by the profile.
    pub(crate) async fn ask_to_start(&self, datastore: &str, path: &str) -> Answer {
        let path = format!("/datastore/{datastore}/r4{path}");
        self.ask("GET", &path, &[("prefer", "respond-async")], Body::empty()).await
    }

    /// The state of a job.
    pub(crate) async fn state(&self, job: &str) -> String {
        let answer = self.get(job).await.json();
        answer["exportJobProperties"]["jobStatus"].as_str().unwrap().to_owned()
    }

    /// Asks for a job until it is over.
    pub(crate) async fn until_over(&self, job: &str) -> Answer {
        let polls = async {
            loop {
                let answer = self.get(job).await;
                if answer.status != StatusCode::ACCEPTED {
                    return answer;
                }
                self.idle_or_moved().await;
            }
        };
        tokio::time::timeout(HANGS_AFTER, polls).await.expect("the job ends")
    }

    async fn idle_or_moved(&self) {
        tokio::select! {
            () = self.service.idle() => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

/// One job at a time of each account and Region.
pub(crate) fn config() -> Config {
    let mut config = small_job::config();
    config.jobs_at_once_of_key = std::num::NonZero::new(1);
    config
}

/// A data store that keeps its files there.
pub(crate) fn data_store(id: &str, source: impl Source + 'static, files: &MemoryDestination) -> DataStore {
    DataStore::new(DatastoreId::new(id).unwrap(), Arc::new(source)).files(Arc::new(files.clone()))
}

/// The path of a URL of the server.
pub(crate) fn path_of(url: &str) -> String {
    url.strip_prefix("http://localhost:8080").unwrap_or_else(|| panic!("another server: {url}")).to_owned()
}
