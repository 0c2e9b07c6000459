//! The format of the output files.

use std::fmt;

use super::fault::{Fault, FaultKind};

/// The format of the output files.
///
/// There is one. Compression isn't a format: a file of gzipped NDJSON is NDJSON with a content encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputFormat {
    /// One resource a line.
    #[default]
    Ndjson,
}

impl OutputFormat {
    /// Reads one of the accepted spellings (HealthLake contract section 2.2).
    ///
    /// `application/fhir ndjson` is read too: it is what becomes of a raw `+` in a query.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        const ACCEPTED: &str = "application/fhir+ndjson, application/ndjson, ndjson";
        match text {
            "application/fhir+ndjson" | "application/fhir ndjson" | "application/ndjson" | "ndjson" => Ok(Self::Ndjson),
            _ => {
                Err(Fault::new(FaultKind::Value, "_outputFormat", "isn't an output format", ACCEPTED).with_value(text))
            }
        }
    }

    /// The media type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "application/fhir+ndjson",
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_and_the_decoded_plus_are_one_format() {
        for good in ["application/fhir+ndjson", "application/ndjson", "ndjson", "application/fhir ndjson"] {
            assert_eq!(OutputFormat::parse(good), Ok(OutputFormat::Ndjson));
        }
    }

    #[test]
    fn compression_is_no_format() {
        for bad in ["gzip", "application/gzip", "application/fhir+ndjson+gzip", "", "json", "application/fhir+json"] {
            assert_eq!(OutputFormat::parse(bad).unwrap_err().parameter(), "_outputFormat", "{bad:?}");
        }
    }
}
