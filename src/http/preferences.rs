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
        for element in elements(headers, "prefer") {
            let preference = element.split(';').next().unwrap_or_default().trim();
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

/// The elements of a header that is a list, in as many lines as there are.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(','))
}

/// Whether the answer may be FHIR JSON: absent, `Accept` allows it. Lists and weights are read as clients send them; a
/// weight of nothing refuses, and what names a type goes before what names many (RFC 9110, section 12.5.1).
pub(super) fn accepts_json(headers: &HeaderMap) -> bool {
    let ranges: Vec<(String, bool)> = elements(headers, "accept")
        .map(|element| {
            let (range, parameters) = element.split_once(';').unwrap_or((element, ""));
            (range.trim().to_ascii_lowercase(), !weighs_nothing(parameters))
        })
        .filter(|(range, _)| !range.is_empty())
        .collect();
    let allows = |name: &str| {
        let mut named = ranges.iter().filter(|(range, _)| range == name).peekable();
        named.peek().is_some().then(|| named.any(|(_, allowed)| *allowed))
    };
    let is_allowed = |name| allows(name).or_else(|| allows("application/*")).or_else(|| allows("*/*")) == Some(true);
    // Some clients send the type of the files to come.
    let is_of_files = |(range, allowed): &(String, bool)| *allowed && range.ends_with("ndjson");
    ranges.is_empty()
        || ["application/fhir+json", "application/json"].into_iter().any(is_allowed)
        || ranges.iter().any(is_of_files)
}

/// Whether the parameters of a range have `q=0`, in any of its spellings.
fn weighs_nothing(parameters: &str) -> bool {
    let weights = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut weights = weights.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weights.any(|(_, weight)| weight.trim().parse::<f32>() == Ok(0.0))
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

    #[test]
    fn a_type_that_weighs_nothing_is_not_accepted() {
        for (value, expected) in [
            ("application/fhir+json;q=0", false),
            ("application/fhir+json; Q = 0.000", false),
            ("application/fhir+json;charset=utf-8;q=0, text/html", false),
            ("application/fhir+json;q=0, application/json", true),
            ("application/fhir+json;q=0, */*;q=0.1", true),
            ("application/fhir+json;q=0, application/json;q=0, */*", false),
            ("application/*;q=0, */*", false),
            ("application/fhir+json;q=0.001", true),
            ("application/fhir+ndjson;q=0", false),
            ("*/*;q=0", false),
        ] {
            assert_eq!(accepts_json(&headers(&[("accept", value)])), expected, "{value}");
        }
    }
}
