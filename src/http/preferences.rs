//! Headers of a kick-off: what the client prefers, accepts and sends.

use axum::http::{HeaderMap, header};

use super::outcome::Refused;
use crate::request::Handling;

/// What `Prefer` says (RFC 7240; Bulk Data Access IG, kick-off).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    pub(super) responds_async: bool,
    pub(super) is_lenient: bool,
    pub(super) separate_status: bool,
}

impl Preferences {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        for preference in list(headers, "prefer") {
            match preference.replace([' ', '"'], "").to_ascii_lowercase().as_str() {
                "respond-async" => preferences.responds_async = true,
                "handling=lenient" => preferences.is_lenient = true,
                "separate-export-status" => preferences.separate_status = true,
                _ => {}
            }
        }
        preferences
    }

    pub(super) const fn handling(self) -> Handling {
        if self.is_lenient { Handling::Lenient } else { Handling::Strict }
    }
}

/// The elements of a header that is a list, in as many lines as there are; parameters are left out.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let elements = lines.flat_map(|line| line.split(','));
    elements.map(|element| element.split(';').next().unwrap_or_default().trim())
}

/// Whether the answer may be FHIR JSON: absent, `Accept` allows it. Lists and weights are read as clients send them.
pub(super) fn accepts_json(headers: &HeaderMap) -> bool {
    let mut any = false;
    for range in list(headers, "accept").filter(|range| !range.is_empty()) {
        any = true;
        let range = range.to_ascii_lowercase();
        if matches!(range.as_str(), "*/*" | "application/*" | "application/json" | "application/fhir+json") {
            return true;
        }
        // Sent by some clients for the files to come.
        if range.ends_with("ndjson") {
            return true;
        }
    }
    !any
}

/// The body's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyType {
    Absent,
    Json,
    Other,
}

pub(super) fn body_type(headers: &HeaderMap) -> BodyType {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return BodyType::Absent };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/fhir+json" | "application/json" => BodyType::Json,
        _ => BodyType::Other,
    }
}

/// Refuses a client that takes no JSON.
pub(super) fn refuse_unless_accepted(headers: &HeaderMap) -> Result<(), Refused> {
    if accepts_json(headers) {
        return Ok(());
    }
    let status = axum::http::StatusCode::NOT_ACCEPTABLE;
    Err(Refused::new(status, "not-supported", "Accept allows none of application/fhir+json and application/json"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preferences_come_in_one_line_or_several() {
        let all = Preferences { responds_async: true, is_lenient: true, separate_status: true };
        for pairs in [
            &[("prefer", "respond-async, handling=lenient,separate-export-status")][..],
            &[
                ("prefer", "respond-async; wait=10"),
                ("prefer", "handling=\"lenient\""),
                ("prefer", "Separate-Export-Status"),
            ],
        ] {
            assert_eq!(Preferences::of(&headers(pairs)), all);
        }
        assert_eq!(Preferences::of(&headers(&[("prefer", "return=minimal")])), Preferences::default());
    }

    #[test]
    fn what_clients_send_is_accepted() {
        for value in ["application/fhir+json", "application/fhir+json, */*; q=0.1", "*/*", "application/JSON;q=0.9", ""]
        {
            assert!(accepts_json(&headers(&[("accept", value)])), "{value}");
        }
        assert!(accepts_json(&HeaderMap::new()));
        assert!(!accepts_json(&headers(&[("accept", "text/html, application/xml")])));
    }
}
