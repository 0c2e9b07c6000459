//! Texts of limited form: names, ids, ARNs and URIs.
//!
//! Limits and patterns are those of HealthLake contract section 2.1. Lengths count characters; a pattern must match
//! the whole text.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::Regex;

use super::fault::{Fault, FaultKind};

/// Defines a text that has a length between two limits and matches a pattern as a whole.
macro_rules! field {
    ($(#[$doc:meta])* $name:ident, $min:literal to $max:literal characters, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a text that fits.
            ///
            /// # Errors
            /// When its length or its form isn't accepted.
            pub fn new(text: &str) -> Result<Self, Fault> {
                static RULE: LazyLock<Rule> = LazyLock::new(|| Rule {
                    field: stringify!($name),
                    characters: $min..=$max,
                    pattern: whole($pattern),
                    accepted: concat!($min, " to ", $max, " characters matching ", $pattern),
                });
                RULE.check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

struct Rule {
    field: &'static str,
    characters: RangeInclusive<usize>,
    pattern: Regex,
    accepted: &'static str,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), Fault> {
        let refuse =
            |problem: String| Err(Fault::new(FaultKind::Value, self.field, problem, self.accepted).with_value(text));
        let characters = text.chars().count();
        if !self.characters.contains(&characters) {
            let plural = if characters == 1 { "" } else { "s" };
            return refuse(format!("has {characters} character{plural}"));
        }
        if !self.pattern.is_match(text) {
            return refuse("isn't of the accepted form".to_owned());
        }
        Ok(())
    }
}

fn whole(pattern: &str) -> Regex {
    // Without the flag `m`, `$` is the very end of the text, not a line's.
    Regex::new(&format!("^(?:{pattern})$"))
        .unwrap_or_else(|error| unreachable!("patterns are constants and tests use each: {error}"))
}

field! {
    /// The name that a caller gives to a job.
    JobName, 1 to 64 characters, r"[\p{L}\p{Z}\p{N}_.:/=+\-%@]*"
}

field! {
    /// The id of a data store.
    ///
    /// The pattern is HealthLake's and allows blanks and slashes; real ids are 32 lower-case hex characters.
    DatastoreId, 1 to 32 characters, r"[\p{L}\p{Z}\p{N}_.:/=+\-%@]*"
}

field! {
    /// The id of a job.
    ///
    /// The pattern is HealthLake's and allows blanks and slashes; real ids are 32 lower-case hex characters.
    JobId, 1 to 32 characters, r"[\p{L}\p{Z}\p{N}_.:/=+\-%@]*"
}

field! {
    /// The token that makes a repeated start the same job.
    ClientToken, 1 to 64 characters, r"[a-zA-Z0-9\-]+"
}

field! {
    /// The ARN of the role in whose name the output is written.
    RoleArn, 20 to 2048 characters, r"arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+"
}

field! {
    /// Where the output goes: a bucket, and a prefix if wanted.
    S3Uri, 0 to 1024 characters, r"s3://[a-z0-9][.\-a-z0-9]{1,61}[a-z0-9](/.*)?"
}

field! {
    /// The key that encrypts the output: a key id, `alias/…`, or the ARN of either.
    KmsKeyId, 1 to 400 characters,
    r"(arn:aws((-us-gov)|(-iso)|(-iso-b)|(-cn))?:kms:)?([a-z]{2}-[a-z]+(-[a-z]+)?-[0-9]:)?([0-9]{12}:)?(((key/)?[a-zA-Z0-9\-_]+)|(alias/[a-zA-Z0-9:/_\-]+))"
}

field! {
    /// The id of a resource, as FHIR's `id` allows: <https://hl7.org/fhir/R4/datatypes.html#id>.
    ResourceId, 1 to 64 characters, r"[A-Za-z0-9\-.]+"
}

field! {
    /// A reference to a Patient: relative, or absolute on any base, of a version or not.
    ///
    /// Whether the base is the source's own is known where the bases are.
    PatientReference, 1 to 2048 characters,
    r"(https?://[^\p{Z}\p{Cc}?#]+/)?Patient/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?"
}

impl S3Uri {
    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        self.split().0
    }

    /// What follows the bucket and its slash, as it was written: `a/b/` keeps its last slash; empty if there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        let path = self.0.strip_prefix("s3://").unwrap_or_default();
        path.split_once('/').unwrap_or((path, ""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn job_names_are_those_of_the_contract() {
        for good in
            ["my-job", "2023-07-19 15:06:49 +0000 UTC", "名前", "a", &"é".repeat(64), "a_b.c:d/e=f+g-h%i@j", " "]
        {
            assert_eq!(JobName::new(good).unwrap().as_str(), good);
        }
        for bad in
            ["a,b", "it's (x)", "", "a!", "$", "#", "a&b", "a;b", "\"a\"", "a\n", "a\tb", &"é".repeat(65), "e\u{301}"]
        {
            assert!(JobName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_stores_and_jobs_have_at_most_32_characters() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(DatastoreId::new(id).unwrap().to_string(), id);
        assert_eq!(JobId::new(id).unwrap().to_string(), id);
        for bad in [format!("{id}0"), String::new(), "a,b".to_owned()] {
            assert!(DatastoreId::new(&bad).is_err() && JobId::new(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn client_tokens_are_letters_digits_and_hyphens() {
        assert!(ClientToken::new("e3b0c442-98fc-1c14").is_ok());
        for bad in ["", "a_b", "a b", "é", &"a".repeat(65)] {
            assert!(ClientToken::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn role_arns_are_those_of_the_contract() {
        for good in [
            "arn:aws:iam::444455556666:role/my-role",
            "arn:aws-us-gov:iam::444455556666:role/path/to/role",
            "arn:aws:iam::444455556666:role/x",
        ] {
            assert!(RoleArn::new(good).is_ok(), "{good}");
        }
        for bad in [
            "arn:aws:iam::444455556666:role/",
            "arn:aws:iam::44445555666:role/my-role",
            "arn:aws:iam::444455556666:user/my-user",
            "arn:aws-:iam::444455556666:role/my-role",
            "xarn:aws:iam::444455556666:role/my-role",
            "arn:aws:iam::٤٤٤٤٥٥٥٥٦٦٦٦:role/my-role",
            "arn:aws:iam::444455556666:role/my\nrole",
            &format!("arn:aws:iam::444455556666:role/{}", "x".repeat(2018)),
        ] {
            assert!(RoleArn::new(bad).is_err(), "{bad}");
        }
        assert!(RoleArn::new(&format!("arn:aws:iam::444455556666:role/{}", "x".repeat(2017))).is_ok());
    }

    #[test]
    fn s3_uris_are_those_of_the_contract() {
        for (uri, bucket, prefix) in [
            ("s3://amzn-s3-demo-bucket/EXPORT-JOB", "amzn-s3-demo-bucket", "EXPORT-JOB"),
            ("s3://my-bucket/prefix", "my-bucket", "prefix"),
            ("s3://abc", "abc", ""),
            ("s3://abc/", "abc", ""),
            ("s3://a.b-c/x/y//z/", "a.b-c", "x/y//z/"),
            ("s3://abc/Ünï côde", "abc", "Ünï côde"),
        ] {
            let uri = S3Uri::new(uri).unwrap();
            assert_eq!((uri.bucket(), uri.prefix()), (bucket, prefix));
        }
        for bad in [
            "s3://DOC-EXAMPLE-DESTINATION-BUCKET",
            "s3://DOC-EXAMPLE-DESTINATION-BUCKET/EXPORT-JOB",
            "s3://ab",
            "s3://my_bucket/x",
            "s3://-bucket",
            "s3://bucket-/x",
            "s3://abc/a\nb",
            "s3://abc\n",
            "https://abc/x",
            "",
            &format!("s3://{}", "a".repeat(64)),
            &format!("s3://abc/{}", "a".repeat(1016)),
        ] {
            assert!(S3Uri::new(bad).is_err(), "{bad:?}");
        }
        assert!(S3Uri::new(&format!("s3://{}", "a".repeat(63))).is_ok());
        assert!(S3Uri::new(&format!("s3://abc/{}", "é".repeat(1015))).is_ok());
    }

    #[test]
    fn key_ids_are_those_of_the_contract() {
        let uuid = "012345678-1234-1234-1234-123456789012";
        for good in [
            uuid,
            "alias/x",
            "alias/aws/s3",
            "key/abc_1",
            &format!("arn:aws:kms:us-east-1:444455556666:key/{uuid}"),
            "arn:aws:kms:us-east-1:444455556666:alias/x",
            "arn:aws-us-gov:kms:us-gov-west-1:444455556666:key/abc",
            "arn:aws-iso-b:kms:us-isob-east-1:444455556666:key/abc",
        ] {
            assert!(KmsKeyId::new(good).is_ok(), "{good}");
        }
        for bad in [
            &format!("arn:aws:kms:region-of-bucket:444455556666:key/{uuid}"),
            "",
            "a/b",
            "alias/",
            "alias/a.b",
            "arn:aws:kms:us-east-1:44445555666:key/abc",
            "arn:aws:kms:us-east-٣:444455556666:key/abc",
            "abc\n",
            &"a".repeat(401),
        ] {
            assert!(KmsKeyId::new(bad).is_err(), "{bad:?}");
        }
        assert!(KmsKeyId::new(&"a".repeat(400)).is_ok());
    }

    #[test]
    fn resource_ids_are_those_of_r4() {
        for good in ["1", "a-B.9", &"x".repeat(64)] {
            assert_eq!(ResourceId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a_b", "é", "a b", "a\n", &"x".repeat(65)] {
            assert!(ResourceId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patients_are_named_by_references() {
        for good in ["Patient/1", "Patient/a-B.9/_history/2", "https://h:1/fhir/Patient/1", "http://h/Patient/1"] {
            assert_eq!(PatientReference::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "1",
            "Patient/",
            "Group/1",
            "Patient/a_b",
            "Patient/1#x",
            "Patient?a=b",
            "#p",
            "urn:uuid:1",
            "h/Patient/1",
            "",
        ] {
            assert!(PatientReference::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_text_is_told_with_its_limits() {
        assert_eq!(
            ResourceId::new("a_b").unwrap_err().to_string(),
            r#"ResourceId "a_b" isn't of the accepted form (accepted: 1 to 64 characters matching [A-Za-z0-9\-.]+)"#,
        );
        let too_long = ClientToken::new(&"a".repeat(65)).unwrap_err().to_string();
        assert!(too_long.contains("has 65 characters (accepted: 1 to 64 characters"), "{too_long}");
    }

    proptest! {
        #[test]
        fn bucket_and_prefix_make_up_the_uri(bucket in "[a-z0-9][.\\-a-z0-9]{1,61}[a-z0-9]", prefix in ".{0,200}") {
            let text = format!("s3://{bucket}/{prefix}");
            let uri = S3Uri::new(&text).unwrap();
            prop_assert_eq!((uri.bucket(), uri.prefix()), (bucket.as_str(), prefix.as_str()));
        }

        #[test]
        fn no_text_makes_a_field_panic(text in "\\PC{0,80}|(?s).{0,80}") {
            let accepted = [
                JobName::new(&text).is_ok(),
                S3Uri::new(&text).is_ok(),
                KmsKeyId::new(&text).is_ok(),
                RoleArn::new(&text).is_ok(),
            ];
            prop_assert!(!text.contains('\n') || accepted == [false; 4]);
        }
    }
}
