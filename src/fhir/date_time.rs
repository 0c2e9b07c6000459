//! Dates and times of partial precision, as spans of time.

use std::fmt;

use super::Instant;

const SECONDS_PER_DAY: i64 = 86_400;
/// What a date leaves open, as the first moment has it: January, the first, midnight.
const FIRST_MOMENT: [u8; 20] = *b"0000-01-01T00:00:00Z";

/// FHIR's `dateTime`: a year, a month, a day, or a time with a zone; each is the span of time that it names.
///
/// `2020-01` lasts from the first to the last moment of January. Dates without a time are in UTC. A time with whole
/// seconds lasts one second; a time with a fraction is a moment. Source:
/// <https://hl7.org/fhir/R4/datatypes.html#dateTime>, and of an end that lasts to its last moment
/// <https://hl7.org/fhir/R4/datatypes.html#Period>.
///
/// # Example
/// ```
/// use fhir_export::fhir::{DateTime, Instant};
/// let january = DateTime::parse("2020-01")?;
/// assert!(!january.ended_before(&Instant::parse("2020-01-31T23:59:59.999Z").unwrap()));
/// assert!(january.ended_before(&Instant::parse("2020-02-01T00:00:00Z").unwrap()));
/// # Ok::<(), fhir_export::fhir::DateTimeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateTime {
    first: Instant,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Lasts up to this instant, which is no part of it any more.
    Before(Instant),
    /// Is a moment.
    AtFirst,
}

impl DateTime {
    /// Reads FHIR's `dateTime`: `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or all of an [`Instant`]; years 0001 to 9999.
    ///
    /// # Errors
    /// When the text is none of these; a time without seconds or without a zone is none.
    pub fn parse(text: &str) -> Result<Self, DateTimeError> {
        let parsed = match text.len() {
            4 | 7 | 10 => Self::parse_date(text.as_bytes()),
            _ => Self::parse_time(text),
        };
        parsed.ok_or(DateTimeError)
    }

    fn parse_date(text: &[u8]) -> Option<Self> {
        let mut whole = FIRST_MOMENT;
        whole.get_mut(..text.len())?.copy_from_slice(text);
        let first = Instant::parse(std::str::from_utf8(&whole).ok()?).ok()?;
        let days = match text.len() {
            4 => 365 + i64::from(is_leap_year(text)?),
            7 => days_of_month(text)?,
            _ => 1,
        };
        let end = Instant::from_unix(first.unix_seconds() + days * SECONDS_PER_DAY, 0);
        Some(Self { first, end: End::Before(end) })
    }

    fn parse_time(text: &str) -> Option<Self> {
        let first = Instant::parse(text).ok()?;
        let has_fraction = text.as_bytes().get(19) == Some(&b'.');
        let end = if has_fraction {
            End::AtFirst
        } else {
            End::Before(Instant::from_unix(first.unix_seconds() + 1, first.nanos()))
        };
        Some(Self { first, end })
    }

    /// The first moment.
    #[must_use]
    pub const fn first(&self) -> &Instant {
        &self.first
    }

    /// Whether even the first moment is after `instant`.
    #[must_use]
    pub fn starts_after(&self, instant: &Instant) -> bool {
        self.first > *instant
    }

    /// Whether even the last moment is before `instant`.
    #[must_use]
    pub fn ended_before(&self, instant: &Instant) -> bool {
        match &self.end {
            End::Before(end) => end <= instant,
            End::AtFirst => self.first < *instant,
        }
    }
}

fn is_leap_year(text: &[u8]) -> Option<bool> {
    let year: u16 = std::str::from_utf8(text.get(..4)?).ok()?.parse().ok()?;
    Some(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
}

fn days_of_month(text: &[u8]) -> Option<i64> {
    Some(match text.get(5..7)? {
        b"02" => 28 + i64::from(is_leap_year(text)?),
        b"04" | b"06" | b"09" | b"11" => 30,
        _ => 31,
    })
}

/// A text that isn't a `dateTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTimeError;

impl fmt::Display for DateTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date is written YYYY, YYYY-MM or YYYY-MM-DD; a time has seconds and a zone besides")
    }
}

