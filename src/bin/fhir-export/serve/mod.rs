//! Serves exports over HTTP.

mod access;
mod config_file;
mod listener;
mod plan;
mod recorder;
mod tls;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use fhir_export::clock::system;
use fhir_export::destination::open as destination;
use fhir_export::http::{Access, Settings, router};
use fhir_export::job::service::{AllowedOutputs, AssumedRoles, AuditFile, Outputs, OwnCredentials};
use fhir_export::job::{BaseUrls, DataStore, JobService};
use fhir_export::source::open as source;
use fhir_export::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use self::listener::Listener;
use self::plan::Serving;
use self::recorder::Recorder;
use super::Exit;
use super::args::ServeArgs;
use super::faults::Faults;
use super::output::print;
use super::screen::{Screen, with_causes};
use super::signals::Signals;

/// What is to be served, and where.
#[derive(Debug)]
pub(crate) struct ServePlan(Serving);

impl ServePlan {
    /// Makes a plan of the arguments, and of the file that they name.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &ServeArgs) -> Result<Self, Faults> {
        Serving::new(args).map(Self)
    }
}

impl Serving {
    /// The URL under which clients reach the server.
    fn root(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    async fn service(&self, root: &str) -> fhir_export::Result<JobService> {
        let jobs = self.state.look().await?.0;
        let files = self.files()?;
        let mut builder = JobService::builder()
            .config(self.config.clone())
            .job_store(jobs)
            .most_waiting(self.most_waiting)
            .files_lifetime(self.files.lifetime)
            .outputs(self.outputs());
        if let Some(path) = &self.audit_events {
            builder = builder.audit_events(Arc::new(AuditFile::open(Path::new(path))?));
        }
        for store in &self.stores {
            let base_urls = BaseUrls::new(store.base_urls.iter().chain([&base(root, store.id.as_str())]))?;
            let data_store = DataStore::new(store.id.clone(), source::from_uri(&store.source, &store.from)?)
                .base_urls(base_urls)
                .queue_key(store.queue_key.clone())
                .files(Arc::clone(&files.destination));
            builder = builder.data_store(data_store);
        }
        builder.build()
    }

    fn outputs(&self) -> Arc<dyn Outputs> {
        let settings = self.outputs.clone();
        let outputs: Arc<dyn Outputs> = match &self.roles {
            None => Arc::new(OwnCredentials { settings }),
            Some(sessions) => Arc::new(AssumedRoles { settings, sessions: sessions.clone() }),
        };
        match &self.allowed_outputs {
            None => outputs,
            Some(allowed) => Arc::new(AllowedOutputs::new(allowed.clone(), outputs)),
        }
    }

    fn access(&self, root: &str) -> fhir_export::Result<Access> {
        let Some(plan) = &self.access else { return Ok(Access::Open) };
        plan.access(self.stores.iter().map(|store| (&store.id, base(root, store.id.as_str()))))
    }

    fn files(&self) -> fhir_export::Result<destination::Opened> {
        if let Some(uri) = &self.files.to {
            return destination::from_uri(uri, &self.files.settings);
        }
        let folder = self.state.folder().map(|folder| folder.join("files")).ok_or_else(|| {
            let message = "there is no folder to keep files in; name one with --files";
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        destination::from_folder(&folder, &self.files.settings)
    }
}

/// Serves until a signal comes.
pub(crate) async fn serve(plan: ServePlan, screen: &Screen) -> Exit {
    match try_serve(&plan.0, screen).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            screen.failure(&error);
            Exit::Failure
        }
    }
}

async fn try_serve(plan: &Serving, screen: &Screen) -> fhir_export::Result<()> {
    let mut signals = Signals::new().map_err(|error| Error::io("signals can't be caught", error))?;
    let cannot_listen = |error| Error::io(format!("the address {} can't be listened on", plan.listen), error);
    let tls = plan.tls.as_ref().map(tls::TlsFiles::acceptor).transpose()?;
    let recorder = Recorder::install()?;
    let listener = Listener::bind(plan.listen, tls, plan.connections).await.map_err(cannot_listen)?;
    let root = plan.root(listener.listener.local_addr().map_err(cannot_listen)?);
    let service = plan.service(&root).await?;
    let recovered = service.recover().await?;
    if recovered > 0 {
        screen.say(&format!("going on with {recovered} of the jobs that were interrupted"));
    }
    let usual = Settings::default();
    let settings = Settings {
        public_url: plan.public_url.clone(),
        is_tls: plan.tls.is_some(),
        starts_at_once: plan.starts_at_once,
        body_bytes: plan.body_bytes.unwrap_or(usual.body_bytes),
        query_bytes: plan.query_bytes.unwrap_or(usual.query_bytes),
        body_timeout: plan.body_timeout,
        signed_urls: plan.files.signed_urls,
        metrics: Some(recorder.text()),
        access: plan.access(&root)?,
        ..usual
    };
    for doubt in plan.access.iter().flat_map(|access| &access.doubts) {
        screen.say(&format!("warning: {doubt}"));
    }
    let app = router(service.clone(), settings);
    print(&greeting(&root, plan)).map_err(|error| Error::io("stdout can't be written to", error))?;
    let stopping = CancellationToken::new();
    let signalled = async {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        stopping.cancel();
        // The second one doesn't wait for the last answers.
        signals.next().await;
    };
    tokio::select! {
        () = listener.serve(app, stopping.cancelled()) => {}
        () = signalled => {}
        never = service.keep_removing_expired() => match never {},
        never = service.keep_recovering() => match never {},
        never = recorder.keep_small() => match never {},
        never = check_keys(plan, screen) => match never {},
    }
    if service.running() > 0 {
        screen.say(&format!("{} jobs are left as they are and go on with the next start", service.running()));
    }
    Ok(())
}

/// Tells if nobody's tokens can be checked as things are. An issuer that comes later is no fault.
async fn check_keys(plan: &Serving, screen: &Screen) -> Infallible {
    if let Some(access) = &plan.access
        && let Err(error) = access.check(system().now().unix_seconds()).await
    {
        screen.say(&format!("warning: no token can be taken now: {}", with_causes(&error)));
    }
    pending().await
}

fn base(root: &str, id: &str) -> String {
    format!("{root}/datastore/{id}/r4")
}

/// The bases of all data stores, and what to try with the first.
fn greeting(root: &str, plan: &Serving) -> String {
    let bases: Vec<String> = plan.stores.iter().map(|store| base(root, store.id.as_str())).collect();
    let first = bases.first().map_or("", String::as_str);
    format!(
        "{}\n\
         \n\
         start an export:  curl -i -H 'Prefer: respond-async' '{first}/$export'\n\
         ask how it is:    curl -i {first}/export/JOB\n\
         cancel it:        curl -i -X DELETE {first}/export/JOB\n",
        bases.join("\n")
    )
}
