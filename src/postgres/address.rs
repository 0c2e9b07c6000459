//! Addresses of servers: what of them may be shown, and what only the server gets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Tls;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{excerpt, whole_uri};

/// How long a server may take to answer a new connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection may be silent before it is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What would end the value of a parameter, or be read as something else.
const NOT_IN_VALUES: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'?');

/// A server and a database of it: `postgres://user@host:port/database?sslmode=…`.
///
/// - `sslmode`: `disable`; `prefer`, the default for this machine: TLS if the server has it, with a certificate that is
///   checked only if `sslrootcert` is given, since without TLS nothing is checked either; `require`, the default for any
///   other: TLS with a certificate that is checked, which `verify-ca` and `verify-full` mean too; `no-verify`: TLS with any
///   certificate.
/// - `sslrootcert`: a file of the certificates to trust, in place of the system's.
/// - Everything else is as in libpq's URIs.
#[derive(Clone)]
pub(crate) struct Address {
    config: Config,
    tls: Tls,
    shown: String,
    options: BTreeMap<String, String>,
}

impl Address {
    /// Reads a URI. Parameters named in `ours` are kept for [`option`](Self::option). A password that it lacks is taken
    /// from `password`.
    ///
    /// # Errors
    /// When it isn't one. The message doesn't quote the password.
    pub(crate) fn parse(uri: &str, ours: &[&str], password: Option<&str>) -> Result<Self> {
        let shown = whole_uri(uri);
        let refused = |why: String| Error::new(ErrorKind::InvalidRequest, why).with("uri", excerpt(&shown));
        let rest = uri.split_once(':').map(|(_, rest)| rest).unwrap_or_default();
        let rest = if rest.starts_with("//") { rest.to_owned() } else { format!("///{rest}") };
        let (place, query) = rest.split_once('?').unwrap_or((&rest, ""));
        let mut options = BTreeMap::new();
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if ours.contains(&name) || name == "sslmode" || name == "sslrootcert" {
                let value = percent_encoding::percent_decode_str(value).decode_utf8();
                let value = value.map_err(|_| refused(format!("the value of {name} isn't UTF-8")))?;
                options.insert(name.to_owned(), value.into_owned());
            } else {
                others.push(pair);
            }
        }
        let uri = format!("postgresql:{place}?{}", others.join("&"));
        // The parser's message may quote what it doesn't understand, a password among it.
        let mut config = Config::from_str(uri.trim_end_matches('?')).map_err(|_| {
            refused("the URI of the database can't be read; write postgres://user@host:port/database".to_owned())
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_user().is_none() {
            config.user(
                std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "postgres".to_owned()),
            );
        }
        if let (None, Some(password)) = (config.get_password(), password) {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        config.keepalives_idle(KEEPALIVE);
        let (mode, tls) = Self::tls(&config, &options).map_err(refused)?;
        config.ssl_mode(mode);
        Ok(Self { config, tls, shown, options })
    }

    fn tls(config: &Config, options: &BTreeMap<String, String>) -> Result<(SslMode, Tls), String> {
        let certificates = options.get("sslrootcert").map(PathBuf::from);
        let preferred = certificates.clone().map_or(Tls::Unchecked, Tls::File);
        let checked = certificates.map_or(Tls::System, Tls::File);
        let is_near = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
        match options.get("sslmode").map(String::as_str) {
            None if is_near => Ok((SslMode::Prefer, preferred)),
            None | Some("require" | "verify-ca" | "verify-full") => Ok((SslMode::Require, checked)),
            Some("prefer" | "allow") => Ok((SslMode::Prefer, preferred)),
            Some("no-verify") => Ok((SslMode::Require, Tls::Unchecked)),
            Some("disable") => Ok((SslMode::Disable, checked)),
            Some(other) => {
                Err(format!("sslmode is disable, prefer, require, verify-full or no-verify, not {:?}", excerpt(other)))
            }
        }
    }

    /// The URI without its password.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The value of a parameter of ours.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) const fn tls_settings(&self) -> &Tls {
        &self.tls
    }
}

