//! The file of `serve --config`, as it is written: values are understood by the plan.

use std::num::NonZeroUsize;

use fhir_export::auth::SecretText;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::super::faults::Faults;

/// A text, and its place in the file.
type Text = Spanned<String>;

/// All that a file may say. What isn't known is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileSettings {
    pub(super) listen: Option<Text>,
    pub(super) public_url: Option<Text>,
    pub(super) state: Option<Text>,
    pub(super) account: Option<Text>,
    pub(super) region: Option<Text>,
    pub(super) tls: Option<TlsTable>,
    pub(super) files: FilesTable,
    pub(super) queue: QueueTable,
    pub(super) limits: LimitsTable,
    pub(super) s3: S3Table,
    pub(super) outputs: OutputsTable,
    pub(super) roles: Option<RolesTable>,
    pub(super) auth: Option<Spanned<AuthTable>>,
    pub(super) audit: AuditTable,
    pub(super) data_stores: Vec<DataStoreTable>,
}

/// Where callers may have their output written to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OutputsTable {
    pub(super) allow: Option<Spanned<Vec<String>>>,
}

/// In whose name callers' output is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolesTable {
    pub(super) assume: bool,
    pub(super) sts_endpoint: Option<Text>,
    pub(super) external_id: Option<Text>,
    pub(super) session_seconds: Option<Spanned<u32>>,
}

/// What is kept for those who audit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuditTable {
    /// A file that gets an `AuditEvent` for each job.
    pub(super) events: Option<Text>,
}

/// Who is let in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuthTable {
    pub(super) keys: Vec<KeyTable>,
    pub(super) smart: Option<SmartTable>,
}

/// An access key of AWS's kind, and whose it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    pub(super) id: Text,
    pub(super) secret: Spanned<GivenSecret>,
    /// Of a key that is one of a session.
    pub(super) session_token: Option<Spanned<GivenSecret>>,
    /// When the session ends.
    pub(super) expires: Option<Text>,
    pub(super) principal: Text,
    pub(super) policies: Spanned<Vec<String>>,
}

/// Whose tokens are taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SmartTable {
    pub(super) issuer: Text,
    /// A URL, or the path of a file.
    pub(super) keys: Text,
    pub(super) token_endpoint: Option<Text>,
    pub(super) audiences: Option<Spanned<Vec<String>>>,
    pub(super) algorithms: Option<Spanned<Vec<String>>>,
}

/// A secret: itself, or `${NAME}` for what the environment has.
#[derive(Debug)]
pub(super) struct GivenSecret(SecretText);

impl<'de> Deserialize<'de> for GivenSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is there in place of a text isn't told.
        let secret = String::deserialize(deserializer).map_err(|_| D::Error::custom("it must be a text in quotes"))?;
        Ok(Self(secret.into()))
    }
}

