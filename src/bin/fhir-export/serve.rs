//! Serves exports over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fhir_export::destination::open as destination;
use fhir_export::http::{Settings, router};
use fhir_export::job::service::OwnCredentials;
use fhir_export::job::{BaseUrls, Config, DataStore, JobService};
use fhir_export::request::DatastoreId;
use fhir_export::source::open as source;
use fhir_export::{Error, ErrorKind};

use super::Exit;
use super::args::ServeArgs;
use super::faults::Faults;
use super::output::print;
use super::plan::datastore_id;
use super::screen::Screen;
use super::signals::Signals;
use super::state::State;

/// What is to be served, and where.
#[derive(Debug)]
pub(crate) struct ServePlan {
    source: String,
    datastore_id: DatastoreId,
    listen: SocketAddr,
    state: State,
    files: Option<PathBuf>,
    base_urls: Vec<String>,
    from: source::Settings,
    to: destination::Settings,
}

impl ServePlan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &ServeArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let listen: Option<SocketAddr> = args.listen.parse().ok();
        match listen {
            None => faults.value("--listen", &args.listen, "isn't an address", "an IP address and a port".to_owned()),
            // Nothing asks who is there.
            Some(address) if !address.ip().is_loopback() => {
                let accepted = "a loopback address: without authentication nobody else may ask";
                faults.value("--listen", &args.listen, "isn't on this machine alone", accepted.to_owned());
            }
            Some(_) => {}
        }
        faults.take("--base-url", BaseUrls::new(&args.base_urls));
        let id = datastore_id(&mut faults, args.datastore_id.as_deref(), &args.source);
        match (listen, id) {
            (Some(listen), Some(datastore_id)) if faults.is_empty() => Ok(Self {
                source: source::whole_uri(&args.source),
                datastore_id,
                listen,
                state: State::of(args.folder.state.as_deref()).of_server(),
                files: args.files.clone().map(PathBuf::from),
                base_urls: args.base_urls.clone(),
                from: args.store.of_source(&args.source),
                to: args.store.of_destination(),
            }),
            _ => Err(faults),
        }
    }

    async fn service(&self, own_base: String) -> fhir_export::Result<JobService> {
        let jobs = self.state.look().await?.0;
        let folder = self.files.clone().or_else(|| self.state.folder().map(|folder| folder.join("files")));
        let folder = folder.ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "there is no home folder to keep files in; name one with --files")
        })?;
        let files = destination::from_folder(&folder, &destination::Settings::default())?.destination;
        let base_urls = BaseUrls::new(self.base_urls.iter().chain([&own_base]))?;
        let data_store = DataStore::new(self.datastore_id.clone(), source::from_uri(&self.source, &self.from)?);
        // One at a time: HealthLake's quota.
        let mut config = Config::default();
        config.jobs_at_once_of_key = std::num::NonZero::new(1);
        JobService::builder()
            .data_store(data_store.base_urls(base_urls).files(files))
            .config(config)
            .job_store(jobs)
            .outputs(Arc::new(OwnCredentials { settings: self.to.clone() }))
            .build()
    }
}

/// Serves until a signal comes.
pub(crate) async fn serve(plan: ServePlan, screen: &Screen) -> Exit {
    match try_serve(&plan, screen).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            screen.failure(&error);
            Exit::Failure
        }
    }
}

async fn try_serve(plan: &ServePlan, screen: &Screen) -> fhir_export::Result<()> {
    let mut signals = Signals::new().map_err(|error| Error::io("signals can't be caught", error))?;
    let cannot_listen = |error| Error::io(format!("the address {} can't be listened on", plan.listen), error);
    let listener = tokio::net::TcpListener::bind(plan.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let base = format!("http://{address}/datastore/{}/r4", plan.datastore_id);
    let service = plan.service(base.clone()).await?;
    let recovered = service.recover().await?;
    if recovered > 0 {
        screen.say(&format!("going on with {recovered} of the jobs that were interrupted"));
    }
    let app = router(service.clone(), Settings::default());
    print(&greeting(&base)).map_err(|error| Error::io("stdout can't be written to", error))?;
    let stop = async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
    };
    let served = axum::serve(listener, app).with_graceful_shutdown(stop).await;
    served.map_err(|error| Error::io("the server failed", error))?;
    if service.running() > 0 {
        screen.say(&format!("{} jobs are left as they are and go on with the next start", service.running()));
    }
    Ok(())
}

fn greeting(base: &str) -> String {
    format!(
        "{base}\n\
         \n\
         start an export:  curl -i -H 'Prefer: respond-async' '{base}/$export'\n\
         ask how it is:    curl -i {base}/export/JOB\n\
         cancel it:        curl -i -X DELETE {base}/export/JOB\n"
    )
}
