//! Who is let in: the `[auth]` table understood.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use fhir_export::auth::policy::Policy;
use fhir_export::auth::smart::{Algorithm, KeyFile, KeyPatience, KeySource, KeyUrl, SmartConfiguration, TokenVerifier};
use fhir_export::auth::{AccessKey, AccessKeys, Authenticator, BearerTokens, OwnRights};
use fhir_export::fhir::Instant;
use fhir_export::http::{Access, Guard};
use fhir_export::request::DatastoreId;

use super::super::faults::Faults;
use super::config_file::{ConfigFile, Given, KeyTable, SmartTable};

/// Who is let in, before the addresses of the data stores are known.
pub(super) struct AccessPlan {
    keys: Option<Arc<AccessKeys>>,
    smart: Option<SmartPlan>,
    /// What of the policies isn't understood, each with its place.
    pub(super) doubts: Vec<String>,
}

struct SmartPlan {
    issuer: String,
    /// None: the endpoint of each data store is its own.
    audiences: Vec<String>,
    keys: Arc<KeySource>,
    algorithms: Vec<Algorithm>,
    configuration: Option<SmartConfiguration>,
}

impl fmt::Debug for AccessPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessPlan").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl AccessPlan {
    /// What the file says; `None`: nobody is asked who he is.
    pub(super) fn of(faults: &mut Faults, file: &ConfigFile, region: &str) -> Option<Self> {
        let table = file.settings.auth.as_ref()?;
        let place = file.place("[auth]", table);
        let table = table.get_ref();
        if table.keys.is_empty() && table.smart.is_none() {
            faults.say(format!("{place} names nobody: add [[auth.keys]] or [auth.smart], or leave it out"));
        }
        let mut doubts = Vec::new();
        let mut ids = BTreeSet::new();
        let mut keys = Vec::new();
        for key in &table.keys {
            let Given { place, text: id } = file.given("id", &key.id);
            if !ids.insert(id.clone()) {
                faults.value(&place, &id, "is there twice", "each key once");
            }
            keys.extend(access_key(faults, &mut doubts, file, key));
        }
        let keys = match keys.is_empty() || !faults.is_empty() {
            true => None,
            false => faults.take(&place, AccessKeys::new(region, keys)).map(Arc::new),
        };
        let smart = table.smart.as_ref().and_then(|smart| SmartPlan::of(faults, file, smart));
        Some(Self { keys, smart, doubts })
    }

    /// Who is let in to these data stores, each with its endpoint.
    pub(super) fn access<'s>(
        &self,
        stores: impl Iterator<Item = (&'s DatastoreId, String)>,
    ) -> fhir_export::Result<Access> {
        let mut authenticators: Vec<Arc<dyn Authenticator>> = Vec::new();
        if let Some(keys) = &self.keys {
            authenticators.push(Arc::<AccessKeys>::clone(keys));
        }
        if let Some(smart) = &self.smart {
            let verifier = |(id, endpoint): (&DatastoreId, String)| Ok((id.to_string(), smart.verifier(endpoint)?));
            let verifiers: Vec<_> = stores.map(verifier).collect::<fhir_export::Result<_>>()?;
            authenticators.push(Arc::new(BearerTokens::new(verifiers)));
        }
        let configuration = self.smart.as_ref().and_then(|smart| smart.configuration.as_ref());
        Ok(Access::Guarded(Guard {
            authenticators,
            authorizer: Arc::new(OwnRights),
            smart_configuration: configuration.map(SmartConfiguration::to_json),
        }))
    }

    /// Looks whether the keys of the issuer can be had. They are asked for again when a token comes.
    ///
    /// # Errors
    /// Why there are none now.
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    pub(super) async fn check(&self, now_unix_seconds: i64) -> fhir_export::Result<()> {
        match &self.smart {
            None => Ok(()),
            Some(smart) => smart.keys.check(now_unix_seconds).await.map(|_| ()),
        }
    }
}