impl GivenSecret {
    /// The secret itself.
    pub(super) fn reveal(&self, faults: &mut Faults, place: &str) -> Option<SecretText> {
        let given = self.0.expose();
        let name = given.strip_prefix("${").and_then(|name| name.strip_suffix('}'));
        let secret = match name {
            None => given.to_owned(),
            Some(name) => match std::env::var(name) {
                Ok(secret) => secret,
                Err(_) => {
                    faults.say(format!("{place}: the environment variable {name} isn't set"));
                    return None;
                }
            },
        };
        if secret.is_empty() {
            let empty = name.map_or("it".to_owned(), |name| format!("the environment variable {name}"));
            faults.say(format!("{place}: {empty} is empty"));
            return None;
        }
        Some(secret.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The files of Bulk Data exports.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilesTable {
    pub(super) to: Option<Text>,
    pub(super) keep_hours: Option<NonZeroUsize>,
    pub(super) signed_url_seconds: Option<u32>,
    pub(super) kms_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueueTable {
    /// Jobs of one account and Region.
    pub(super) jobs_at_once: Option<NonZeroUsize>,
    pub(super) jobs_at_once_in_all: Option<NonZeroUsize>,
    pub(super) most_waiting: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsTable {
    pub(super) memory: Option<Text>,
    /// Patients of a Group.
    pub(super) cohort: Option<NonZeroUsize>,
    pub(super) body_bytes: Option<NonZeroUsize>,
    pub(super) query_bytes: Option<NonZeroUsize>,
    pub(super) head_bytes: Option<Spanned<NonZeroUsize>>,
    pub(super) headers: Option<NonZeroUsize>,
    pub(super) starts_at_once: Option<NonZeroUsize>,
    pub(super) connections: Option<NonZeroUsize>,
    pub(super) header_seconds: Option<NonZeroUsize>,
    pub(super) body_seconds: Option<NonZeroUsize>,
    pub(super) stalled_seconds: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct S3Table {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) ca_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataStoreTable {
    pub(super) id: Option<Text>,
    pub(super) source: Text,
    pub(super) base_urls: Option<Spanned<Vec<String>>>,
    pub(super) account: Option<Text>,
    pub(super) region: Option<Text>,
}

/// A value, and where it was given: a flag, or a line and key of the file.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) place: String,
    pub(super) text: String,
}

/// The file, or nothing if there is none.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    path: String,
    text: String,
    pub(super) settings: FileSettings,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file, the line and the key.
    pub(super) fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path} can't be read: {error}"))?;
        Self::of(path, text)
    }

    /// Understands what a file holds.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub(super) fn of(path: &str, text: String) -> Result<Self, String> {
        let settings = parsed(path, &text)?;
        Ok(Self { path: path.to_owned(), text, settings })
    }

    /// What a flag says, else the file.
    pub(super) fn pick(&self, flag: (&str, Option<&str>), file: (&str, Option<&Text>)) -> Option<Given> {
        let of_flag = flag.1.map(|text| Given { place: flag.0.to_owned(), text: text.to_owned() });
        of_flag.or_else(|| file.1.map(|text| self.given(file.0, text)))
    }

    /// A value of the file.
    pub(super) fn given(&self, key: &str, text: &Text) -> Given {
        Given { place: self.place(key, text), text: text.get_ref().clone() }
    }

    /// Where a value of the file stands: `serve.toml:3: listen`.
    pub(super) fn place<T>(&self, key: &str, value: &Spanned<T>) -> String {
        format!("{}:{}: {key}", self.path, line_of(&self.text, value.span().start))
    }
}

/// Lines count from one.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn parsed<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        // The parser's own display shows the line's text, which may hold a password.
        let message = error.message().replace('\n', " ");
        let Some(span) = error.span() else { return format!("{path}: {message}") };
        let line = line_of(text, span.start);
        match key_of(text, line) {
            Some(key) if !message.contains(key) => format!("{path}:{line}: {key}: {message}"),
            _ => format!("{path}:{line}: {message}"),
        }
    })
}

