//! What a server says of the operator's token server: `/.well-known/smart-configuration`.

use serde_json::{Value, json};

use super::algorithm::Algorithm;

/// What clients are told about where tokens are to be had (Bulk Data IG, row B3; SMART App Launch, "Conformance").
///
/// Of a server for backend services only: it names no `authorization_endpoint`, which one test suite asks for in a group that
/// is optional (row B4).
#[derive(Clone, Debug)]
pub struct SmartConfiguration {
    token_endpoint: String,
    issuer: Option<String>,
    keys_url: Option<String>,
    scopes: Vec<String>,
    algorithms: Vec<Algorithm>,
}

impl SmartConfiguration {
    /// Takes the URL at which tokens are to be had.
    #[must_use]
    pub fn new(token_endpoint: impl Into<String>) -> Self {
        Self {
            token_endpoint: token_endpoint.into(),
            issuer: None,
            keys_url: None,
            scopes: ["system/*.read", "system/*.rs"].map(str::to_owned).to_vec(),
            algorithms: Algorithm::SMART.to_vec(),
        }
    }

    /// Names the issuer, and the URL of its keys.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>, keys_url: Option<String>) -> Self {
        self.issuer = Some(issuer.into());
        self.keys_url = keys_url;
        self
    }

    /// Names the scopes that clients can ask for, in place of those for everything.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Names the algorithms that the token server takes from clients, in place of RS384 and ES384.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let algorithms: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let mut document = json!({
            "token_endpoint": self.token_endpoint,
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": self.scopes,
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
        });
        if let Some(members) = document.as_object_mut() {
            let named = [("issuer", &self.issuer), ("jwks_uri", &self.keys_url)];
            members.extend(named.into_iter().filter_map(|(name, value)| {
                value.as_ref().map(|value| (name.to_owned(), Value::from(value.as_str())))
            }));
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_where_and_how_tokens_are_to_be_had() {
        let configuration = SmartConfiguration::new("https://issuer.example/token")
            .with_issuer("https://issuer.example", Some("https://issuer.example/jwks.json".to_owned()));
        let expected = json!({
            "issuer": "https://issuer.example",
            "jwks_uri": "https://issuer.example/jwks.json",
            "token_endpoint": "https://issuer.example/token",
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": ["system/*.read", "system/*.rs"],
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
        });
        assert_eq!(configuration.to_json(), expected);
    }

    #[test]
    fn an_operator_names_his_scopes_and_algorithms() {
        let configuration = SmartConfiguration::new("https://issuer.example/token")
            .with_scopes(["system/Patient.rs"])
            .with_algorithms([Algorithm::Es384]);
        let document = configuration.to_json();
        assert_eq!(document["scopes_supported"], json!(["system/Patient.rs"]));
        assert_eq!(document["token_endpoint_auth_signing_alg_values_supported"], json!(["ES384"]));
        assert!(document.get("issuer").is_none() && document.get("jwks_uri").is_none());
    }
}
