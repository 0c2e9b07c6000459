//! URLs of what the router serves.

use axum::http::{HeaderMap, Uri, header};

use super::Settings;

/// The URL that was asked, absolute and as it was written.
pub(super) fn requested(settings: &Settings, headers: &HeaderMap, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match &settings.public_url {
        Some(public) => format!("{public}{path}"),
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let scheme = if settings.is_tls { "https" } else { "http" };
            format!("{scheme}://{}{path}", host.or_else(|| uri.host()).unwrap_or("localhost"))
        }
    }
}

/// The base of the data store: everything up to its `/r4`.
pub(super) fn base(requested: &str) -> &str {
    let path = requested.split('?').next().unwrap_or_default();
    path.find("/r4/").and_then(|at| path.get(..at + 3)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_ends_with_its_version_wherever_the_router_is_mounted() {
        let base_of = "http://h:1/x/datastore/d/r4";
        for path in ["/$export?_type=a/r4/b", "/Group/1/$export", "/export/1", "/metadata"] {
            assert_eq!(base(&format!("{base_of}{path}")), base_of);
        }
    }

    #[test]
    fn the_public_url_goes_before_the_host_that_was_asked() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
        let uri: Uri = "/datastore/d/r4/$export?_type=Patient".parse().unwrap();
        let own = requested(&Settings::default(), &headers, &uri);
        assert_eq!(own, "http://127.0.0.1:8080/datastore/d/r4/$export?_type=Patient");
        let public = Settings { public_url: Some("https://fhir.example.org/x".to_owned()), ..Settings::default() };
        assert!(requested(&public, &headers, &uri).starts_with("https://fhir.example.org/x/datastore/d/r4/"));
    }
}