/// The key of a line, if it surely is one: a line of a longer text may be a secret's.
fn key_of(text: &str, line: usize) -> Option<&str> {
    let is_bare =
        |key: &&str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let is_long = |line: &str| line.contains("\"\"\"") || line.contains("'''");
    let mut lines = text.lines();
    if lines.by_ref().take(line - 1).any(is_long) {
        return None;
    }
    lines.next().and_then(|line| line.split_once('=')).map(|(key, _)| key.trim()).filter(is_bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parsed::<FileSettings>("serve.toml", text).unwrap_err()
    }

    #[test]
    fn a_file_that_says_everything_is_read() {
        let text = "
listen = '127.0.0.1:0'
public_url = 'https://fhir.example.org'
state = '/var/lib/fhir-export'
account = '111122223333'
region = 'eu-west-1'
tls = { certificate = 'server.pem', key = 'server.key' }
files = { to = 's3://bucket/x', keep_hours = 24, signed_url_seconds = 300, kms_key = 'alias/x' }
queue = { jobs_at_once = 2, jobs_at_once_in_all = 4, most_waiting = 10 }
s3 = { endpoint = 'http://127.0.0.1:1', region = 'us-east-1', ca_file = 'ca.pem' }
outputs = { allow = ['s3://bucket/exports/'] }
roles = { assume = true, sts_endpoint = 'https://sts.example.org', external_id = 'x:1', session_seconds = 900 }
audit = { events = 'events.ndjson' }
[limits]
memory = '64MiB'
cohort = 1
body_bytes = 1
query_bytes = 1
head_bytes = 8192
headers = 1
starts_at_once = 1
connections = 1
header_seconds = 1
body_seconds = 1
stalled_seconds = 1
[auth.smart]
issuer = 'https://auth.example.org'
keys = 'https://auth.example.org/jwks.json'
token_endpoint = 'https://auth.example.org/token'
audiences = ['https://fhir.example.org']
algorithms = ['ES384']
[[auth.keys]]
id = 'AKIDEXAMPLE'
secret = '${SECRET}'
session_token = '${TOKEN}'
expires = '2030-01-01T00:00:00Z'
principal = 'arn:aws:iam::111122223333:user/nightly'
policies = ['nightly.json']
[[data_stores]]
id = 'a'
source = './a'
base_urls = ['https://a.example.org']
account = '444455556666'
region = 'us-east-1'
[[data_stores]]
source = './b'
";
        let settings: FileSettings = parsed("serve.toml", text).unwrap();
        assert_eq!(settings.data_stores.len(), 2);
        let file = ConfigFile { path: "serve.toml".to_owned(), text: text.to_owned(), settings };
        let listen = file.pick(("--listen", None), ("listen", file.settings.listen.as_ref())).unwrap();
        assert_eq!((listen.place.as_str(), listen.text.as_str()), ("serve.toml:2: listen", "127.0.0.1:0"));
        let flag = file.pick(("--listen", Some("[::1]:1")), ("listen", file.settings.listen.as_ref())).unwrap();
        assert_eq!((flag.place.as_str(), flag.text.as_str()), ("--listen", "[::1]:1"));
        let second = &file.settings.data_stores[1];
        assert_eq!(file.place("source", &second.source), "serve.toml:46: source");
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_key() {
        for (text, said) in [
            ("\nlisen = 'x'", "serve.toml:2: unknown field `lisen`"),
            ("listen = 8080", "serve.toml:1: listen: invalid type: integer `8080`"),
            ("[queue]\njobs_at_once = 0", "serve.toml:2: jobs_at_once: invalid value: integer `0`"),
            ("[[data_stores]]\nsource = './a'\npasword = 'geheim'", "serve.toml:3: unknown field `pasword`"),
            ("[[data_stores]]\nid = 'a'", "serve.toml:1: missing field `source`"),
            ("[roles]\nexternal_id = 'x'", "serve.toml:1: missing field `assume`"),
            ("[tls]\ncertificate = 'a'", "serve.toml:1: missing field `key`"),
            ("listen = '\n", "serve.toml:1: "),
            ("[[auth.keys]]\nid = 'a'\nsecret = 12345678", "serve.toml:3: secret: it must be a text in quotes"),
            ("[[auth.keys]]\nsecret = ['geheim']", "serve.toml:2: secret: it must be a text in quotes"),
            ("[[auth.keys]]\nsecret = geheim", "serve.toml:2: secret: "),
            ("[[auth.keys]]\nsecret = 'geheim", "serve.toml:2: secret: "),
            ("[[auth.keys]]\nsecret = 'geheim' geheim", "serve.toml:2: secret: "),
            ("[[auth.keys]]\nsecret = \"\"\"\ngeheim==\\q\"\"\"", "serve.toml:3: "),
            ("[[auth.keys]]\nsecret = [\n'geheim==' x", "serve.toml:3: "),
            ("[[auth.keys]]\nid = 'a'", "serve.toml:1: missing field `secret`"),
            ("[auth.smart]\nissuer = 'https://a.example'", "serve.toml:1: missing field `keys`"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.starts_with(said), "{refusal}");
            assert!(
                !refusal.contains("geheim") && !refusal.contains("12345678") && !refusal.contains('\n'),
                "{refusal}"
            );
        }
    }

    #[test]
    fn the_file_of_the_readme_is_one() {
        let readme = include_str!("../../../../README.md");
        let text = readme.split("```toml\nlisten").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let settings: FileSettings = parsed("README.md", &format!("listen{text}")).unwrap();
        assert_eq!(settings.data_stores.len(), 2);
    }
}
