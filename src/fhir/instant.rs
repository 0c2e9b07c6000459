//! Instants: points in time with an offset, compared exactly.

use std::fmt;

use jiff::{SignedDuration, civil};

/// Nanoseconds keep nine fraction digits; what a sender wrote beyond them is kept as text.
const NANO_DIGITS: usize = 9;

/// A point in time as FHIR's `instant` writes it, compared exactly: any fraction, any offset.
///
/// Two texts for the same moment are equal: `2020-01-01T01:00:00+01:00` and `2020-01-01T00:00:00.000Z`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    unix_seconds: i64,
    nanos: u32,
    // Digits beyond the ninth without trailing zeros. Comparing them as text compares the fractions.
    beyond_nanos: Option<Box<str>>,
}

impl Instant {
    /// The instant at a Unix time; `nanos` below 1,000,000,000.
    #[must_use]
    pub const fn from_unix(unix_seconds: i64, nanos: u32) -> Self {
        Self { unix_seconds, nanos, beyond_nanos: None }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn unix_seconds(&self) -> i64 {
        self.unix_seconds
    }

    /// Nanoseconds after the whole second.
    #[must_use]
    pub const fn nanos(&self) -> u32 {
        self.nanos
    }

    /// Whole microseconds since 1970-01-01T00:00:00Z, rounded down, and the digits of the fraction beyond them without
    /// trailing zeros: how a database keeps and compares any instant exactly, as an integer and a text (byte order).
    ///
    /// # Example
    /// ```
    /// use fhir_export::fhir::Instant;
    /// assert_eq!(Instant::parse("1970-01-01T00:00:01.00000250Z")?.to_micros(), (1_000_002, "5".to_owned()));
    /// # Ok::<(), fhir_export::fhir::InstantError>(())
    /// ```
    #[must_use]
    pub fn to_micros(&self) -> (i64, String) {
        let micros = self.unix_seconds.saturating_mul(1_000_000).saturating_add(i64::from(self.nanos / 1000));
        let digits = format!("{:03}{}", self.nanos % 1000, self.beyond_nanos.as_deref().unwrap_or_default());
        (micros, digits.trim_end_matches('0').to_owned())
    }

    /// The instant of which these are the microseconds and the digits beyond them.
    #[must_use]
    pub fn from_micros(micros: i64, beyond: &str) -> Self {
        let split = beyond.len().min(3);
        let (nanos, beyond) = (beyond.get(..split).unwrap_or_default(), beyond.get(split..).unwrap_or_default());
        let nanos: u32 = format!("{nanos:0<3}").parse().unwrap_or_default();
        let within = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default();
        let beyond_nanos = (!beyond.is_empty()).then(|| beyond.into());
        Self { unix_seconds: micros.div_euclid(1_000_000), nanos: within * 1000 + nanos, beyond_nanos }
    }

    /// Reads FHIR's `instant`: `YYYY-MM-DDThh:mm:ss[.f…](Z|±hh:mm)`, years 0001 to 9999.
    ///
    /// `24:00:00` is not a time; second 60 is read as the second after 59, as leap seconds are. Source:
    /// <https://hl7.org/fhir/R4/datatypes.html#instant>.
    ///
    /// # Errors
    /// When the text isn't an instant, a date without a zone included.
    ///
    /// # Example
    /// ```
    /// use fhir_export::fhir::Instant;
    /// let utc = Instant::parse("2023-07-18T00:00:00.461Z")?;
    /// assert_eq!(utc, Instant::parse("2023-07-18T02:00:00.4610+02:00")?);
    /// assert!(Instant::parse("2023-07-18").is_err());
    /// # Ok::<(), fhir_export::fhir::InstantError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InstantError> {
        Self::parse_bytes(text.as_bytes()).ok_or(InstantError)
    }

