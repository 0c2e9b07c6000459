//! A request from a query string.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::draft::Draft;
use super::fault::{Fault, FaultKind};

/// What a raw `+` in a value stands for.
#[derive(Clone, Copy)]
enum Plus {
    /// A blank, as forms encode it.
    Blank,
    /// Itself: the value has no place for a blank, so its sender forgot to encode it.
    Itself,
}

impl Draft {
    /// Reads a raw query string, without its question mark.
    ///
    /// `_type`, `_security`, `_tag` and `_outputFormat` may be repeated and hold lists. `patient` is refused, by whatever
    /// handling: skipped, it would export everybody. A bare or empty supported parameter counts as absent, because that is
    /// how HealthLake echoes one. A raw `+` is taken as it was meant: in a time or a format it is a plus.
    pub fn read_query(&mut self, query: &str) {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.read_pair(name, value);
        }
    }

    fn read_pair(&mut self, raw_name: &str, raw_value: &str) {
        let Some(name) = decode(raw_name, Plus::Blank) else {
            let name = percent_decode_str(raw_name).decode_utf8_lossy();
            self.refuse(Fault::new(FaultKind::Structure, &name, "isn't UTF-8", "percent-encoded UTF-8"));
            return;
        };
        let (put, plus): (fn(&mut Self, &str, &str), Plus) = match name.as_ref() {
            "_type" => (Self::add_types, Plus::Blank),
            "_since" => (Self::put_since, Plus::Itself),
            "_until" => (Self::put_until, Plus::Itself),
            "_outputFormat" => (Self::add_output_formats, Plus::Itself),
            "_security" => (Self::add_security, Plus::Blank),
            "_tag" => (Self::add_tags, Plus::Blank),
            "patient" => return self.refuse(patient_in_query()),
            _ => return self.unsupported(&name),
        };
        match decode(raw_value, plus) {
            Some(value) if value.is_empty() => {}
            Some(value) => put(self, &name, &value),
            None => {
                let fault = Fault::new(FaultKind::Value, &name, "isn't UTF-8", "percent-encoded UTF-8");
                self.refuse(fault.with_value(&percent_decode_str(raw_value).decode_utf8_lossy()));
            }
        }
    }
}

/// Bulk Data Access IG 2.0.0 and 3.0.0: `patient` is for a `POST` with a body only.
fn patient_in_query() -> Fault {
    let accepted = "a parameter patient of the Parameters resource in the body of a POST";
    Fault::new(FaultKind::Structure, "patient", "can't be in the query", accepted)
}

