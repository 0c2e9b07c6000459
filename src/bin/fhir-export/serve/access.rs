//! Who is let in: the `[auth]` table understood.

use std::fmt;
use std::sync::Arc;

use fhir_export::auth::policy::Policy;
use fhir_export::auth::smart::{Algorithm, KeyFile, KeyPatience, KeySource, KeyUrl, SmartConfiguration, TokenVerifier};
use fhir_export::auth::{AccessKey, AccessKeys, Authenticator, BearerTokens, OwnRights};
use fhir_export::http::{Access, Guard};
use fhir_export::request::DatastoreId;

use super::super::faults::Faults;
use super::config_file::{AuthTable, ConfigFile, KeyTable, SmartTable};

/// Who is let in, before the addresses of the data stores are known.
pub(super) struct AccessPlan {
    keys: Option<Arc<AccessKeys>>,
    smart: Option<SmartPlan>,
}

struct SmartPlan {
    issuer: String,
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
        if table.keys.is_empty() && table.smart.is_none() {
            faults.say("[auth] names nobody: add [[auth.keys]] or [auth.smart], or leave it out");
        }
        let keys: Vec<AccessKey> = table.keys.iter().filter_map(|key| access_key(faults, file, key)).collect();
        let keys = match keys.is_empty() {
            true => None,
            false => faults.take("[[auth.keys]]", AccessKeys::new(region, keys)).map(Arc::new),
        };
        let smart = table.smart.as_ref().and_then(|smart| SmartPlan::of(faults, file, table, smart));
        Some(Self { keys, smart })
    }

    /// Who is let in to these data stores, which have their endpoints below a base.
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
}

impl SmartPlan {
    fn of(faults: &mut Faults, file: &ConfigFile, _: &AuthTable, table: &SmartTable) -> Option<Self> {
        let keys = file.given("keys", &table.keys);
        let source = if keys.text.starts_with("http://") || keys.text.starts_with("https://") {
            KeySource::new(faults.take(&keys.place, KeyUrl::new(&keys.text))?, KeyPatience::default())
        } else {
            KeySource::new(KeyFile::new(&keys.text), KeyPatience::default())
        };
        let algorithms = match &table.algorithms {
            None => Algorithm::SMART.to_vec(),
            Some(names) => {
                let place = file.place("algorithms", names);
                let read = |name: &String| {
                    let algorithm = Algorithm::from_name(name);
                    if algorithm.is_none() {
                        faults.value(&place, name, "isn't an algorithm of signatures", "RS384, ES384, RS256, …");
                    }
                    algorithm
                };
                names.get_ref().iter().filter_map(read).collect()
            }
        };
        let configuration = table
            .token_endpoint
            .as_ref()
            .map(|endpoint| SmartConfiguration::new(endpoint).with_algorithms(algorithms.iter().copied()));
        let issuer = table.issuer.clone();
        Some(Self { issuer, audiences: table.audiences.clone(), keys: Arc::new(source), algorithms, configuration })
    }

    /// What checks the tokens of a data store: they are for its endpoint, if the file doesn't name another audience.
    fn verifier(&self, endpoint: String) -> fhir_export::Result<TokenVerifier> {
        let audiences = if self.audiences.is_empty() { vec![endpoint] } else { self.audiences.clone() };
        TokenVerifier::new(&self.issuer, audiences, Arc::clone(&self.keys))?.with_algorithms(self.algorithms.clone())
    }
}

fn access_key(faults: &mut Faults, file: &ConfigFile, table: &KeyTable) -> Option<AccessKey> {
    let policies: Vec<Policy> =
        table.policies.get_ref().iter().filter_map(|path| policy(faults, file, table, path)).collect();
    Some(AccessKey {
        id: table.id.clone(),
        secret: table.secret.reveal(faults, &table.id)?,
        session_token: None,
        expires: None,
        principal: table.principal.clone(),
        policies,
    })
}

fn policy(faults: &mut Faults, file: &ConfigFile, table: &KeyTable, path: &str) -> Option<Policy> {
    let place = file.place("policies", &table.policies);
    match std::fs::read_to_string(path) {
        Ok(text) => faults.take(&format!("{place}: {path}"), Policy::parse(&text)),
        Err(error) => {
            faults.say(format!("{place}: {path} can't be read: {error}"));
            None
        }
    }
}
