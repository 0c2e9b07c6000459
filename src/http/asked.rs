//! What a request asks for, read from its line and body before any handler sees it.

use axum::http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::auth::Action;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What anybody may read.
    Public,
    /// An action on a data store; `None`: on none in particular.
    Act(Action, Option<String>),
    /// What isn't offered: a caller is told so once he is known.
    Nothing,
}

impl Asked {
    /// Reads it. The path is the one below the router, as it came; its parts are decoded as the routes do.
    pub(super) fn of(method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        if path == "/" {
            return Self::of_sdk(headers, body);
        }
        let parts: Option<Vec<String>> = path.split('/').skip(1).map(decoded).collect();
        let Some(parts) = parts else { return Self::Nothing };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["healthz" | "readyz" | "metrics"] => Self::Public,
            ["datastore", _, "r4", "metadata"] | ["datastore", _, "r4", ".well-known", "smart-configuration"] => {
                Self::Public
            }
            ["datastore", datastore, "r4", below @ ..] => Self::of_data_store(method, datastore, below),
            _ => Self::Nothing,
        }
    }

    fn of_data_store(method: &Method, datastore: &str, below: &[&str]) -> Self {
        let act = |action| Self::Act(action, Some(datastore.to_owned()));
        match (below, method) {
            (["$export"] | ["Patient", "$export"] | ["Group", _, "$export"], &Method::GET) => {
                act(Action::StartExportWithGet)
            }
            (["export", _], &Method::DELETE) => act(Action::CancelExportWithDelete),
            (["export", _, "files", _], _) => act(Action::GetExportedFile),
            (["export", ..], _) => act(Action::DescribeExportWithGet),
            // Also to the bare base: so a caller finds out whether he is let in (HealthLake contract section 1).
            _ => act(Action::StartExportWithPost),
        }
    }

    fn of_sdk(headers: &HeaderMap, body: &[u8]) -> Self {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let action = match target.strip_prefix("HealthLake.") {
            Some("StartFHIRExportJob") => Action::StartExport,
            Some("DescribeFHIRExportJob") => Action::DescribeExport,
            Some("ListFHIRExportJobs") => Action::ListExports,
            Some("DescribeFHIRDatastore") => Action::DescribeDatastore,
            Some("ListFHIRDatastores") => Action::ListDatastores,
            _ => return Self::Nothing,
        };
        let body = serde_json::from_slice::<Value>(body).ok();
        let datastore = body.as_ref().and_then(|body| body.get("DatastoreId")).and_then(Value::as_str);
        Self::Act(action, datastore.map(str::to_owned))
    }
}

fn decoded(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_a_data_store_asks_for_an_action_on_it() {
        for (method, path, expected) in [
            (Method::POST, "/datastore/d/r4/$export", Action::StartExportWithPost),
            (Method::GET, "/datastore/d/r4/$export", Action::StartExportWithGet),
            (Method::GET, "/datastore/d/r4/%24export", Action::StartExportWithGet),
            (Method::GET, "/datastore/%64/r4/%24export", Action::StartExportWithGet),
            (Method::POST, "/datastore/d/r4/Group/1/$export", Action::StartExportWithPost),
            (Method::GET, "/datastore/d/r4/Patient/$export", Action::StartExportWithGet),
            (Method::GET, "/datastore/d/r4/export/1", Action::DescribeExportWithGet),
            (Method::HEAD, "/datastore/d/r4/export/1", Action::DescribeExportWithGet),
            (Method::DELETE, "/datastore/d/r4/export/1", Action::CancelExportWithDelete),
            (Method::GET, "/datastore/d/r4/export/1/files/a", Action::GetExportedFile),
            (Method::POST, "/datastore/d/r4/", Action::StartExportWithPost),
            (Method::POST, "/datastore/d/r4", Action::StartExportWithPost),
            (Method::GET, "/datastore/d/r4/Observation", Action::StartExportWithPost),
        ] {
            let asked = Asked::of(&method, path, &HeaderMap::new(), b"");
            assert_eq!(asked, Asked::Act(expected, Some("d".to_owned())), "{method} {path}");
        }
    }

    #[test]
    fn little_is_public() {
        let public = |path| Asked::of(&Method::GET, path, &HeaderMap::new(), b"") == Asked::Public;
        assert!(["/healthz", "/readyz", "/metrics", "/datastore/d/r4/metadata"].into_iter().all(public));
        assert!(public("/datastore/d/r4/.well-known/smart-configuration"));
        for path in
            ["/", "/datastore/d/r4/metadata/", "/metadata", "/healthz/x", "/datastore/d/r4/export/metadata", "//"]
        {
            assert!(!public(path), "{path}");
        }
    }
}