/// Undoes percent-encoding; `None` if the bytes aren't UTF-8. A `%` without two hex digits stands for itself.
fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    match plus {
        Plus::Blank if text.contains('+') => {
            let text = text.replace('+', " ");
            let decoded = percent_decode_str(&text).decode_utf8().ok()?;
            Some(Cow::Owned(decoded.into_owned()))
        }
        Plus::Blank | Plus::Itself => percent_decode_str(text).decode_utf8().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Accepted, Handling, Level, Refusal};
    use super::*;

    fn read(query: &str, handling: Handling) -> Result<Accepted, Refusal> {
        let mut draft = Draft::new(handling);
        draft.set_level(Level::System);
        draft.read_query(query);
        draft.finish()
    }

    fn echo(query: &str) -> String {
        match read(query, Handling::Strict) {
            Ok(accepted) => accepted.request.normalised_query(),
            Err(refusal) => panic!("{query}: {refusal}"),
        }
    }

    #[test]
    fn the_contracts_query_gives_the_contracts_echo() {
        assert_eq!(
            echo("_since=2023-07-18T00%3A00%3A00.461Z"),
            "_type&_since=2023-07-18T00:00:00.461Z&_outputFormat=application/fhir+ndjson",
        );
    }

    #[test]
    fn accepted_queries_and_their_echo() {
        let tail = "&_outputFormat=application/fhir+ndjson";
        for (query, expected) in [
            ("", "_type&_since"),
            ("&&", "_type&_since"),
            ("_type&_since&_until=&_outputFormat=", "_type&_since"),
            ("_type=Patient", "_type=Patient&_since"),
            ("_type=MedicationStatement,%20Observation", "_type=MedicationStatement,Observation&_since"),
            ("_type=MedicationStatement,+Observation", "_type=MedicationStatement,Observation&_since"),
            ("_type=MedicationStatement, Observation", "_type=MedicationStatement,Observation&_since"),
            ("_type=Patient%2CGroup&_type=Patient&_type=Account", "_type=Account,Group,Patient&_since"),
            ("%5Ftype=Patient&_type", "_type=Patient&_since"),
            ("_since=2024-05-09T00%3A00%3A00Z", "_type&_since=2024-05-09T00:00:00Z"),
            ("_since=2024-05-09T00:00:00Z", "_type&_since=2024-05-09T00:00:00Z"),
            ("_since=2000-01-01T00:00:00%2B00:00", "_type&_since=2000-01-01T00:00:00+00:00"),
            ("_since=2000-01-01T00:00:00+01:00", "_type&_since=2000-01-01T00:00:00+01:00"),
            ("_since&_since=2024-05-09T00:00:00Z", "_type&_since=2024-05-09T00:00:00Z"),
            ("_until=2024-05-09T00:00:00Z", "_type&_since&_until=2024-05-09T00:00:00Z"),
            ("_outputFormat=application/fhir%2Bndjson", "_type&_since"),
            ("_outputFormat=application%2Ffhir+ndjson", "_type&_since"),
            ("_outputFormat=application/fhir%20ndjson", "_type&_since"),
            ("_outputFormat=application/ndjson", "_type&_since"),
            ("_outputFormat=ndjson", "_type&_since"),
            ("_outputFormat=ndjson&_outputFormat=application/ndjson", "_type&_since"),
            ("_outputFormat=ndjson,application/fhir+ndjson", "_type&_since"),
            ("_security=http%3A%2F%2Fx%7CR&_tag", "_type&_since&_security=http://x|R"),
            (
                "_tag=b&_tag=s|,a&_until=2024-05-09T00:00:00Z",
                "_type&_since&_until=2024-05-09T00:00:00Z&_tag=a&_tag=b&_tag=s|",
            ),
            ("_tag=a%26b%2B%25+c", "_type&_since&_tag=a%26b%2B%25%20c"),
        ] {
            assert_eq!(echo(query), format!("{expected}{tail}"), "{query}");
        }
    }

    #[test]
    fn refused_queries_and_their_faults() {
        for (query, beginning) in [
            ("_type=Foo", r#"_type "Foo" isn't a resource type of R4"#),
            ("_type=,", r#"_type "," names no resource type"#),
            ("_type=%20", r#"_type " " names no resource type"#),
            ("_type=%FF", "_type \"\u{fffd}\" isn't UTF-8"),
            ("_type=%zz", r#"_type "%zz" isn't a resource type of R4"#),
            ("_since=2024-05-09", r#"_since "2024-05-09" is a date without time and zone"#),
            ("_since=2024-05-09T00:00:00", r#"_since "2024-05-09T00:00:00" has no zone"#),
            ("_since=2024-05-09T00:00:00Z&_since=2024-05-09T00:00:00Z", "_since is given more than once"),
            ("_until=now", r#"_until "now" isn't an instant"#),
            ("_since=2024-05-10T00:00:00Z&_until=2024-05-09T00:00:00Z", r#"_since "2024-05-10T00:00:00Z" is after"#),
            ("_outputFormat=gzip", r#"_outputFormat "gzip" isn't an output format"#),
            ("_outputFormat=ndjson,csv", r#"_outputFormat "csv" isn't an output format"#),
            ("_outputFormat=,", r#"_outputFormat "" isn't an output format"#),
            ("_until=2024-05-09T00:00:00Z&_until=2025-05-09T00:00:00Z", "_until is given more than once"),
            ("_tag=a|b|c", r#"_tag "a|b|c" has more than one |"#),
            ("_security=,", r#"_security "," names no label"#),
            ("_tag=%FF", "_tag \"\u{fffd}\" isn't UTF-8"),
            ("patient=Patient/1", "patient can't be in the query (accepted: a parameter patient of the Parameters"),
            ("_elements=id", "_elements isn't supported"),
            ("includeAssociatedData=_custom", "includeAssociatedData isn't supported"),
            ("organizeOutputBy=Patient", "organizeOutputBy isn't supported"),
            ("allowPartialManifests=true", "allowPartialManifests isn't supported"),
            (
                "_typeFilter=Patient%3Fa%3Db",
                "_typeFilter isn't supported (accepted: _type, _since, _until, _security, _tag, _outputFormat, and in",
            ),
            ("_Type=Patient", "_Type isn't supported"),
            ("foo", "foo isn't supported"),
            ("=x", r#""" isn't supported"#),
            ("%FF=x", "\u{fffd} isn't UTF-8"),
        ] {
            let refusal = read(query, Handling::Strict).unwrap_err();
            assert_eq!(refusal.faults().iter().count(), 1, "{query}: {refusal}");
            assert!(refusal.to_string().starts_with(beginning), "{query}: {refusal}");
        }
    }

    #[test]
    fn a_lenient_request_reports_what_it_skipped_once() {
        let query = "_typeFilter=a&_elements=id&_type=Patient&_typeFilter=b&access_token=secret";
        let accepted = read(query, Handling::Lenient).unwrap();
        let names: Vec<&str> = accepted.ignored.iter().map(Fault::parameter).collect();
        assert_eq!(names, ["_typeFilter", "_elements", "access_token"]);
        assert!(!accepted.ignored.to_string().contains("secret"));
        assert!(read("_typeFilter=a&_type=Foo", Handling::Lenient).is_err());
        assert!(read("patient=Patient/1", Handling::Lenient).is_err(), "skipped, it would export everybody");
    }

    #[test]
    fn a_long_query_of_nonsense_gets_a_short_answer() {
        let query: String = (0..50_000).map(|number| format!("_type=Foo{number}&x{number}=1&")).collect();
        assert!(read(&query, Handling::Strict).unwrap_err().to_string().len() < 100 * 400);
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parser_panic(query in "(?s).{0,200}|((_type|_since|_until|_outputFormat|_security|_tag|patient|x)(=|%|\\+|&|[A-Z0-9T:.-]|,|\\||\\\\){0,30}&?){0,6}") {
            for handling in [Handling::Strict, Handling::Lenient] {
                if let Ok(accepted) = read(&query, handling) {
                    let again = read(&accepted.request.normalised_query(), Handling::Strict);
                    prop_assert_eq!(again.map(|again| again.request), Ok(accepted.request));
                }
            }
        }
    }
}
