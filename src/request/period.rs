//! The time filters: `_since` and `_until`.

use std::fmt;

use super::fault::{Excerpt, Fault, FaultKind};
use crate::fhir::{Instant, InstantError};

const ACCEPTED: &str = "YYYY-MM-DDThh:mm:ss, a fraction if wanted, then Z or an offset such as +01:00";

/// One end of a period: an instant, and the text it was written as.
///
/// The text is kept because the manifest echoes the request as its sender wrote it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TimeBound {
    instant: Instant,
    text: Box<str>,
}

impl TimeBound {
    /// Reads a FHIR instant.
    ///
    /// # Errors
    /// When the text isn't an instant, a date without a zone included.
    pub fn parse(text: &str) -> Result<Self, InstantError> {
        Ok(Self { instant: Instant::parse(text)?, text: text.into() })
    }

    /// Reads a FHIR instant of a request; the fault says what is missing.
    pub(super) fn read(parameter: &str, text: &str) -> Result<Self, Fault> {
        Self::parse(text)
            .map_err(|_| Fault::new(FaultKind::Value, parameter, why_no_instant(text), ACCEPTED).with_value(text))
    }

    /// The point in time.
    #[must_use]
    pub const fn instant(&self) -> &Instant {
        &self.instant
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Tells a date or a local time, which people write most often, from nonsense.
fn why_no_instant(text: &str) -> &'static str {
    let completed_by = |rest: &str| Instant::parse(&format!("{text}{rest}")).is_ok();
    if completed_by("Z") {
        "has no zone"
    } else if ["T00:00:00Z", "-01T00:00:00Z", "-01-01T00:00:00Z"].into_iter().any(completed_by) {
        "is a date without time and zone"
    } else {
        "isn't an instant"
    }
}

impl fmt::Display for TimeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for TimeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A stretch of time, open or closed at either end; both ends belong to it, and it doesn't end before it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Period {
    since: Option<TimeBound>,
    until: Option<TimeBound>,
}

impl Period {
    /// Takes two ends.
    ///
    /// # Errors
    /// When `since` is after `until`: nothing can match.
    pub fn new(since: Option<TimeBound>, until: Option<TimeBound>) -> Result<Self, Fault> {
        if let (Some(since), Some(until)) = (&since, &until)
            && since.instant > until.instant
        {
            let accepted = format!("an instant at or before {}", Excerpt::new(&until.text));
            let fault = Fault::new(FaultKind::Value, "_since", "is after the end of the period", accepted);
            return Err(fault.with_value(&since.text));
        }
        Ok(Self { since, until })
    }

    /// The beginning.
    #[must_use]
    pub const fn since(&self) -> Option<&TimeBound> {
        self.since.as_ref()
    }

    /// The end.
    #[must_use]
    pub const fn until(&self) -> Option<&TimeBound> {
        self.until.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<TimeBound> {
        Some(TimeBound::parse(text).unwrap())
    }

    #[test]
    fn an_instant_keeps_the_text_of_its_sender() {
        for text in ["2023-07-18T00:00:00.461Z", "2024-05-09T00:00:00Z", "2000-01-01T00:00:00+00:00"] {
            assert_eq!(TimeBound::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_refused_time_says_what_it_lacks() {
        for (text, problem) in [
            ("2024-05-09", "is a date without time and zone"),
            ("2024-05", "is a date without time and zone"),
            ("2024", "is a date without time and zone"),
            ("2024-05-09T00:00:00", "has no zone"),
            ("2024-05-09T00:00:00.5", "has no zone"),
            ("2024-05-09 00:00:00Z", "isn't an instant"),
            ("2024-13-09", "isn't an instant"),
            ("yesterday", "isn't an instant"),
            ("", "isn't an instant"),
        ] {
            let fault = TimeBound::read("_since", text).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("_since {text:?} {problem} (accepted: YYYY")), "{fault}");
        }
    }

    #[test]
    fn a_period_does_not_end_before_it_begins() {
        let (early, late) = (at("2024-01-01T00:00:00+01:00"), at("2024-01-01T00:00:00Z"));
        assert!(Period::new(early.clone(), late.clone()).is_ok());
        assert!(Period::new(late.clone(), late.clone()).is_ok());
        assert!(Period::new(late.clone(), None).is_ok());
        assert!(Period::new(None, early.clone()).is_ok());
        assert_eq!(
            Period::new(late, early).unwrap_err().to_string(),
            r#"_since "2024-01-01T00:00:00Z" is after the end of the period (accepted: an instant at or before "2024-01-01T00:00:00+01:00")"#,
        );
    }
}
