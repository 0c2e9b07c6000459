//! A request from HealthLake's JSON body.

use super::draft::{Draft, missing};
use super::fault::Fault;
use super::json::{Json, Object};

/// Puts the text of a member, found under a name, into the draft.
type Put = fn(&mut Draft, &str, &str);

impl Draft {
    /// Reads HealthLake's body (contract section 1.1).
    ///
    /// Keys are PascalCase or camelCase; unknown ones are ignored, so the SDK's `StartFHIRExportJob` can be read too.
    /// `null` counts as absent. `DataAccessRoleArn`, `S3Uri` and `KmsKeyId` must be there.
    pub fn read_body(&mut self, body: &[u8]) {
        if let Err(fault) = self.read_json_body(body) {
            self.refuse(fault);
        }
    }

    fn read_json_body(&mut self, body: &[u8]) -> Result<(), Fault> {
        let body = Json::parse(body)?;
        let body = body.as_object("body")?;
        self.read_text(body, "", "JobName", None, Self::put_job_name);
        let role = Some("the ARN of the role that writes the output");
        self.read_text(body, "", "DataAccessRoleArn", role, Self::put_role_arn);

        let output = object(body, "OutputDataConfig", "OutputDataConfig")?;
        let s3 = object(output, "OutputDataConfig.S3Configuration", "S3Configuration")?;
        let path = "OutputDataConfig.S3Configuration.";
        self.read_text(s3, path, "S3Uri", Some("the URI of a bucket, as s3://bucket/prefix"), Self::put_s3_uri);
        self.read_text(s3, path, "KmsKeyId", Some("the id, alias or ARN of a key"), Self::put_kms_key_id);
        Ok(())
    }

    fn read_text(&mut self, object: &Object, path: &str, name: &str, required: Option<&'static str>, put: Put) {
        let parameter = format!("{path}{name}");
        let text = member(object, &parameter, name).and_then(|value| match value {
            Some(value) => value.as_text(&parameter).map(Some),
            None => required.map_or(Ok(None), |accepted| Err(missing(&parameter, accepted))),
        });
        match text {
            Ok(Some(text)) => put(self, &parameter, text),
            Ok(None) => {}
            Err(fault) => self.refuse(fault),
        }
    }
}

/// An object that must be there.
fn object<'a>(parent: &'a Object, parameter: &str, name: &str) -> Result<&'a Object, Fault> {
    let accepted = "an object with S3Configuration, S3Uri and KmsKeyId";
    member(parent, parameter, name)?.ok_or_else(|| missing(parameter, accepted))?.as_object(parameter)
}

/// The member of a PascalCase name, which may be written in camelCase; `null` is no member.
fn member<'a>(object: &'a Object, parameter: &str, name: &str) -> Result<Option<&'a Json>, Fault> {
    let is_key = |key: &str| {
        let (mut written, mut wanted) = (key.chars(), name.chars());
        let same_first = written.next().zip(wanted.next()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(&b));
        same_first && written.as_str() == wanted.as_str()
    };
    Ok(object.member(parameter, is_key)?.filter(|value| **value != Json::Null))
}

#[cfg(test)]
mod tests {
    use super::super::{Accepted, ExportRequest, Handling, JobName, Level, OutputDataConfig, RoleArn, S3Uri};
    use super::super::{KmsKeyId, Refusal};
    use super::*;