/// The URI of a database with absolute paths in place of those parameters that are files; any other URI as it is.
pub(crate) fn with_absolute_files(uri: &str, is_file: impl Fn(&str, &str) -> bool) -> String {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let Some((place, query)) = uri.split_once('?').filter(|_| scheme.starts_with("postgres")) else {
        return uri.to_owned();
    };
    let absolute = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let path = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        let is_relative = !path.is_empty() && is_file(name, &path) && !Path::new(&*path).is_absolute();
        let whole = std::path::absolute(&*path).ok().filter(|_| is_relative)?;
        Some(format!("{name}={}", utf8_percent_encode(whole.to_str()?, NOT_IN_VALUES)))
    };
    let pairs: Vec<String> = query.split('&').map(|pair| absolute(pair).unwrap_or_else(|| pair.to_owned())).collect();
    format!("{place}?{}", pairs.join("&"))
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(uri: &str) -> SslMode {
        Address::parse(uri, &[], None).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn a_password_is_in_nothing_that_is_shown() {
        for uri in [
            "postgres://u:se%40cret@h:5/d?sslmode=disable",
            "postgres://u@h:5/d?password=secret&sslmode=disable",
            "postgres://u:secret@h:badport/d",
            "postgres://u:secret@h/d?sslmode=perhaps",
            "postgres://u:secret@h/d?secret",
        ] {
            let text = match Address::parse(uri, &[], None) {
                Ok(address) => format!("{address:?} {}", address.shown()),
                Err(error) => format!("{error:?} {error:#}"),
            };
            assert!(text.contains("postgres://u@h") && !text.contains("cret@") && !text.contains("=secret"), "{text}");
        }
    }

    #[test]
    fn another_machine_must_show_a_certificate_unless_the_address_says_so() {
        assert_eq!(mode("postgres://u@db.example.org/d"), SslMode::Require);
        assert_eq!(mode("postgres://u@db.example.org/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u@localhost/d"), SslMode::Prefer);
        assert_eq!(mode("postgres:d"), SslMode::Prefer);
        assert_eq!(mode("postgres:///d?host=/run/postgresql"), SslMode::Prefer);
        let tls = |uri: &str| Address::parse(uri, &[], None).unwrap().tls;
        assert_eq!(tls("postgres://u@localhost/d"), Tls::Unchecked);
        assert_eq!(tls("postgres://u@localhost/d?sslrootcert=ca.pem"), Tls::File("ca.pem".into()));
        assert_eq!(tls("postgres://u@localhost/d?sslmode=require"), Tls::System);
        assert_eq!(mode("postgres://u@127.0.0.1/d?sslmode=verify-full"), SslMode::Require);
        let error = Address::parse("postgres://u@h/d?sslmode=perhaps", &[], None).unwrap_err();
        assert!(error.message().contains("verify-full"), "{error}");
    }

    #[test]
    fn files_that_an_address_names_are_found_from_any_folder() {
        let is_file = |name: &str, value: &str| name == "mapping" && value != "known";
        let here = std::env::current_dir().unwrap().display().to_string();
        for (typed, expected) in [
            ("postgres://h/d?mapping=m.toml&x=1", format!("postgres://h/d?mapping={here}/m.toml&x=1")),
            ("postgres://h/d?mapping=a%20b", format!("postgres://h/d?mapping={here}/a%20b")),
            ("postgres://h/d?mapping=known", "postgres://h/d?mapping=known".to_owned()),
            ("postgres://h/d?mapping=/m.toml", "postgres://h/d?mapping=/m.toml".to_owned()),
            ("postgres://h/d", "postgres://h/d".to_owned()),
            ("sqlite:x?mapping=m", "sqlite:x?mapping=m".to_owned()),
        ] {
            assert_eq!(with_absolute_files(typed, is_file), expected);
        }
    }

    #[test]
    fn what_is_ours_is_not_sent_to_the_server() {
        let address =
            Address::parse("postgres://u@h/d?lease_seconds=3&connect_timeout=2", &["lease_seconds"], Some("p"))
                .unwrap();
        assert_eq!(address.option("lease_seconds"), Some("3"));
        assert_eq!(address.config.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(address.config.get_password(), Some(b"p".as_slice()));
        assert_eq!(address.config.get_dbname(), Some("d"));
    }
}