impl SmartPlan {
    fn of(faults: &mut Faults, file: &ConfigFile, table: &SmartTable) -> Option<Self> {
        let (issuer, keys) = (file.given("issuer", &table.issuer), file.given("keys", &table.keys));
        let is_url = keys.text.contains("://");
        let source = match is_url {
            true => KeySource::new(faults.take(&keys.place, KeyUrl::new(&keys.text))?, KeyPatience::default()),
            false => KeySource::new(KeyFile::new(&keys.text), KeyPatience::default()),
        };
        let algorithms = algorithms(faults, file, table);
        let configuration = table.token_endpoint.as_ref().map(|endpoint| {
            let Given { place, text } = file.given("token_endpoint", endpoint);
            if !text.starts_with("https://") && !is_of_this_machine(&text) {
                faults.value(&place, &text, "isn't a URL for secrets", "https://, or http:// on this machine");
            }
            SmartConfiguration::new(text).with_issuer(&issuer.text, is_url.then(|| keys.text.clone()))
        });
        let audiences = table.audiences.as_ref().map(|names| names.get_ref().clone()).unwrap_or_default();
        let plan = Self { issuer: issuer.text, audiences, keys: Arc::new(source), algorithms, configuration };
        let place = table.audiences.as_ref().map_or(issuer.place, |names| file.place("issuer, audiences", names));
        // The endpoints aren't known yet.
        faults.take(&place, plan.verifier("https://endpoint.invalid".to_owned()))?;
        Some(plan)
    }

    /// What checks the tokens of a data store: they are for its endpoint, if the file doesn't name another audience.
    fn verifier(&self, endpoint: String) -> fhir_export::Result<TokenVerifier> {
        let audiences = if self.audiences.is_empty() { vec![endpoint] } else { self.audiences.clone() };
        TokenVerifier::new(&self.issuer, audiences, Arc::clone(&self.keys))?.with_algorithms(self.algorithms.clone())
    }
}

/// Those that the issuer may sign tokens with.
fn algorithms(faults: &mut Faults, file: &ConfigFile, table: &SmartTable) -> Vec<Algorithm> {
    let Some(names) = &table.algorithms else { return Algorithm::SMART.to_vec() };
    let place = file.place("algorithms", names);
    let mut known = Vec::new();
    for name in names.get_ref() {
        match Algorithm::from_name(name) {
            Some(algorithm) => known.push(algorithm),
            None => faults.value(&place, name, "isn't an algorithm of tokens that is taken", "RS384, ES384, RS256, …"),
        }
    }
    if names.get_ref().is_empty() {
        faults.say(format!("{place}: there is none; leave it out for RS384 and ES384"));
    }
    known
}

/// Whether nothing of what is sent there leaves the machine.
fn is_of_this_machine(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.parse().is_ok_and(|address: std::net::SocketAddr| address.ip().is_loopback())
        || authority.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        || authority == "localhost"
        || authority.strip_prefix("localhost:").is_some_and(|port| port.parse::<u16>().is_ok())
}

fn access_key(faults: &mut Faults, doubts: &mut Vec<String>, file: &ConfigFile, table: &KeyTable) -> Option<AccessKey> {
    let mut policies = Vec::new();
    for path in table.policies.get_ref() {
        let place = format!("{}: {path}", file.place("policies", &table.policies));
        let Some(policy) = policy(faults, &place, path) else { continue };
        doubts.extend(policy.doubts().map(|doubt| format!("{place}: {doubt}")));
        policies.push(policy);
    }
    let secret = table.secret.get_ref().reveal(faults, &file.place("secret", &table.secret));
    let token = table.session_token.as_ref();
    let token = token.map(|token| token.get_ref().reveal(faults, &file.place("session_token", token)));
    let expires = table.expires.as_ref().map(|text| {
        let Given { place, text } = file.given("expires", text);
        let instant = Instant::parse(&text).ok();
        if instant.is_none() {
            faults.value(&place, &text, "isn't an instant", "a time as 2030-01-01T00:00:00Z");
        }
        instant
    });
    let (id, principal) = (file.given("id", &table.id), file.given("principal", &table.principal));
    let key = AccessKey {
        id: id.text,
        secret: secret?,
        session_token: token.map_or(Some(None), |token| token.map(Some))?,
        expires: expires.map_or(Some(None), |expires| expires.map(Some))?,
        principal: principal.text,
        policies,
    };
    if key.id.is_empty() {
        faults.say(format!("{}: it is empty", id.place));
        return None;
    }
    // By itself, so that the place is known: what is left that can be wrong with it is the principal.
    faults.take(&principal.place, AccessKeys::new("", [key.clone()])).map(|_| key)
}

fn policy(faults: &mut Faults, place: &str, path: &str) -> Option<Policy> {
    match std::fs::read_to_string(path) {
        Ok(text) => faults.take(place, Policy::parse(&text)),
        Err(error) => {
            faults.say(format!("{place} can't be read: {error}"));
            None
        }
    }
}