    fn parse_bytes(text: &[u8]) -> Option<Self> {
        let (date_time, rest) = text.split_at_checked(19)?;
        let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = date_time else {
            return None;
        };
        let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
        let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
        let (hour, minute, second) = (two_digits(h1, h2)?, two_digits(n1, n2)?, two_digits(s1, s2)?);
        if year == 0 || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (fraction, zone) = split_fraction(rest)?;
        let local = days_since_epoch(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
        let (nanos, beyond_nanos) = read_fraction(fraction);
        Some(Self { unix_seconds: local - offset_seconds(zone)?, nanos, beyond_nanos })
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return None;
    }
    Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let date = civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    // Howard Hinnant's civil calendar arithmetic: years begin in March, so a leap day is a year's last.
    let shifted_year = i64::from(date.year()) - i64::from(date.month() <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_from_march = (i64::from(date.month()) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(date.day()) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn split_fraction(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(after_point) = rest.strip_prefix(b".") else { return Some((&[], rest)) };
    let digits = after_point.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    after_point.split_at_checked(digits)
}

fn read_fraction(digits: &[u8]) -> (u32, Option<Box<str>>) {
    let mut nanos = 0;
    for index in 0..NANO_DIGITS {
        let digit = digits.get(index).map_or(0, |digit| u32::from(digit - b'0'));
        nanos = nanos * 10 + digit;
    }
    let beyond = digits.get(NANO_DIGITS..).unwrap_or_default();
    let kept = beyond.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    let beyond: String = beyond.iter().take(kept).map(|&digit| char::from(digit)).collect();
    (nanos, (!beyond.is_empty()).then(|| beyond.into_boxed_str()))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            // R4's pattern: up to 13:59, and 14:00.
            if minutes > 59 || hours * 60 + minutes > 14 * 60 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

impl fmt::Display for Instant {
    /// Writes UTC with milliseconds, cut, as HealthLake's manifest does: `2023-08-26T13:49:03.424Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = civil::date(1970, 1, 1).at(0, 0, 0, 0);
        // Not a timestamp of jiff's: those end a day before the year 9999 does.
        let Ok(time) = epoch.checked_add(SignedDuration::from_secs(self.unix_seconds)) else {
            return write!(f, "unix time {}", self.unix_seconds);
        };
        write!(f, "{}.{:03}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), self.nanos / 1_000_000)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that isn't an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstantError;

impl fmt::Display for InstantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an instant is written YYYY-MM-DDThh:mm:ss, a fraction if wanted, then Z or an offset such as +01:00",
        )
    }
}

impl std::error::Error for InstantError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_same_moment_is_equal_whatever_its_offset_and_fraction() {
        assert_eq!(at("1970-01-01T00:00:00Z"), Instant::from_unix(0, 0));
        assert_eq!(at("2020-02-29T23:30:00-01:00"), at("2020-03-01T00:30:00.000Z"));
        assert_eq!(at("2016-12-31T23:59:60Z"), at("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn fractions_compare_exactly_beyond_nanoseconds() {
        assert!(at("2020-01-01T00:00:00.0000000001Z") > at("2020-01-01T00:00:00Z"));
        assert!(at("2020-01-01T00:00:00.00000000019Z") < at("2020-01-01T00:00:00.0000000002Z"));
        assert_eq!(at("2020-01-01T00:00:00.1000000000000Z"), at("2020-01-01T00:00:00.1Z"));
        assert!(at("2020-01-01T00:00:00.12345678901Z") > at("2020-01-01T00:00:00.1234567890Z"));
    }

    #[test]
    fn what_has_no_zone_or_no_such_day_is_no_instant() {
        for bad in [
            "",
            "2020",
            "2020-01-01",
            "2020-01-01T00:00Z",
            "2020-01-01T00:00:00",
            "2020-02-30T00:00:00Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:00:00.Z",
            "2020-01-01T00:00:00+1:00",
            "2020-01-01T00:00:00+14:30",
            "0000-01-01T00:00:00Z",
            "2020-01-01 00:00:00Z",
            "2020-01-01T00:00:00z",
            " 2020-01-01T00:00:00Z",
            "2020-13-01T00:00:00Z",
            "2020-01-01T00:60:00Z",
            "2020-01-01T00:00:61Z",
            "2020-01-01T00:00:00Z\n",
        ] {
            assert_eq!(Instant::parse(bad), Err(InstantError), "{bad:?}");
        }
    }

    #[test]
    fn an_instant_is_written_in_utc_with_milliseconds() {
        assert_eq!(at("2023-08-26T15:49:03.4249+02:00").to_string(), "2023-08-26T13:49:03.424Z");
        assert_eq!(at("9999-12-31T23:59:59.999Z").to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(at("0001-01-01T00:00:00Z").to_string(), "0001-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn microseconds_and_the_digits_beyond_compare_as_the_instants_do(
            seconds in prop::collection::vec(-3i64..3, 2), fractions in prop::collection::vec("[0-9]{0,12}", 2)
        ) {
            let instants: Vec<Instant> = seconds.iter().zip(&fractions).map(|(seconds, fraction)| {
                let text = jiff::Timestamp::new(*seconds, 0).unwrap().strftime("%Y-%m-%dT%H:%M:%S").to_string();
                at(&if fraction.is_empty() { format!("{text}Z") } else { format!("{text}.{fraction}Z") })
            }).collect();
            let keys: Vec<_> = instants.iter().map(Instant::to_micros).collect();
            prop_assert_eq!(keys[0].cmp(&keys[1]), instants[0].cmp(&instants[1]));
            for (instant, (micros, beyond)) in instants.iter().zip(&keys) {
                prop_assert_eq!(&Instant::from_micros(*micros, beyond), instant);
            }
        }

        #[test]
        fn agrees_with_jiff_on_what_both_can_write(seconds in -62_135_596_800i64..253_402_300_799, nanos in 0u32..1_000_000_000) {
            let stamp = jiff::Timestamp::new(seconds, 0).unwrap();
            let text = format!("{}.{nanos:09}Z", stamp.strftime("%Y-%m-%dT%H:%M:%S"));
            prop_assert_eq!(Instant::parse(&text), Ok(Instant::from_unix(seconds, nanos)));
        }
    }
}
