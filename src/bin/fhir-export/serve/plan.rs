//! What is to be served, and where: flags and file understood, with nothing opened yet.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use fhir_export::destination::open as destination;
use fhir_export::job::{BaseUrls, Config, QueueKey};
use fhir_export::request::{DatastoreId, S3Uri};
use fhir_export::source::open as source;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::args::{ServeArgs, StoreArgs};
use super::super::faults::Faults;
use super::super::places::{is_postgres, is_s3};
use super::super::plan::datastore_id;
use super::super::state::State;
use super::super::values::memory_size;
use super::access::AccessPlan;
use super::config_file::{ConfigFile, DataStoreTable, Given};
use super::listener::{ConnectionLimits, HEAD_BYTES, LEAST_HEAD_BYTES, MOST_HEADERS};
use super::tls::TlsFiles;

const LISTEN: &str = "127.0.0.1:8080";
const ACCOUNT: &str = "000000000000";
const REGION: &str = "us-east-1";

/// Jobs that wait under one account and Region; more are told to come back.
const MOST_WAITING: usize = 1000;

/// How long a signed URL is good for.
const SIGNED_URL_SECONDS: u32 = 3600;

/// What is to be served, and where.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) stores: Vec<StorePlan>,
    pub(super) listen: SocketAddr,
    pub(super) tls: Option<TlsFiles>,
    pub(super) public_url: Option<String>,
    pub(super) state: State,
    pub(super) files: FilesPlan,
    pub(super) config: Config,
    pub(super) most_waiting: usize,
    pub(super) starts_at_once: usize,
    pub(super) body_timeout: Duration,
    pub(super) body_bytes: Option<usize>,
    pub(super) query_bytes: Option<usize>,
    pub(super) connections: ConnectionLimits,
    /// How the callers' buckets are reached.
    pub(super) outputs: destination::Settings,
    /// Where callers may have their output written to; `None`: wherever the server may.
    pub(super) allowed_outputs: Option<Vec<S3Uri>>,
    /// How the roles that callers name are assumed; `None`: they aren't, and the server writes in its own name.
    pub(super) roles: Option<destination::RoleSessions>,
    /// A file that gets an `AuditEvent` for each job.
    pub(super) audit_events: Option<String>,
    /// Who is let in; `None`: everybody.
    pub(super) access: Option<AccessPlan>,
}

/// One data store.
#[derive(Debug)]
pub(super) struct StorePlan {
    pub(super) id: DatastoreId,
    pub(super) source: String,
    pub(super) from: source::Settings,
    pub(super) base_urls: Vec<String>,
    pub(super) queue_key: QueueKey,
}

/// The files of Bulk Data exports.
#[derive(Debug)]
pub(super) struct FilesPlan {
    /// None: a folder beside the jobs.
    pub(super) to: Option<String>,
    pub(super) settings: destination::Settings,
    pub(super) lifetime: Duration,
    pub(super) signed_urls: Option<Duration>,
}

/// Flags and file side by side.
struct Both<'a> {
    args: &'a ServeArgs,
    file: &'a ConfigFile,
    store: StoreArgs,
}

