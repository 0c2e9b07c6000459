//! `s3://bucket/prefix`.

use std::fmt;
use std::net::Ipv4Addr;

use crate::error::{Error, ErrorKind, Result};

/// HealthLake's limit (HealthLake contract section 2).
const LONGEST_CHARACTERS: usize = 1024;

/// A bucket and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct S3Uri {
    bucket: String,
    prefix: String,
}

impl S3Uri {
    /// Reads `s3://bucket` or `s3://bucket/prefix`; a `/` at the end is left out. Nothing is decoded.
    ///
    /// # Errors
    /// When it is none, the bucket's name can't be one (HealthLake contract section 2), or the prefix has a segment
    /// that is empty, `.` or `..`.
    pub fn parse(uri: &str) -> Result<Self> {
        let refused = |why: &str| {
            let shown: String = uri.chars().take(100).collect();
            Error::new(ErrorKind::InvalidRequest, format!("{shown:?} is no S3 URI: {why}"))
        };
        let Some(rest) = uri.strip_prefix("s3://") else { return Err(refused("it must begin with s3://")) };
        if uri.chars().count() > LONGEST_CHARACTERS {
            return Err(refused("it is longer than 1024 characters"));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(bucket) {
            return Err(refused(
                "a bucket's name has 3 to 63 of a-z, 0-9, dot and hyphen, and begins and ends with a letter or digit",
            ));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && super::super::ObjectKey::new(prefix).is_none() {
            return Err(refused("a segment of the prefix is empty, . or .., or has a control character or backslash"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The prefix without `/` at its end; empty if there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// `[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9]`
fn is_bucket(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| edge(Some(byte)) || matches!(byte, b'.' | b'-'))
        // Neither is S3 to be had by an address, nor has a bucket's name an empty label.
        && name.parse::<Ipv4Addr>().is_err()
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_bucket_and_prefix() {
        for (uri, bucket, prefix) in [
            ("s3://my-bucket", "my-bucket", ""),
            ("s3://my-bucket/", "my-bucket", ""),
            ("s3://my.bucket/a/b c%20/", "my.bucket", "a/b c%20"),
        ] {
            let parsed = S3Uri::parse(uri).unwrap();
            assert_eq!((parsed.bucket(), parsed.prefix()), (bucket, prefix));
            assert_eq!(S3Uri::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused_with_a_reason() {
        for (uri, why) in [
            ("https://bucket/x", "begin with s3://"),
            ("s3://", "bucket's name"),
            ("s3://ab", "bucket's name"),
            ("s3://My-Bucket/x", "bucket's name"),
            ("s3://-bucket", "bucket's name"),
            ("s3://bucket//x", "segment"),
            ("s3://bucket/a/../b", "segment"),
        ] {
            let error = S3Uri::parse(uri).unwrap_err();
            assert!(error.message().contains(why), "{uri}: {error}");
        }
        assert!(S3Uri::parse(&format!("s3://bucket/{}", "a".repeat(1024))).is_err());
    }
}