impl std::error::Error for DateTimeError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date_time(text: &str) -> DateTime {
        DateTime::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_date_lasts_to_its_last_moment_in_utc() {
        for (text, first, after) in [
            ("2020", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
            ("2019", "2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
            ("2020-01", "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
            ("2020-02", "2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z"),
            ("1900-02", "1900-02-01T00:00:00Z", "1900-03-01T00:00:00Z"),
            ("2000-02", "2000-02-01T00:00:00Z", "2000-03-01T00:00:00Z"),
            ("2020-12", "2020-12-01T00:00:00Z", "2021-01-01T00:00:00Z"),
            ("2020-02-29", "2020-02-29T00:00:00Z", "2020-03-01T00:00:00Z"),
            ("2020-01-01T00:00:05Z", "2020-01-01T00:00:05Z", "2020-01-01T00:00:06Z"),
            ("2020-01-01T01:00:05+01:00", "2020-01-01T00:00:05Z", "2020-01-01T00:00:06Z"),
        ] {
            let (date_time, first, after) = (date_time(text), at(first), at(after));
            assert_eq!(date_time.first(), &first, "{text}");
            let second_before = Instant::from_unix(first.unix_seconds() - 1, 999_999_999);
            assert!(date_time.starts_after(&second_before) && !date_time.starts_after(&first), "{text}");
            let last = Instant::from_unix(after.unix_seconds() - 1, 999_999_999);
            assert!(date_time.ended_before(&after) && !date_time.ended_before(&last), "{text}");
        }
    }

    #[test]
    fn a_time_with_a_fraction_is_a_moment() {
        let moment = date_time("2020-01-01T00:00:05.5Z");
        let same = at("2020-01-01T00:00:05.50Z");
        assert!(!moment.ended_before(&same) && !moment.starts_after(&same));
        assert!(moment.ended_before(&at("2020-01-01T00:00:05.5000000001Z")));
        assert!(moment.starts_after(&at("2020-01-01T00:00:05.4999999999Z")));
    }

    #[test]
    fn the_last_year_and_the_last_day_have_an_end() {
        for text in ["9999", "9999-12", "9999-12-31"] {
            assert!(!date_time(text).ended_before(&at("9999-12-31T23:59:59.9Z")), "{text}");
        }
    }

    #[test]
    fn what_names_no_day_or_no_zone_is_no_date() {
        for bad in [
            "",
            "20",
            "20201",
            "2020-",
            "2020-1",
            "2020-00",
            "2020-13",
            "2020-02-30",
            "2019-02-29",
            "2020-01-1",
            "0000",
            "2020-01-01T",
            "2020-01-01T10",
            "2020-01-01T10:00",
            "2020-01-01T10:00Z",
            "2020-01-01T10:00:00",
            "2020-01-01T24:00:00Z",
            " 2020",
            "+202",
            "-001",
            "2020/01",
            "2020-01-01 ",
            "01.02.2020",
            "20é",
        ] {
            assert_eq!(DateTime::parse(bad), Err(DateTimeError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_next_day_begins_where_a_day_ends(year in 1i16..=9999, month in 1i8..=12, day in 1i8..=31) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let Ok(date) = jiff::civil::Date::new(year, month, day) else {
                prop_assert!(DateTime::parse(&text).is_err());
                return Ok(());
            };
            let Ok(next) = date.tomorrow() else { return Ok(()) };
            let next = date_time(&next.to_string());
            prop_assert!(date_time(&text).ended_before(next.first()));
            let month_after = date.first_of_month().checked_add(jiff::Span::new().months(1));
            let year_after = date.first_of_year().checked_add(jiff::Span::new().years(1));
            for (length, after) in [(7, month_after), (4, year_after)] {
                let Ok(after) = after else { continue };
                let end = date_time(text.get(..length).unwrap()).end;
                prop_assert_eq!(end, End::Before(at(&format!("{after}T00:00:00Z"))));
            }
        }
    }
}
