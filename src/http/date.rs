//! Times as the wire wants them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// HealthLake's format on REST, `MMM d, yyyy h:mm:ss a` in UTC (contract section 4); empty for what no calendar holds.
pub(super) fn on_rest(unix_seconds: i64) -> String {
    let Some(time) = utc(unix_seconds) else { return String::new() };
    let (hour, half) = (time.hour() % 12, if time.hour() < 12 { "AM" } else { "PM" });
    let hour = if hour == 0 { 12 } else { hour };
    let (month, day, year) = (name(&MONTHS, time.month()), time.day(), time.year());
    format!("{month} {day}, {year} {hour}:{:02}:{:02} {half}", time.minute(), time.second())
}

/// HTTP's format (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn in_headers(unix_seconds: i64) -> String {
    let Some(time) = utc(unix_seconds) else { return String::new() };
    let weekday = name(&DAYS, time.weekday().to_monday_one_offset());
    let (day, month, year) = (time.day(), name(&MONTHS, time.month()), time.year());
    format!("{weekday}, {day:02} {month} {year:04} {:02}:{:02}:{:02} GMT", time.hour(), time.minute(), time.second())
}

fn utc(unix_seconds: i64) -> Option<DateTime> {
    Timestamp::from_second(unix_seconds).ok().map(|stamp| Offset::UTC.to_datetime(stamp))
}

/// The name of a number that counts from one.
fn name(names: &[&'static str], number: i8) -> &'static str {
    usize::try_from(number - 1).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

/// Seconds since 1970 with a fraction, as the SDK's JSON has them (contract section 5).
#[expect(clippy::cast_precision_loss, reason = "a double holds the milliseconds of all years that have four digits")]
pub(super) fn in_sdk(unix_seconds: i64, nanos: u32) -> f64 {
    unix_seconds as f64 + f64::from(nanos / 1_000_000) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_on_rest_are_those_of_the_contract() {
        for (seconds, text) in [
            (1_682_099_882, "Apr 21, 2023 5:58:02 PM"),
            (1_693_014_416, "Aug 26, 2023 1:46:56 AM"),
            (1_672_531_200, "Jan 1, 2023 12:00:00 AM"),
            (1_672_574_400, "Jan 1, 2023 12:00:00 PM"),
        ] {
            assert_eq!(on_rest(seconds), text);
        }
    }

    #[test]
    fn times_in_headers_and_in_the_sdk_are_those_of_their_standards() {
        assert_eq!(in_headers(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(in_sdk(1_609_175_692, 715_999_999).to_string(), "1609175692.715");
    }
}
