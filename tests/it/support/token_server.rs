//! A token server of SMART Backend Services, as an operator has one: <https://hl7.org/fhir/smart-app-launch/backend-services.html>.
//!
//! It checks the assertions of clients with another implementation than ours. What it signs can be changed at will.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fhir_export::clock::{Clock, SystemClock};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[allow(dead_code, clippy::duplicate_mod, reason = "it is borrowed, as by others")]
#[path = "../../../src/auth/smart/forge.rs"]
pub(crate) mod forge;

use forge::SigningKey;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion may be valid at most, and how long a token is: seconds.
const LIFE: i64 = 300;

/// What is wrong with a request for a token: status, error, description (RFC 6749 section 5.2).
type Fault = (StatusCode, &'static str, &'static str);

pub(crate) struct TokenServer {
    shared: Arc<Shared>,
    /// Ends with this value.
    _tasks: JoinSet<()>,
}

struct Shared {
    base: String,
    audience: String,
    /// Those that are published; tokens are signed with the last.
    keys: Mutex<Vec<SigningKey>>,
    clients: Mutex<HashMap<String, Client>>,
    seen: Mutex<HashSet<(String, String)>>,
    keys_asked_for: AtomicUsize,
}

struct Client {
    keys: JwkSet,
    scopes: Vec<String>,
}

pub(crate) fn now() -> i64 {
    i64::try_from(SystemClock.since_epoch().as_secs()).unwrap()
}

