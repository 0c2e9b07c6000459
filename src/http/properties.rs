//! `exportJobProperties`: a job as HealthLake describes it (contract section 4).

use serde_json::{Map, Value, json};

use super::date;
use crate::job::JobView;
use crate::request::JobName;

/// Longest message (contract section 2.1).
const MOST_MESSAGE_CHARACTERS: usize = 2048;

/// Which protocol they are for: names and times differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Rest,
    Sdk,
}

impl Wire {
    fn key(self, pascal: &str) -> String {
        match self {
            Self::Sdk => pascal.to_owned(),
            Self::Rest => camel(pascal),
        }
    }

    fn time(self, unix_seconds: i64, nanos: u32) -> Value {
        match self {
            Self::Rest => json!(date::on_rest(unix_seconds)),
            Self::Sdk => json!(date::in_sdk(unix_seconds, nanos)),
        }
    }
}

/// A PascalCase name in camelCase.
pub(super) fn camel(pascal: &str) -> String {
    let mut letters = pascal.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

/// The properties of a job. What is absent is left out.
pub(super) fn of(view: &JobView, wire: Wire) -> Value {
    let mut properties = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            properties.insert(wire.key(name), value);
        }
    };
    put("JobId", Some(json!(view.id.as_str())));
    put("JobName", view.name.as_ref().map(|name| json!(name.as_str())));
    put("JobStatus", Some(json!(view.state.as_str())));
    put("SubmitTime", view.submitted.as_ref().map(|time| wire.time(time.unix_seconds(), time.nanos())));
    put("EndTime", view.ended.as_ref().map(|time| wire.time(time.unix_seconds(), time.nanos())));
    put("DatastoreId", Some(json!(view.datastore_id.as_str())));
    put("OutputDataConfig", output(view, wire));
    put("DataAccessRoleArn", view.role.as_ref().map(|role| json!(role.as_str())));
    put("Message", view.message.as_deref().map(|message| json!(safe(message))));
    Value::Object(properties)
}

/// The caller's URI has the job folder behind it, with a slash at its end, from the start (contract section 10, row 12).
fn output(view: &JobView, wire: Wire) -> Option<Value> {
    let output = view.output.as_ref()?;
    let uri = output.s3_uri.as_str();
    let between = if uri.ends_with('/') { "" } else { "/" };
    let mut s3 = Map::new();
    s3.insert(wire.key("S3Uri"), json!(format!("{uri}{between}{}/", view.folder)));
    if let Some(key) = &output.kms_key_id {
        s3.insert(wire.key("KmsKeyId"), json!(key.as_str()));
    }
    Some(json!({ wire.key("S3Configuration"): s3 }))
}

/// A message in the characters and the length that the contract allows (section 2.1): those of a job's name.
fn safe(message: &str) -> String {
    let mut letter = [0; 4];
    let mut is_allowed = |c: char| JobName::new(c.encode_utf8(&mut letter)).is_ok();
    message.chars().take(MOST_MESSAGE_CHARACTERS).map(|c| if is_allowed(c) { c } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        #[test]
        fn a_message_has_the_characters_and_the_length_of_the_contract(
            message in "\\PC{0,40}|(?s).{0,40}|[\\u{85}\\u{b}\\u{c}\\u{345}\\u{301}\\u{24b6}\r\n\t,()'\"]{1,9}",
            times in 1usize..200,
        ) {
            let allowed = Regex::new(r"\A[\p{L}\p{Z}\p{N}_.:/=+\-%@]*\z").unwrap();
            let message = message.repeat(times);
            let told = safe(&message);
            prop_assert!(allowed.is_match(&told), "{told:?}");
            prop_assert_eq!(told.chars().count(), message.chars().count().min(2048));
            for (own, told) in message.chars().zip(told.chars()) {
                prop_assert!(own == told || told == ' ' && !allowed.is_match(&own.to_string()), "{own:?}");
            }
        }
    }
}
