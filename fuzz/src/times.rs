//! Instants and dates against the standard's own patterns and jiff's calendar.

use std::sync::LazyLock;

use fhir_export::fhir::{DateTime, Instant};
use jiff::civil::{Date, date};
use regex::{Captures, Regex};

/// The pattern of <https://hl7.org/fhir/R4/datatypes.html#instant>, with names.
static INSTANT: LazyLock<Regex> = LazyLock::new(|| {
    let year = "(?<year>[0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)";
    let day = "(?<month>0[1-9]|1[0-2])-(?<day>0[1-9]|[1-2][0-9]|3[0-1])";
    let time = "(?<hour>[01][0-9]|2[0-3]):(?<minute>[0-5][0-9]):(?<second>[0-5][0-9]|60)(\\.(?<fraction>[0-9]+))?";
    let zone = "(Z|(?<sign>\\+|-)((?<hours>0[0-9]|1[0-3]):(?<minutes>[0-5][0-9])|(?<fourteen>14:00)))";
    Regex::new(&format!("^{year}-{day}T{time}{zone}$")).expect("a constant")
});

/// Whole seconds, and the fraction without zeros behind.
type Moment = (i64, String);

/// Two texts, with a line feed between.
pub fn times(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut read: Vec<(Instant, Moment)> = Vec::new();
    for text in text.split('\n') {
        let (found, expected) = (Instant::parse(text).ok(), expected(text));
        assert_eq!(found.is_some(), expected.is_some(), "{text}");
        if let (Some(found), Some(expected)) = (found, expected) {
            check(&found, &expected);
            read.push((found, expected));
        }
        date_time(text);
    }
    for (one, expected_one) in &read {
        for (other, expected_other) in &read {
            assert_eq!(one.cmp(other), expected_one.cmp(expected_other), "{one:?} {other:?}");
        }
    }
}

fn check(found: &Instant, (seconds, fraction): &Moment) {
    assert_eq!(found.unix_seconds(), *seconds);
    assert_eq!(format!("{:09}", found.nanos()), format!("{fraction:0<9}")[..9]);
    if (-62_135_596_800..253_402_300_800).contains(seconds) {
        let cut = Instant::parse(&found.to_string()).expect("an instant is written as one");
        assert!(cut <= *found && cut.unix_seconds() == *seconds);
    }
}

fn expected(text: &str) -> Option<Moment> {
    let captures = INSTANT.captures(text)?;
    let number = |name: &str| number(&captures, name);
    let day = civil(number("year"), number("month"), number("day"))?;
    let offset = match captures.name("fourteen") {
        Some(_) => 14 * 3600,
        None => number("hours") * 3600 + number("minutes") * 60,
    };
    let offset = if captures.name("sign").is_some_and(|sign| sign.as_str() == "-") { -offset } else { offset };
    let seconds = days(day) * 86_400 + number("hour") * 3600 + number("minute") * 60 + number("second") - offset;
    let fraction = captures.name("fraction").map_or("", |fraction| fraction.as_str());
    Some((seconds, fraction.trim_end_matches('0').to_owned()))
}

fn number(captures: &Captures<'_>, name: &str) -> i64 {
    captures.name(name).map_or(0, |digits| digits.as_str().parse().expect("digits"))
}

fn civil(year: i64, month: i64, day: i64) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// Days since 1970-01-01.
fn days(day: Date) -> i64 {
    let span = day.since((jiff::Unit::Day, date(1970, 1, 1))).expect("days of a calendar fit");
    span.get_days().into()
}

/// A date is the span from its first moment to just before the next date of its precision.
fn date_time(text: &str) {
    let found = DateTime::parse(text).ok();
    let all_digits = text.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let piece = |from: usize| text.get(from..from + 2).and_then(|digits| digits.parse().ok());
    let year = text.get(..4).and_then(|digits| digits.parse().ok()).filter(|year| *year > 0);
    let span = match (text.len(), all_digits, year) {
        (4, true, Some(year)) => civil(year, 1, 1).map(|first| (first, i64::from(first.days_in_year()))),
        (7, true, Some(year)) => {
            piece(5).and_then(|month| civil(year, month, 1)).map(|first| (first, i64::from(first.days_in_month())))
        }
        (10, true, Some(year)) => {
            piece(5).zip(piece(8)).and_then(|(month, day)| civil(year, month, day)).map(|first| (first, 1))
        }
        (4 | 7 | 10, _, _) => None,
        _ => {
            assert_eq!(found.map(|found| found.first().clone()), Instant::parse(text).ok());
            return;
        }
    };
    assert_eq!(found.is_some(), span.is_some(), "{text}");
    let (Some(found), Some((first, count))) = (found, span) else { return };
    let (begin, end) = (days(first) * 86_400, (days(first) + count) * 86_400);
    let last = Instant::from_unix(end - 1, 999_999_999);
    assert_eq!(found.first(), &Instant::from_unix(begin, 0));
    assert!(found.ended_before(&Instant::from_unix(end, 0)) && !found.ended_before(&last));
    assert!(found.starts_after(&Instant::from_unix(begin - 1, 999_999_999)) && !found.starts_after(found.first()));
}
