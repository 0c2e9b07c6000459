//! Requests in all their forms: what is accepted means the same when it is written anew.

use fhir_export::request::{CommandLine, Draft, ExportRequest, Handling, Level, Refusal, TimeBound, TypeSelection};
use serde_json::{Value, json};

/// Reads a request in both handlings.
fn read(level: &Level, read: impl Fn(&mut Draft)) -> Option<ExportRequest> {
    let [strict, lenient] = [Handling::Strict, Handling::Lenient].map(|handling| {
        let mut draft = Draft::new(handling);
        draft.set_level(level.clone());
        read(&mut draft);
        draft.finish()
    });
    match (strict, lenient) {
        (Ok(strict), Ok(lenient)) => {
            assert_eq!(strict, lenient);
            assert!(lenient.ignored.is_empty());
            Some(strict.request)
        }
        (Err(refusal), Ok(lenient)) => {
            check_refusal(&refusal);
            assert!(!lenient.ignored.is_empty(), "refused for nothing: {refusal}");
            Some(lenient.request)
        }
        (Err(_), Err(refusal)) => {
            check_refusal(&refusal);
            None
        }
        (Ok(_), Err(refusal)) => panic!("lenient is stricter: {refusal}"),
    }
}

/// A refusal is one line, and short whatever was sent.
fn check_refusal(refusal: &Refusal) {
    let faults = refusal.faults();
    assert!(!faults.is_empty());
    let told = refusal.to_string();
    assert!(!told.contains(['\n', '\r']), "{told:?}");
    assert!(faults.iter().all(|fault| fault.to_string().chars().count() < 3000), "{told}");
    assert!(faults.iter().count() <= 100);
}

pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(request) = read(&Level::System, |draft| draft.read_query(text)) else { return };
    let again = read(&Level::System, |draft| draft.read_query(&request.normalised_query()));
    assert_eq!(again, Some(request));
}

pub fn body(data: &[u8]) {
    let Some(request) = read(&Level::Patient, |draft| draft.read_body(data)) else { return };
    assert!(matches!(serde_json::from_slice(data), Ok(Value::Object(_))));
    let output = request.output().expect("a body without output is refused");
    let [s3_uri, key] = [Some(output.s3_uri.as_str()), output.kms_key_id.as_ref().map(|key| key.as_str())];
    let role = request.data_access_role_arn().expect("a body without role is refused");
    let job_name = request.job_name().map(|name| name.as_str());
    for body in [
        json!({"DataAccessRoleArn": role.as_str(), "JobName": job_name,
            "OutputDataConfig": {"S3Configuration": {"S3Uri": s3_uri, "KmsKeyId": key}}}),
        json!({"outputDataConfig": {"s3Configuration": {"kmsKeyId": key, "s3Uri": s3_uri}},
            "jobName": job_name, "dataAccessRoleArn": role.as_str()}),
    ] {
        let again = read(&Level::Patient, |draft| draft.read_body(body.to_string().as_bytes()));
        assert_eq!(again.as_ref(), Some(&request));
    }
}

pub fn parameters(data: &[u8]) {
    let Some(request) = read(&Level::System, |draft| draft.read_parameters(data)) else { return };
    assert!(matches!(serde_json::from_slice(data), Ok(Value::Object(_))));
    let types = type_names(&request).into_iter().map(|name| json!({"name": "_type", "valueCode": name}));
    let since = request.period().since().map(|since| json!({"name": "_since", "valueInstant": since.as_str()}));
    let until = request.period().until().map(|until| json!({"name": "_until", "valueInstant": until.as_str()}));
    let labels = [("_security", &request.labels().security), ("_tag", &request.labels().tags)];
    let labels = labels.into_iter().flat_map(|(name, tokens)| {
        tokens.iter().map(move |token| json!({"name": name, "valueString": token.to_string()}))
    });
    let all: Vec<Value> = types.chain(since).chain(until).chain(labels).collect();
    let resource = json!({"resourceType": "Parameters", "parameter": all}).to_string();
    assert_eq!(read(&Level::System, |draft| draft.read_parameters(resource.as_bytes())), Some(request));
}

/// A line each for the level, since and until, of which the last two may be missing, and the rest for types.
pub fn command_line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut words = text.split('\n');
    let (level, since, until) = (words.next().unwrap_or_default(), words.next(), words.next());
    let types: Vec<String> = words.map(str::to_owned).collect();
    let line = CommandLine { level, types: &types, since, until, ..CommandLine::default() };
    let request = match Draft::from_command_line(&line).finish() {
        Ok(accepted) => accepted.request,
        Err(refusal) => return check_refusal(&refusal),
    };
    assert!(request.outside_level(|_| true).is_ok());
    let written = CommandLine {
        level: &request.level().to_string(),
        types: &type_names(&request),
        since: request.period().since().map(TimeBound::as_str),
        until: request.period().until().map(TimeBound::as_str),
        ..CommandLine::default()
    };
    let again = Draft::from_command_line(&written).finish();
    assert_eq!(again.map(|accepted| accepted.request), Ok(request));
}

fn type_names(request: &ExportRequest) -> Vec<String> {
    match request.types() {
        TypeSelection::All => Vec::new(),
        TypeSelection::Only(types) => types.iter().map(ToString::to_string).collect(),
    }
}