impl Serving {
    /// Makes a plan of the arguments, and of the file that they name.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn new(args: &ServeArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let file = match args.config.as_deref().map(ConfigFile::read) {
            None => ConfigFile::default(),
            Some(Ok(file)) => file,
            Some(Err(fault)) => {
                faults.say(fault);
                return Err(faults);
            }
        };
        let s3 = &file.settings.s3;
        let or = |flag: &Option<String>, own: &Option<String>| flag.clone().or_else(|| own.clone());
        let store = StoreArgs {
            endpoint: or(&args.store.endpoint, &s3.endpoint),
            region: or(&args.store.region, &s3.region),
            ca_file: or(&args.store.ca_file, &s3.ca_file),
        };
        let both = Both { args, file: &file, store };
        let access = AccessPlan::of(&mut faults, &file, &both.queue_key(&mut Faults::default(), None).region);
        let public_url = both.public_url(&mut faults);
        let listen = both.listen(&mut faults, access.is_some(), public_url.as_deref());
        let allowed_outputs = both.allowed_outputs(&mut faults, access.is_some());
        let roles = both.roles(&mut faults);
        let state = both.state(&mut faults);
        let stores = both.stores(&mut faults);
        let files = both.files(&mut faults);
        let config = both.config(&mut faults);
        let head_bytes = both.head_bytes(&mut faults);
        let tls = both.tls(&mut faults);
        match (listen, config) {
            (Some(listen), Some(config)) if faults.is_empty() => {
                let limits = &file.settings.limits;
                Ok(Self {
                    stores,
                    listen,
                    tls,
                    public_url,
                    state,
                    files,
                    config,
                    most_waiting: file.settings.queue.most_waiting.unwrap_or(MOST_WAITING),
                    starts_at_once: limits.starts_at_once.map_or(100, NonZero::get),
                    body_timeout: seconds(limits.body_seconds, 30),
                    body_bytes: limits.body_bytes.map(NonZero::get),
                    query_bytes: limits.query_bytes.map(NonZero::get),
                    connections: ConnectionLimits {
                        connections: limits.connections.map_or(4096, NonZero::get),
                        head_bytes,
                        headers: limits.headers.map_or(MOST_HEADERS, NonZero::get),
                        for_headers: seconds(limits.header_seconds, 30),
                        stalled: seconds(limits.stalled_seconds, 120),
                    },
                    outputs: both.store.of_destination(),
                    allowed_outputs,
                    roles,
                    audit_events: file.settings.audit.events.as_ref().map(|path| path.get_ref().clone()),
                    access,
                })
            }
            _ => Err(faults),
        }
    }
}

fn seconds(given: Option<NonZero<usize>>, usual: u64) -> Duration {
    Duration::from_secs(given.map_or(usual, |seconds| seconds.get() as u64))
}

