//! Durations and sizes. The language has no literals for them, they are strings: `"1m30s"`, `"10MiB"`.

use std::fmt;
use std::time::Duration;

/// The units of a duration in nanoseconds, the larger first.
const DURATION_UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
];

/// Reads a sequence of numbers with units: `1h30m`, `1.5s`, `250ms`; or `0`. Up to 584 years; never negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = split_number(rest)?;
        let (unit, nanos) = DURATION_UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(scale(number, *nanos)?)?;
        rest = &after[unit.len()..];
    }
    Some(Duration::from_nanos(total))
}

/// Writes a duration so that [`parse_duration`] reads it: `1h30m`, `1.5s`, `250ms`.
pub fn format_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 && nanos > 0 {
        let units = [(1_000_000, "ms"), (1_000, "us"), (1, "ns")];
        let unit = units.into_iter().find(|(unit, _)| nanos % unit == 0);
        return unit.map(|(unit, name)| format!("{}{name}", nanos / unit)).unwrap_or_default();
    }
    let mut out = String::new();
    for (unit, name) in [(3600, "h"), (60, "m")] {
        let count = if unit == 3600 { seconds / 3600 } else { seconds / 60 % 60 };
        if count > 0 {
            out += &format!("{count}{name}");
        }
    }
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    if seconds % 60 > 0 || nanos > 0 || out.is_empty() {
        out += &format!("{}{fraction}s", seconds % 60);
    }
    out
}

/// A number of bytes. Units are powers of 1024, written `KiB` or `KB`: configurations use both for the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: &[u8; 6] = b"KMGTPE";

impl ByteSize {
    /// Reads `10MiB`, `10MB`, `1.5GiB`, `512B` or `512`.
    pub fn parse(text: &str) -> Option<ByteSize> {
        let (number, unit) = split_number(text.trim())?;
        let unit = unit.trim_start();
        let factor = match unit.as_bytes() {
            [] | [b'B'] => 1,
            [prefix, b'B'] | [prefix, b'i', b'B'] => {
                let power = SIZE_UNITS.iter().position(|unit| unit == prefix)?;
                1 << (10 * (power + 1))
            }
            _ => return None,
        };
        scale(number, factor).map(ByteSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (self.0.max(1).trailing_zeros() / 10).min(6);
        let count = self.0 >> (10 * power);
        match power {
            0 => write!(f, "{count}B"),
            _ => write!(f, "{count}{}iB", char::from(SIZE_UNITS[power as usize - 1])),
        }
    }
}

/// Splits off a decimal number: digits with at most one point.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let is_number = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    is_number.then_some((number, rest))
}

/// A decimal number times a unit; the whole part exactly, the fraction rounded.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let fraction = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse::<f64>().ok()? };
    whole.checked_mul(unit)?.checked_add((fraction * unit as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_duration(text: &str, expected: Option<&str>) {
        let printed = parse_duration(text).map(format_duration);
        assert_eq!(printed.as_deref(), expected, "{text}");
    }

    #[test]
    fn durations_are_those_of_go_without_a_sign() {
        for text in ["1m30s", "250ms", "1h", "1.5s", "24h", "1h0.000000001s", "3us", "7ns", "0s"] {
            check_duration(text, Some(text));
        }
        check_duration("0", Some("0s"));
        check_duration("90s", Some("1m30s"));
        check_duration("1h90m", Some("2h30m"));
        check_duration("1500ms", Some("1.5s"));
        check_duration("2\u{b5}s", Some("2us"));
        for text in ["", "1", "s", "1d", "-1s", "1s ", "1..5s", "1.s2", "99999999h", "\u{e4}"] {
            check_duration(text, None);
        }
    }

    fn check_size(text: &str, expected: Option<&str>) {
        assert_eq!(ByteSize::parse(text).map(|size| size.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn sizes_count_in_powers_of_1024() {
        check_size("1MiB", Some("1MiB"));
        check_size("10MB", Some("10MiB"));
        check_size("1.5KiB", Some("1536B"));
        check_size("512", Some("512B"));
        check_size("0", Some("0B"));
        check_size("8 GiB", Some("8GiB"));
        for text in ["", "MiB", "1XB", "1mb", "-1MB", "99999999999EiB"] {
            check_size(text, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos: u64, size: u64) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            proptest::prop_assert_eq!(ByteSize::parse(&ByteSize(size).to_string()), Some(ByteSize(size)));
        }

        #[test]
        fn no_text_panics(text: String) {
            parse_duration(&text);
            ByteSize::parse(&text);
        }
    }
}
