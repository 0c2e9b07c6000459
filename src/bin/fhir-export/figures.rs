//! Numbers as people read them.

use std::time::Duration;

/// With a comma between thousands: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 object`, `2 objects`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Bytes in the decimal unit that fits: `812 B`, `45.6 MB`.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
pub(crate) fn volume(bytes: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| bytes as f64 >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

/// So many in a time, each second; 0 if there was no time.
#[expect(clippy::cast_precision_loss, reason = "shown without what is behind the point")]
pub(crate) fn each_second(number: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { number as f64 / seconds } else { 0.0 }
}

/// A rate of resources: `12,345`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate isn't negative, and is rounded")]
pub(crate) fn rate(each_second: f64) -> String {
    grouped(each_second.round() as u64)
}

/// A rate of bytes: `45.6 MB/s`.
pub(crate) fn megabyte_rate(bytes_each_second: f64) -> String {
    format!("{:.1} MB/s", bytes_each_second / 1e6)
}

/// `0.4 s`, `12 s`, `3 min 07 s`, `2 h 05 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let numbers = [0, 999, 1000, 123_456, 1_234_567];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "123,456", "1,234,567"]);
        let volumes = [0, 999, 1000, 45_600_000, 2_000_000_000_000];
        assert_eq!(volumes.map(volume), ["0 B", "999 B", "1.0 kB", "45.6 MB", "2.0 TB"]);
        assert_eq!((counted(1, "object"), counted(0, "object")), ("1 object".into(), "0 objects".into()));
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let times = [0.44, 12.0, 187.0, 7500.0].map(|seconds| duration(Duration::from_secs_f64(seconds)));
        assert_eq!(times, ["0.4 s", "12 s", "3 min 07 s", "2 h 05 min"]);
    }

    #[test]
    fn rates_are_by_the_second() {
        assert_eq!(rate(each_second(5000, Duration::from_secs(2))), "2,500");
        assert_eq!(megabyte_rate(each_second(91_200_000, Duration::from_secs(2))), "45.6 MB/s");
        assert_eq!(rate(each_second(1, Duration::ZERO)), "0");
    }
}