    const ROLE: &str = "arn:aws:iam::444455556666:role/my-role";
    const KEY: &str = "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn read(body: &str) -> Result<Accepted, Refusal> {
        let mut draft = Draft::new(Handling::Strict);
        draft.set_level(Level::Patient);
        draft.read_body(body.as_bytes());
        draft.finish()
    }

    fn faults(body: &str) -> Vec<String> {
        read(body).unwrap_err().faults().iter().map(ToString::to_string).collect()
    }

    fn pascal() -> String {
        format!(
            r#"{{"DataAccessRoleArn": "{ROLE}", "JobName": "my-job", "OutputDataConfig":
               {{"S3Configuration": {{"S3Uri": "s3://my-bucket/prefix", "KmsKeyId": "{KEY}"}}}}}}"#
        )
    }

    fn camel(body: &str) -> String {
        let names = ["DataAccessRoleArn", "JobName", "OutputDataConfig", "S3Configuration", "S3Uri", "KmsKeyId"];
        names.into_iter().fold(body.to_owned(), |body, name| {
            let (first, rest) = name.split_at(1);
            body.replace(name, &format!("{}{rest}", first.to_lowercase()))
        })
    }

    #[test]
    fn the_contracts_body_is_read_in_both_casings() {
        let output = OutputDataConfig {
            s3_uri: S3Uri::new("s3://my-bucket/prefix").unwrap(),
            kms_key_id: Some(KmsKeyId::new(KEY).unwrap()),
        };
        let expected = ExportRequest::new(Level::Patient)
            .with_job_name(JobName::new("my-job").unwrap())
            .with_data_access_role_arn(RoleArn::new(ROLE).unwrap())
            .with_output(output);
        for body in [pascal(), camel(&pascal())] {
            assert_eq!(read(&body).map(|accepted| accepted.request), Ok(expected.clone()), "{body}");
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_null_is_absent() {
        let body = pascal().replace("\"my-job\"", r#"null, "DatastoreId": 7, "jobname": [], "JOBNAME": {}"#);
        assert_eq!(read(&body).unwrap().request.job_name(), None);
    }

    #[test]
    fn the_seeds_placeholders_are_refused() {
        let body =
            pascal().replace("my-bucket", "DOC-EXAMPLE-DESTINATION-BUCKET").replace("us-east-1", "region-of-bucket");
        let faults = faults(&body);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("OutputDataConfig.S3Configuration.S3Uri \"s3://DOC-EXAMPLE-DESTINATION-BUCKET/"));
        assert!(faults[1].starts_with("OutputDataConfig.S3Configuration.KmsKeyId \"arn:aws:kms:region-of-bucket:"));
    }

    #[test]
    fn what_must_be_there_is_named_when_it_is_not() {
        for (body, missing) in [
            ("{}", vec!["DataAccessRoleArn is missing", "OutputDataConfig is missing"]),
            (
                r#"{"OutputDataConfig":{"s3Configuration":{}}}"#,
                vec![
                    "DataAccessRoleArn is missing",
                    "OutputDataConfig.S3Configuration.S3Uri is missing",
                    "OutputDataConfig.S3Configuration.KmsKeyId is missing",
                ],
            ),
            (
                r#"{"DataAccessRoleArn":null,"OutputDataConfig":{"S3Configuration":null}}"#,
                vec!["DataAccessRoleArn is missing", "OutputDataConfig.S3Configuration is missing"],
            ),
        ] {
            let faults = faults(body);
            assert_eq!(faults.len(), missing.len(), "{faults:?}");
            assert!(faults.iter().zip(missing).all(|(fault, missing)| fault.starts_with(missing)), "{faults:?}");
        }
    }

    #[test]
    fn repeated_keys_and_values_of_another_type_are_faults() {
        for (from, to, beginning) in [
            ("\"JobName\"", r#""jobName": "a", "JobName""#, "JobName is given more than once"),
            (
                "\"S3Uri\"",
                r#""S3Uri": null, "S3Uri""#,
                "OutputDataConfig.S3Configuration.S3Uri is given more than once",
            ),
            ("\"OutputDataConfig\"", r#""outputDataConfig": {}, "OutputDataConfig""#, "OutputDataConfig is given more"),
            ("\"my-job\"", "7", "JobName is a number (accepted: a string)"),
            ("\"my-job\"", "true", "JobName is a boolean"),
            ("\"my-job\"", "[\"a\"]", "JobName is an array"),
            ("\"my-job\"", "{}", "JobName is an object"),
            ("\"my-job\"", "\"a,b\"", "JobName \"a,b\" isn't of the accepted form"),
            ("\"my-job\"", "\"\"", "JobName \"\" has 0 characters"),
        ] {
            let faults = faults(&pascal().replacen(from, to, 1));
            assert!(matches!(faults.as_slice(), [fault] if fault.starts_with(beginning)), "{faults:?}");
        }
        let faults = faults(r#"{"DataAccessRoleArn": 1.5, "OutputDataConfig": "s3://b"}"#);
        assert_eq!(
            faults,
            [
                "DataAccessRoleArn is a number (accepted: a string)",
                "OutputDataConfig is a string (accepted: an object)"
            ],
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_as_a_whole() {
        for body in ["", "[]", "null", "\"x\"", "{", "<xml/>", "{\"JobName\":\"a\"}}"] {
            assert!(matches!(faults(body).as_slice(), [fault] if fault.starts_with("body ")), "{body}");
        }
    }
}
