//! The parsers together: one request, however it is written.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fhir::{Labels, ResourceType, Token};

fn level() -> impl Strategy<Value = Level> {
    let group = "[A-Za-z0-9.-]{1,64}".prop_map(|id| Level::Group { id: ResourceId::new(&id).unwrap() });
    prop_oneof![Just(Level::System), Just(Level::Patient), group]
}

fn types() -> impl Strategy<Value = TypeSelection> {
    let all: Vec<ResourceType> = ResourceType::all_r4().collect();
    proptest::collection::vec(proptest::sample::select(all), 0..5)
        .prop_map(|types| TypeSelection::only(types).unwrap_or(TypeSelection::All))
}

fn time() -> impl Strategy<Value = Option<TimeBound>> {
    let text = "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\
                (\\.[0-9]{1,12})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])";
    proptest::option::of(text.prop_map(|text| TimeBound::parse(&text).unwrap()))
}

fn tokens() -> impl Strategy<Value = std::collections::BTreeSet<Token>> {
    let text = "[a-z:/.é\\\\,&%+=# ]{0,6}[a-z]\\|?[a-z\\\\+%]{0,4}[A-Z]";
    proptest::collection::btree_set(text.prop_map(|text| Token::parse(text.trim()).unwrap()), 0..3)
}

fn request() -> impl Strategy<Value = ExportRequest> {
    (level(), types(), time(), time(), tokens(), tokens()).prop_map(|(level, types, a, b, security, tags)| {
        let period = Period::new(a.clone(), b.clone()).or_else(|_| Period::new(b, a)).unwrap();
        ExportRequest::new(level).with_types(types).with_period(period).with_labels(Labels { security, tags })
    })
}

fn type_names(request: &ExportRequest) -> Vec<String> {
    match request.types() {
        TypeSelection::All => Vec::new(),
        TypeSelection::Only(types) => types.iter().map(ToString::to_string).collect(),
    }
}

/// The parameters of a request as pairs; types one by one or as a list.
fn pairs(request: &ExportRequest, as_list: bool) -> Vec<(&'static str, String)> {
    let names = type_names(request);
    let lists = if as_list && !names.is_empty() { vec![names.join(" , ")] } else { names };
    let mut pairs: Vec<_> = lists.into_iter().map(|list| ("_type", list)).collect();
    pairs.extend(request.period().since().map(|since| ("_since", since.to_string())));
    pairs.extend(request.period().until().map(|until| ("_until", until.to_string())));
    for (name, tokens) in [("_security", &request.labels().security), ("_tag", &request.labels().tags)] {
        let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        let lists = if as_list && !tokens.is_empty() { vec![tokens.join(" , ")] } else { tokens };
        pairs.extend(lists.into_iter().map(|list| (name, list)));
    }
    pairs.push(("_outputFormat", request.output_format().to_string()));
    pairs
}

fn finish(level: &Level, read: impl FnOnce(&mut Draft)) -> Result<ExportRequest, Refusal> {
    let mut draft = Draft::new(Handling::Strict);
    draft.set_level(level.clone());
    read(&mut draft);
    draft.finish().map(|accepted| accepted.request)
}

proptest! {
    #[test]
    fn a_request_is_the_same_however_it_is_written(request in request(), as_list in any::<bool>()) {
        let pairs = pairs(&request, as_list);

        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let from_query = finish(request.level(), |draft| draft.read_query(&query.join("&")));
        prop_assert_eq!(from_query.as_ref(), Ok(&request));

        let from_echo = finish(request.level(), |draft| draft.read_query(&request.normalised_query()));
        prop_assert_eq!(from_echo.as_ref(), Ok(&request));

        let parameter = |(name, value): &(&str, String)| match *name {
            "_since" | "_until" => json!({"name": name, "valueInstant": value}),
            _ => json!({"name": name, "valueString": value}),
        };
        let parameters: Vec<_> = pairs.iter().map(parameter).collect();
        let resource = json!({"resourceType": "Parameters", "parameter": parameters}).to_string();
        let from_parameters = finish(request.level(), |draft| draft.read_parameters(resource.as_bytes()));
        prop_assert_eq!(from_parameters.as_ref(), Ok(&request));

        let line = CommandLine {
            level: &request.level().to_string(),
            types: &if as_list { vec![type_names(&request).join(",")] } else { type_names(&request) },
            since: request.period().since().map(TimeBound::as_str),
            until: request.period().until().map(TimeBound::as_str),
            security: &request.labels().security.iter().map(ToString::to_string).collect::<Vec<_>>(),
            tags: &request.labels().tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
            patients: &[],
        };
        let types = if type_names(&request).is_empty() { &[] } else { line.types };
        let from_strings = Draft::from_command_line(&CommandLine { types, ..line }).finish();
        prop_assert_eq!(from_strings.map(|accepted| accepted.request), Ok(request));
    }

    #[test]
    fn no_bytes_make_a_parser_of_bodies_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(finish(&Level::System, |draft| draft.read_body(&body)));
        drop(finish(&Level::System, |draft| draft.read_parameters(&body)));
    }

    #[test]
    fn no_json_makes_a_parser_of_bodies_panic(body in json_text()) {
        drop(finish(&Level::System, |draft| draft.read_body(body.as_bytes())));
        drop(finish(&Level::System, |draft| draft.read_parameters(body.as_bytes())));
        let inner = format!(r#"{{"resourceType":"Parameters","parameter":[{body}]}}"#);
        drop(finish(&Level::System, |draft| draft.read_parameters(inner.as_bytes())));
    }

    #[test]
    fn no_strings_make_the_command_line_panic(level in "\\PC{0,20}|group/.{0,20}", list in "[A-Za-z, ]{0,30}", time in "[0-9TZ:+. -]{0,30}") {
        let lists = [list];
        let line = CommandLine {
            level: &level,
            types: &lists,
            since: Some(&time),
            until: Some(&time),
            security: &lists,
            tags: &lists,
            patients: &lists,
        };
        drop(Draft::from_command_line(&line).finish());
    }
}

/// JSON made of the names that the parsers look for, in any arrangement, repeated keys included.
fn json_text() -> impl Strategy<Value = String> {
    let key = "resourceType|parameter|name|valueString|valueCode|valueInstant|OutputDataConfig|outputDataConfig|\
               S3Configuration|S3Uri|s3Uri|KmsKeyId|JobName|DataAccessRoleArn";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[1-9][0-9]{0,25}(\\.[0-9]{1,4})?",
        "\"(Parameters|_type|_since|_outputFormat|Patient|2024-05-09T00:00:00Z|s3://abc|[a-z]{0,5})\"",
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let member = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}