impl TokenServer {
    /// Starts one on the machine itself, whose tokens are for an audience.
    pub(crate) async fn start(audience: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            base: format!("http://{}", listener.local_addr().unwrap()),
            audience: audience.to_owned(),
            keys: Mutex::new(vec![SigningKey::es384("key-0")]),
            clients: Mutex::default(),
            seen: Mutex::default(),
            keys_asked_for: AtomicUsize::new(0),
        });
        let app = Router::new().route("/token", post(token)).route("/jwks.json", get(keys)).with_state(shared.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { shared, _tasks: tasks }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.shared.base
    }

    pub(crate) fn token_url(&self) -> String {
        self.shared.token_url()
    }

    pub(crate) fn keys_url(&self) -> String {
        format!("{}/jwks.json", self.shared.base)
    }

    pub(crate) fn keys_asked_for(&self) -> usize {
        self.shared.keys_asked_for.load(Ordering::SeqCst)
    }

    /// Makes a client known, with its public key and the scopes that it may ask for.
    pub(crate) fn register(&self, id: &str, key: &SigningKey, scopes: &str) {
        let keys = serde_json::from_value(forge::key_set(&[key])).unwrap();
        let client = Client { keys, scopes: scopes.split(' ').map(str::to_owned).collect() };
        self.shared.clients.lock().unwrap().insert(id.to_owned(), client);
    }

    /// Signs with a new key from now on; the old one stays published.
    pub(crate) fn rotate(&self) {
        let mut keys = self.shared.keys.lock().unwrap();
        let id = format!("key-{}", keys.len());
        keys.push(SigningKey::es384(&id));
    }

    /// Publishes the newest key only.
    pub(crate) fn retire(&self) {
        let mut keys = self.shared.keys.lock().unwrap();
        let newest = keys.pop().unwrap();
        *keys = vec![newest];
    }

    /// Signs whatever is made of a good header and good claims.
    pub(crate) fn mint(&self, client: &str, scope: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let keys = self.shared.keys.lock().unwrap();
        let key = keys.last().unwrap();
        let (mut header, mut claims) = (key.header(), self.shared.claims(client, scope));
        change(&mut header, &mut claims);
        key.sign(&header, &claims)
    }

    /// The form of a good request for a token.
    pub(crate) fn form(&self, client: &str, key: &SigningKey, scope: &str) -> Vec<(&'static str, String)> {
        self.form_with(&self.assertion(client, key), scope)
    }

    fn form_with(&self, assertion: &str, scope: &str) -> Vec<(&'static str, String)> {
        vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", assertion.to_owned()),
            ("scope", scope.to_owned()),
        ]
    }

    /// What a client says of itself, signed with its key.
    pub(crate) fn assertion(&self, client: &str, key: &SigningKey) -> String {
        key.token(&self.assertion_claims(client))
    }

    fn assertion_claims(&self, client: &str) -> Value {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = COUNT.fetch_add(1, Ordering::SeqCst).to_string();
        json!({"iss": client, "sub": client, "aud": self.token_url(), "exp": now() + 200, "jti": id})
    }

    /// Asks for a token as a client does.
    pub(crate) async fn ask(&self, form: &[(&str, String)]) -> (u16, Value) {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(self.token_url());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(fields.join("&"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Gets a token for a client that may have it.
    pub(crate) async fn token(&self, client: &str, key: &SigningKey, scope: &str) -> String {
        let (status, body) = self.ask(&self.form(client, key, scope)).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }
}

impl Shared {
    fn token_url(&self) -> String {
        format!("{}/token", self.base)
    }

    fn claims(&self, client: &str, scope: &str) -> Value {
        let now = now();
        json!({
            "iss": self.base, "sub": client, "aud": self.audience, "scope": scope, "isAuthorized": true,
            "iat": now, "nbf": now, "exp": now + LIFE,
        })
    }

    /// Whom an assertion is of, if it is of one of our clients.
    fn client_of(&self, assertion: &str) -> Option<String> {
        let header = decode_header(assertion).ok()?;
        let allowed = [Algorithm::RS384, Algorithm::ES384].contains(&header.alg);
        if !allowed || header.typ.as_deref() != Some("JWT") || header.jku.is_some() {
            return None;
        }
        // Whose keys are to be looked at is what it says itself; that it says so is signed.
        let unchecked = jsonwebtoken::dangerous::insecure_decode::<Value>(assertion).ok()?.claims;
        let id = unchecked["sub"].as_str()?;
        let clients = self.clients.lock().unwrap();
        let key = clients.get(id)?.keys.find(header.kid.as_deref()?)?;
        let mut expected = Validation::new(header.alg);
        expected.set_audience(&[self.token_url()]);
        expected.set_issuer(&[id]);
        expected.sub = Some(id.to_owned());
        expected.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        expected.leeway = 0;
        let claims = decode::<Value>(assertion, &DecodingKey::from_jwk(key).ok()?, &expected).ok()?.claims;
        let is_short = claims["exp"].as_i64()? <= now() + LIFE;
        let is_new = self.seen.lock().unwrap().insert((id.to_owned(), claims["jti"].as_str()?.to_owned()));
        (is_short && is_new).then(|| id.to_owned())
    }

    /// What of the scopes that are asked for a client may have.
    fn granted(&self, client: &str, asked: &str) -> Option<String> {
        let clients = self.clients.lock().unwrap();
        let scopes = &clients.get(client)?.scopes;
        let covers = |asked: &&str| {
            let of_all =
                asked.split_once('/').and_then(|(level, rest)| Some(format!("{level}/*.{}", rest.split_once('.')?.1)));
            scopes.iter().any(|scope| scope == asked || Some(scope) == of_all.as_ref())
        };
        let granted: Vec<&str> = asked.split(' ').filter(covers).collect();
        (!granted.is_empty()).then(|| granted.join(" "))
    }

    fn grant(&self, body: &str) -> Result<Value, Fault> {
        let mut fields = HashMap::new();
        for (name, value) in body.split('&').filter_map(|field| field.split_once('=')) {
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
            if fields.insert(name.to_owned(), value).is_some() {
                return Err((StatusCode::BAD_REQUEST, "invalid_request", "a parameter is there twice"));
            }
        }
        let field = |name: &str| {
            let lacking = (StatusCode::BAD_REQUEST, "invalid_request", "a parameter is missing");
            fields.get(name).map(String::as_str).ok_or(lacking)
        };
        if field("grant_type")? != "client_credentials" {
            return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type", "it must be client_credentials"));
        }
        if field("client_assertion_type")? != ASSERTION_TYPE {
            return Err((StatusCode::BAD_REQUEST, "invalid_request", "the assertion must be a JWT"));
        }
        let unknown = (StatusCode::UNAUTHORIZED, "invalid_client", "the assertion is of no client that is known");
        let client = self.client_of(field("client_assertion")?).ok_or(unknown)?;
        let none = (StatusCode::BAD_REQUEST, "invalid_scope", "the client may have none of the scopes");
        let scope = self.granted(&client, field("scope")?).ok_or(none)?;
        let keys = self.keys.lock().unwrap();
        let token = keys.last().unwrap().token(&self.claims(&client, &scope));
        Ok(json!({"access_token": token, "token_type": "bearer", "expires_in": LIFE, "scope": scope}))
    }
}

async fn token(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let (status, answer) = match shared.grant(&body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err((status, error, description)) => (status, json!({"error": error, "error_description": description})),
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, answer.to_string()).into_response()
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.keys_asked_for.fetch_add(1, Ordering::SeqCst);
    let keys = shared.keys.lock().unwrap();
    let published = forge::key_set(&keys.iter().collect::<Vec<_>>()).to_string();
    ([(header::CONTENT_TYPE, "application/json")], published).into_response()
}

mod tests {
    use std::sync::LazyLock;

    use fhir_export::auth::smart::{
        KeyPatience, KeySource, KeyUrl, Refusal, RequiredClaim, SmartConfiguration, TokenVerifier,
    };

    use super::*;

    const STORE: &str = "https://export.example/datastore/0123/r4/";
    const SCOPE: &str = "system/*.read";

    static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("mine", Algorithm::RS384));
    static P384: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es384("mine"));

    fn verifier(server: &TokenServer) -> TokenVerifier {
        let keys = KeySource::new(KeyUrl::new(&server.keys_url()).unwrap(), KeyPatience::default());
        let verifier = TokenVerifier::new(server.issuer(), [STORE], Arc::new(keys)).unwrap();
        verifier.with_required_claims(RequiredClaim::HEALTHLAKE)
    }

    #[tokio::test]
    async fn a_backend_service_gets_a_token_and_uses_it_many_times() {
        let server = TokenServer::start(STORE).await;
        server.register("with-rsa", &RSA, SCOPE);
        server.register("with-p384", &P384, SCOPE);
        let verifier = verifier(&server);
        for (client, key) in [("with-rsa", &RSA), ("with-p384", &P384)] {
            let token = server.token(client, key, "system/Patient.read system/Observation.read openid").await;
            for _ in 0..3 {
                let claims = verifier.verify(&token, now()).await.unwrap();
                assert_eq!((claims.issuer(), claims.caller()), (server.issuer(), client));
                assert_eq!(claims.scope(), "system/Patient.read system/Observation.read");
            }
        }
        assert_eq!(server.keys_asked_for(), 1);
    }

    #[tokio::test]
    async fn keys_are_rotated_while_tokens_are_in_use() {
        let server = TokenServer::start(STORE).await;
        server.register("client", &P384, SCOPE);
        let verifier = verifier(&server);
        let old = server.token("client", &P384, SCOPE).await;
        let now = now();
        assert!(verifier.verify(&old, now).await.is_ok());
        server.rotate();
        let new = server.token("client", &P384, SCOPE).await;
        // A moment after a fetch, another is put off.
        assert_eq!(verifier.verify(&new, now + 9).await, Err(Refusal::UnknownKey));
        assert!(verifier.verify(&new, now + 10).await.is_ok());
        assert!(verifier.verify(&old, now + 10).await.is_ok());
        server.retire();
        assert!(verifier.verify(&old, now + 309).await.is_ok());
        let refused = verifier.verify(&old, now + 310).await;
        assert_eq!(refused, Err(Refusal::UnknownKey));
        assert_eq!(server.keys_asked_for(), 3);
    }

    #[tokio::test]
    async fn what_the_server_signs_wrongly_is_refused() {
        let server = TokenServer::start(STORE).await;
        let verifier = verifier(&server);
        let mint = |change: fn(&mut Value, &mut Value)| server.mint("client", SCOPE, change);
        let rows = [
            ("as it should be", mint(|_, _| ()), Ok(())),
            ("for another", mint(|_, claims| claims["aud"] = json!("https://other.example")), Err(Refusal::Audience)),
            ("expired", mint(|_, claims| claims["exp"] = json!(now() - 60)), Err(Refusal::Expired)),
            ("none", mint(|header, _| header["alg"] = json!("none")), Err(Refusal::Algorithm)),
            ("not allowed", mint(|_, claims| claims["isAuthorized"] = json!(false)), Err(Refusal::NotAuthorized)),
        ];
        for (name, token, expected) in rows {
            assert_eq!(verifier.verify(&token, now()).await.map(|_| ()), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn who_is_no_client_gets_no_token() {
        let server = TokenServer::start(STORE).await;
        server.register("client", &P384, SCOPE);
        let stranger = SigningKey::es384("mine");
        let assertion = |change: fn(&mut Value, &mut Value)| {
            let (mut header, mut claims) = (P384.header(), server.assertion_claims("client"));
            change(&mut header, &mut claims);
            server.form_with(&P384.sign(&header, &claims), SCOPE)
        };
        let field = |name: &str, value: &str| {
            let mut form = server.form("client", &P384, SCOPE);
            form.iter_mut().filter(|(one, _)| *one == name).for_each(|(_, old)| *old = value.to_owned());
            form
        };
        let good = server.form("client", &P384, SCOPE);
        let mut twice = server.form("client", &P384, SCOPE);
        twice.push(("scope", "system/*.*".to_owned()));
        #[rustfmt::skip]
        let rows = [
            ("a client", good.clone(), 200, ""),
            ("the same assertion again", good, 401, "invalid_client"),
            ("another's key", server.form("client", &stranger, SCOPE), 401, "invalid_client"),
            ("a client that isn't known", server.form("stranger", &P384, SCOPE), 401, "invalid_client"),
            ("no assertion", field("client_assertion", ""), 401, "invalid_client"),
            ("an assertion without signature", assertion(|header, _| header["alg"] = json!("none")), 401, "invalid_client"),
            ("an assertion with a key id of another", assertion(|header, _| header["kid"] = json!("x")), 401, "invalid_client"),
            ("an assertion for another server", assertion(|_, claims| claims["aud"] = json!("https://x/token")), 401, "invalid_client"),
            ("an assertion of another issuer", assertion(|_, claims| claims["iss"] = json!("x")), 401, "invalid_client"),
            ("an expired assertion", assertion(|_, claims| claims["exp"] = json!(now() - 1)), 401, "invalid_client"),
            ("an assertion for an hour", assertion(|_, claims| claims["exp"] = json!(now() + 3600)), 401, "invalid_client"),
            ("an assertion without id", assertion(|_, claims| claims["jti"] = Value::Null), 401, "invalid_client"),
            ("another grant", field("grant_type", "authorization_code"), 400, "unsupported_grant_type"),
            ("another type of assertion", field("client_assertion_type", "saml"), 400, "invalid_request"),
            ("a parameter twice", twice, 400, "invalid_request"),
            ("no parameter", Vec::new(), 400, "invalid_request"),
            ("scopes that it may not have", field("scope", "system/*.write patient/*.read"), 400, "invalid_scope"),
        ];
        for (name, form, status, error) in rows {
            let (found, body) = server.ask(&form).await;
            assert_eq!((found, body["error"].as_str().unwrap_or_default()), (status, error), "{name}: {body}");
        }
    }

    #[cfg(feature = "s3")]
    #[tokio::test]
    async fn keys_come_over_tls_from_whom_the_operator_trusts() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let authority = crate::support::authority::Authority::new();
        let other = crate::support::authority::Authority::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, elsewhere) = (authority.acceptor("127.0.0.1"), authority.acceptor("elsewhere.example"));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let keys = forge::key_set(&[&P384]).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{keys}", keys.len());
            for acceptor in [&ours, &elsewhere, &ours, &ours] {
                let (connection, _) = listener.accept().await.unwrap();
                // A client that doesn't trust us hangs up.
                let Ok(mut connection) = acceptor.accept(connection).await else { continue };
                if connection.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                    connection.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        let url = format!("https://{address}/jwks.json");
        let trusted = authority.pem();
        let rows = [
            ("one that isn't trusted", String::new(), false),
            ("of another host", trusted.clone(), false),
            ("of another authority", other.pem(), false),
            ("ours", trusted, true),
        ];
        for (name, pem, taken) in rows {
            let keys = KeyUrl::with_authorities(&url, pem.as_bytes()).unwrap();
            let found = KeySource::new(keys, KeyPatience::default()).check(now()).await;
            assert_eq!(found.is_ok(), taken, "{name}: {found:?}");
        }
    }

    #[tokio::test]
    async fn the_configuration_leads_to_the_token_server() {
        let server = TokenServer::start(STORE).await;
        let configuration =
            SmartConfiguration::new(server.token_url()).with_issuer(server.issuer(), Some(server.keys_url())).to_json();
        assert_eq!(configuration["token_endpoint"], server.token_url());
        let keys = KeyUrl::new(configuration["jwks_uri"].as_str().unwrap()).unwrap();
        assert_eq!(KeySource::new(keys, KeyPatience::default()).check(now()).await.unwrap(), 1);
    }
}