impl Both<'_> {
    /// Where callers may have their output written to. Who is asked who he is writes nowhere unless it is said.
    fn allowed_outputs(&self, faults: &mut Faults, is_guarded: bool) -> Option<Vec<S3Uri>> {
        let Some(allow) = &self.file.settings.outputs.allow else { return is_guarded.then(Vec::new) };
        let place = self.file.place("allow", allow);
        let read = |text: &String| S3Uri::new(text).map_err(|fault| faults.say(fault.at(&place).to_string())).ok();
        Some(allow.get_ref().iter().filter_map(read).collect())
    }

    /// How the roles that callers name are assumed, if they are.
    fn roles(&self, faults: &mut Faults) -> Option<destination::RoleSessions> {
        let table = self.file.settings.roles.as_ref()?;
        let of = |given: &Option<toml::Spanned<String>>| given.as_ref().map(|given| given.get_ref().clone());
        let sessions = destination::RoleSessions {
            sts_endpoint: of(&table.sts_endpoint),
            external_id: of(&table.external_id),
            session_seconds: table.session_seconds.as_ref().map(|given| *given.get_ref()),
        };
        // One by one, so that each is told with its line.
        let none = destination::RoleSessions::default;
        let (sts_endpoint, external_id) = (sessions.sts_endpoint.clone(), sessions.external_id.clone());
        if let Some(given) = &table.sts_endpoint {
            let one = destination::RoleSessions { sts_endpoint, ..none() };
            faults.take(&self.file.place("sts_endpoint", given), one.check());
        }
        if let Some(given) = &table.external_id {
            let one = destination::RoleSessions { external_id, ..none() };
            faults.take(&self.file.place("external_id", given), one.check());
        }
        if let Some(given) = &table.session_seconds {
            let one = destination::RoleSessions { session_seconds: sessions.session_seconds, ..none() };
            faults.take(&self.file.place("session_seconds", given), one.check());
        }
        table.assume.then_some(sessions)
    }

    fn listen(&self, faults: &mut Faults, is_guarded: bool, public_url: Option<&str>) -> Option<SocketAddr> {
        let own = self.file.settings.listen.as_ref();
        let given = self.file.pick(("--listen", self.args.listen.as_deref()), ("listen", own));
        let Given { place, text } = given.unwrap_or_else(|| Given { place: "--listen".into(), text: LISTEN.into() });
        match text.parse::<SocketAddr>() {
            Err(_) => faults.value(&place, &text, "isn't an address", "an IP address and a port".to_owned()),
            // Nothing asks who is there.
            Ok(address) if !address.ip().is_loopback() && !is_guarded => {
                let accepted = "a loopback address: without authentication nobody else may ask";
                faults.value(&place, &text, "isn't on this machine alone", accepted.to_owned());
            }
            Ok(address) if !address.ip().is_loopback() && !self.is_encrypted(public_url) => {
                let accepted = "a loopback address, or TLS: with [tls], or by a proxy whose https:// is the public_url";
                faults.value(&place, &text, "would take tokens and data in the clear", accepted.to_owned());
            }
            Ok(address) => return Some(address),
        }
        None
    }

    /// Whether clients reach the server by TLS (Bulk Data Access IG, B1).
    fn is_encrypted(&self, public_url: Option<&str>) -> bool {
        let own = self.args.tls_certificate.is_some() || self.file.settings.tls.is_some();
        own || public_url.is_some_and(|url| url.starts_with("https://"))
    }

    fn public_url(&self, faults: &mut Faults) -> Option<String> {
        let own = self.file.settings.public_url.as_ref();
        let Given { place, text } =
            self.file.pick(("--public-url", self.args.public_url.as_deref()), ("public_url", own))?;
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#', ' '])) {
            faults.value(&place, &text, "isn't a base URL", "http:// or https://, a host and perhaps a path");
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    fn state(&self, faults: &mut Faults) -> State {
        let own = self.file.settings.state.as_ref();
        let given = self.file.pick(("--state", self.args.folder.state.as_deref()), ("state", own));
        let uri = given.as_ref().and_then(|given| with_secrets(faults, given));
        State::of(uri.as_deref()).of_server()
    }

    fn tls(&self, faults: &mut Faults) -> Option<TlsFiles> {
        let own = self.file.settings.tls.as_ref();
        let pick = |flag: &Option<String>, own: Option<&String>| flag.clone().or_else(|| own.cloned());
        let certificate = pick(&self.args.tls_certificate, own.map(|tls| &tls.certificate));
        let key = pick(&self.args.tls_key, own.map(|tls| &tls.key));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                faults.say("--tls-certificate needs --tls-key");
                None
            }
            (None, Some(_)) => {
                faults.say("--tls-key needs --tls-certificate");
                None
            }
        }
    }

    fn files(&self, faults: &mut Faults) -> FilesPlan {
        let table = &self.file.settings.files;
        let given = self.file.pick(("--files", self.args.files.as_deref()), ("to", table.to.as_ref()));
        let to = given.as_ref().map(|given| given.text.clone());
        let in_s3 = to.as_deref().is_some_and(is_s3);
        let settings = match in_s3 {
            true => destination::Settings { kms_key: table.kms_key.clone(), ..self.store.of_destination() },
            false => destination::Settings { kms_key: table.kms_key.clone(), ..destination::Settings::default() },
        };
        if let Some(Given { place, text }) = &given {
            faults.take(place, destination::from_uri(text, &settings));
        }
        let is_folder = to.as_deref().is_none_or(|to| !to.contains("://") || to.starts_with("file:"));
        let lifetime = u64::from(table.signed_url_seconds.unwrap_or(SIGNED_URL_SECONDS));
        let hours = table.keep_hours.map_or(48, |hours| hours.get() as u64);
        FilesPlan {
            to,
            settings,
            lifetime: Duration::from_secs(hours.saturating_mul(3600)),
            signed_urls: (!is_folder && lifetime > 0).then(|| Duration::from_secs(lifetime)),
        }
    }

    fn config(&self, faults: &mut Faults) -> Option<Config> {
        let mut config = Config::default();
        let queue = &self.file.settings.queue;
        // HealthLake's quota.
        config.jobs_at_once_of_key = queue.jobs_at_once.or(NonZero::new(1));
        config.jobs_at_once = queue.jobs_at_once_in_all;
        let limits = &self.file.settings.limits;
        config.cohort_limit_patients = limits.cohort.map_or(config.cohort_limit_patients, NonZero::get);
        if let Some(memory) = &limits.memory {
            let Given { place, text } = self.file.given("memory", memory);
            config.budget_bytes = memory_size(faults, &place, &text)?;
            faults.take(&place, config.check())?;
        }
        Some(config)
    }

    fn head_bytes(&self, faults: &mut Faults) -> usize {
        let Some(given) = &self.file.settings.limits.head_bytes else { return HEAD_BYTES };
        let bytes = given.get_ref().get();
        if bytes < LEAST_HEAD_BYTES {
            let place = self.file.place("head_bytes", given);
            faults.value(&place, &bytes.to_string(), "is too small", format!("{LEAST_HEAD_BYTES} or more"));
        }
        bytes
    }

    fn stores(&self, faults: &mut Faults) -> Vec<StorePlan> {
        if let Some(source) = &self.args.source {
            let given = Given { place: "--source".to_owned(), text: source.clone() };
            let id = self.args.datastore_id.as_ref();
            let id = id.map(|id| Given { place: "--datastore-id".to_owned(), text: id.clone() });
            let queue_key = self.queue_key(faults, None);
            let bases = ("--base-url", self.args.base_urls.as_slice());
            return self.store(faults, &given, id.as_ref(), bases, queue_key).into_iter().collect();
        }
        let tables = &self.file.settings.data_stores;
        if tables.is_empty() {
            faults.say("there are no data stores: name one with --source, or with [[data_stores]] in the file");
        }
        let store = |table: &DataStoreTable| {
            let source = self.file.given("source", &table.source);
            let id = table.id.as_ref().map(|id| self.file.given("id", id));
            let bases = table.base_urls.as_ref();
            let place = bases.map(|bases| self.file.place("base_urls", bases)).unwrap_or_default();
            let bases = bases.map(|bases| bases.get_ref().as_slice()).unwrap_or_default();
            let queue_key = self.queue_key(faults, Some(table));
            self.store(faults, &source, id.as_ref(), (&place, bases), queue_key)
        };
        tables.iter().filter_map(store).collect()
    }

    fn store(
        &self,
        faults: &mut Faults,
        source: &Given,
        given_id: Option<&Given>,
        (base_place, base_urls): (&str, &[String]),
        queue_key: QueueKey,
    ) -> Option<StorePlan> {
        faults.take(base_place, BaseUrls::new(base_urls));
        let uri = with_secrets(faults, source)?;
        let id = match given_id {
            None => datastore_id(faults, None, &uri),
            Some(id) => DatastoreId::new(&id.text).map_err(|fault| faults.say(fault.at(&id.place).to_string())).ok(),
        }?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !id.as_str().chars().all(is_plain) {
            let place = given_id.map_or(source.place.as_str(), |id| id.place.as_str());
            faults.value(place, id.as_str(), "can't stand in a URL as it is", "letters, digits, - _ .");
        }
        let from = self.store.of_source(&uri);
        let whole = source::whole_uri(&uri);
        faults.take(&source.place, source::from_uri(&whole, &from))?;
        Some(StorePlan { id, source: whole, from, base_urls: base_urls.to_vec(), queue_key })
    }

    /// Of a data store, or of all.
    fn queue_key(&self, faults: &mut Faults, table: Option<&DataStoreTable>) -> QueueKey {
        let settings = &self.file.settings;
        let account = table.and_then(|table| table.account.as_ref()).or(settings.account.as_ref());
        let region = table.and_then(|table| table.region.as_ref()).or(settings.region.as_ref());
        if let Some(Given { place, text }) = account.map(|account| self.file.given("account", account))
            && !(text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()))
        {
            faults.value(&place, &text, "isn't an account", "12 digits");
        }
        let text = |given: Option<&toml::Spanned<String>>| given.map(|given| given.get_ref().clone());
        let region = text(region).or_else(|| self.store.region.clone()).unwrap_or_else(|| REGION.to_owned());
        QueueKey { account: text(account).unwrap_or_else(|| ACCOUNT.to_owned()), region }
    }
}

/// A URI of a database with the secrets that it leaves to the environment: `postgres://me:${NAME}@host/database`.
fn with_secrets(faults: &mut Faults, given: &Given) -> Option<String> {
    let Given { place, text } = given;
    if !is_postgres(text) {
        return Some(text.clone());
    }
    let mut whole = String::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        let Ok(secret) = std::env::var(name) else {
            faults.say(format!("{place}: the environment variable {name} isn't set"));
            return None;
        };
        whole.push_str(before);
        whole.extend(utf8_percent_encode(&secret, NON_ALPHANUMERIC));
        rest = after;
    }
    Some(whole + rest)
}
