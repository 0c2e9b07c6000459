//! Values of arguments, from their text.

use std::time::Duration;

use super::faults::Faults;

const SIZES: &str = "bytes, or a number with KiB, MiB, GiB or TiB, such as 256MiB";

/// Reads one of a few words.
pub(crate) fn choice<T: Copy>(faults: &mut Faults, name: &str, text: &str, choices: &[(&str, T)]) -> Option<T> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        faults.value(name, text, "isn't accepted here", words.join(", "));
    }
    found
}

/// Reads a whole number in a range.
pub(crate) fn number(faults: &mut Faults, name: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let found = text.parse().ok().filter(|number| range.contains(number));
    if found.is_none() {
        let accepted = match (*range.start(), *range.end()) {
            (least, u64::MAX) => format!("a whole number, {least} or more"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        faults.value(name, text, "isn't such a number", accepted);
    }
    found
}

/// Reads a number of bytes.
pub(crate) fn size(faults: &mut Faults, name: &str, text: &str) -> Option<u64> {
    let found = parse_size(text);
    if found.is_none() {
        faults.value(name, text, "isn't a size", SIZES);
    }
    found
}

/// Reads a number of bytes that fits memory.
pub(crate) fn memory_size(faults: &mut Faults, name: &str, text: &str) -> Option<usize> {
    let bytes = size(faults, name, text)?;
    let found = usize::try_from(bytes).ok();
    if found.is_none() {
        faults.value(name, text, "is more than this machine can address", SIZES);
    }
    found
}

/// Reads a time in seconds, fractions allowed.
pub(crate) fn seconds(faults: &mut Faults, name: &str, text: &str) -> Option<Duration> {
    let found = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if found.is_none() {
        faults.value(name, text, "isn't a time", "seconds, such as 30 or 0.5");
    }
    found
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("256MiB", 256 << 20),
            ("64M", 64 << 20),
            ("1GiB", 1 << 30),
            ("8 kib", 8 << 10),
            ("2t", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        // MB could mean either; 1.5 would have to be rounded.
        for text in ["", "MiB", "-1", "1.5GiB", "5MB", "1 000", "99999999999999999999", "16777216T", "١"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_fault_names_argument_value_and_what_is_accepted() {
        let mut faults = Faults::default();
        assert_eq!(choice(&mut faults, "--compress", "zip", &[("none", 0), ("gzip", 1)]), None);
        assert_eq!(number(&mut faults, "--gzip-level", "0", 1..=9), None);
        assert_eq!(size(&mut faults, "--memory", "much"), None);
        assert_eq!(seconds(&mut faults, "--seal-timeout", "-1"), None);
        assert_eq!(
            faults.lines().collect::<Vec<_>>(),
            [
                r#"--compress "zip" isn't accepted here (accepted: none, gzip)"#,
                r#"--gzip-level "0" isn't such a number (accepted: a whole number from 1 to 9)"#,
                r#"--memory "much" isn't a size (accepted: bytes, or a number with KiB, MiB, GiB or TiB, such as 256MiB)"#,
                r#"--seal-timeout "-1" isn't a time (accepted: seconds, such as 30 or 0.5)"#,
            ]
        );
    }
}
