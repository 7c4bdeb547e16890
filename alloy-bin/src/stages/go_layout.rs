//! Times as Go's `time.Parse` reads them: a layout shows how the moment `Mon Jan 2 15:04:05 MST 2006` would be written.
//! Reference: <https://pkg.go.dev/time#Layout>.

use jiff::tz::{Offset, TimeZone};

const SECOND: i128 = 1_000_000_000;

/// How a time is written: a name that Promtail knows (`RFC3339`, `UnixMs`), or a layout.
#[derive(Debug, Clone)]
pub struct TimeFormat(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Unix,
    /// So many nanoseconds each.
    Count(i128),
    Layout {
        chunks: Vec<Chunk>,
        zone: Option<TimeZone>,
        /// The layout has no year: it is taken from the line's own time.
        has_year: bool,
        /// The fast way is tried first.
        is_rfc3339: bool,
    },
}

/// A piece of a layout.
#[derive(Debug, Clone, PartialEq)]
enum Chunk {
    Text(String),
    LongMonth,
    Month,
    NumMonth {
        padded: bool,
    },
    LongWeekday,
    Weekday,
    Day {
        padded: bool,
    },
    UnderDay,
    YearDay {
        padded: bool,
    },
    Hour24,
    Hour12 {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    LongYear,
    Year,
    Pm,
    PmLower,
    ZoneName,
    Zone {
        z: bool,
        colon: bool,
        parts: usize,
    },
    /// So many digits, at least a separator.
    Fraction(usize),
    /// Any number of digits, or none.
    FractionMaybe,
}

const NAMED: &[(&str, &str)] = &[
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("RFC3339", "2006-01-02T15:04:05Z07:00"),
    ("RFC3339Nano", "2006-01-02T15:04:05.999999999Z07:00"),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What the pieces have said.
#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: i64,
    is_pm: Option<bool>,
    offset_s: Option<i64>,
    zone_name: Option<String>,
}

impl TimeFormat {
    /// RFC 3339 with any number of digits behind the second.
    pub fn rfc3339() -> Self {
        TimeFormat(Kind::Layout { chunks: chunks(NAMED[9].1), zone: None, has_year: true, is_rfc3339: true })
    }

    /// The format of that name, else that layout. `location`: the zone of times that do not say theirs, as the time zone database
    /// calls it. The error is for people.
    pub fn new(format: &str, location: Option<&str>) -> Result<Self, String> {
        let kind = match format {
            "Unix" => Kind::Unix,
            "UnixMs" => Kind::Count(1_000_000),
            "UnixUs" => Kind::Count(1_000),
            "UnixNs" => Kind::Count(1),
            "RFC3339" | "RFC3339Nano" => return Ok(TimeFormat::rfc3339()),
            other => {
                let named = NAMED.iter().find(|(name, _)| *name == other);
                // As in Promtail, only layouts of one's own know the location.
                let location = location.filter(|_| named.is_none());
                let layout = named.map_or(other, |(_, layout)| layout);
                let zone = location.map(zone).transpose()?;
                let has_year = named.is_some() || layout.contains("06");
                Kind::Layout { chunks: chunks(layout), zone, has_year, is_rfc3339: false }
            }
        };
        Ok(TimeFormat(kind))
    }

    /// Nanoseconds since the Unix epoch. A time without a year is the one nearest to `now_ns` in the sense of Promtail: last
    /// year's December in January, next year's January in December, else this year's.
    pub fn parse(&self, text: &str, now_ns: i64) -> Option<i64> {
        match &self.0 {
            Kind::Unix => unix(text),
            Kind::Count(nanoseconds) => i64::try_from(i128::from(integer(text)?) * nanoseconds).ok(),
            Kind::Layout { chunks, zone, has_year, is_rfc3339 } => {
                if *is_rfc3339 && let Some(time) = rfc3339(text.as_bytes()) {
                    return Some(time);
                }
                let mut fields = fields(chunks, text)?;
                if !has_year {
                    if fields.year.is_some_and(|year| year != 0) {
                        return None;
                    }
                    fields.year = Some(year_near(fields.month.unwrap_or(1), now_ns)?);
                }
                fields.time(zone.as_ref())
            }
        }
    }
}

fn zone(name: &str) -> Result<TimeZone, String> {
    match name {
        "" | "UTC" | "Local" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|error| format!("unknown location {name:?}: {error}")),
    }
}

/// As Go's `ParseInt`.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((seconds, fraction)) if !fraction.contains('.') => (seconds, fraction),
        Some(_) => return None,
        None => (text, "0"),
    };
    let exponent = 9 - i32::try_from(fraction.len()).ok()?;
    let nanoseconds = (integer(fraction)? as f64 * 10f64.powi(exponent)) as i64;
    if !text.contains('.') {
        return integer(seconds)?.checked_mul(SECOND as i64);
    }
    i64::try_from(i128::from(integer(seconds)?) * SECOND + i128::from(nanoseconds)).ok()
}

fn year_near(month: i64, now_ns: i64) -> Option<i64> {
    let now = Offset::UTC.to_datetime(jiff::Timestamp::from_nanosecond(now_ns.into()).ok()?);
    let year = i64::from(now.year());
    Some(match (month, now.month()) {
        (12, 1) => year - 1,
        (1, 12) => year + 1,
        _ => year,
    })
}

/// `2006-01-02T15:04:05.999Z` and nothing else.
fn rfc3339(text: &[u8]) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range)?
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let mut at = 19;
    let mut nanosecond = 0;
    if is(at, b'.') {
        let count = text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 || count > 9 {
            return None;
        }
        nanosecond = digits(at + 1..at + 1 + count)? * 10i64.pow(9 - count as u32);
        at += 1 + count;
    }
    let offset_s = match text.get(at..)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(at + 1..at + 3)?, digits(at + 4..at + 6)?);
            if hours > 24 || minutes >= 60 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) {
        return None;
    }
    if day < 1 || day > days_in(year, month) {
        return None;
    }
    nanoseconds(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s, nanosecond)
}

fn nanoseconds(seconds: i64, nanosecond: i64) -> Option<i64> {
    i64::try_from(i128::from(seconds) * SECOND + i128::from(nanosecond)).ok()
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch: <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl Fields {
    fn time(self, zone: Option<&TimeZone>) -> Option<i64> {
        let year = self.year.unwrap_or(0);
        let hour = match self.is_pm {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let (month, day) = match self.year_day {
            Some(year_day) => {
                let of_year_day = day_of_year(year, year_day)?;
                let is_same = |said: Option<i64>, is: i64| said.is_none_or(|said| said == is);
                if !is_same(self.month, of_year_day.0) || !is_same(self.day, of_year_day.1) {
                    return None;
                }
                of_year_day
            }
            None => (self.month.unwrap_or(1), self.day.unwrap_or(1)),
        };
        if day < 1 || day > days_in(year, month) {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + self.minute * 60 + self.second;
        let offset_s = match (self.offset_s, self.zone_name.as_deref(), zone) {
            (Some(offset_s), _, _) => offset_s,
            (None, Some("UTC"), _) => 0,
            (None, Some(name), zone) => {
                zone.and_then(|zone| offset_of_name(zone, name, seconds)).unwrap_or(0)
            }
            // As Go does: where a local time is there twice or not at all, this decides which one is meant.
            (None, None, Some(zone)) => offset_at(zone, seconds - offset_at(zone, seconds)?)?,
            (None, None, None) => 0,
        };
        nanoseconds(seconds - offset_s, self.nanosecond)
    }
}

fn offset_at(zone: &TimeZone, seconds: i64) -> Option<i64> {
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(i64::from(zone.to_offset(time).seconds()))
}

/// The offset that the zone calls so, then or in the other half of the year. Names of other zones count as UTC, `GMT+3` too.
fn offset_of_name(zone: &TimeZone, name: &str, seconds: i64) -> Option<i64> {
    const HALF_YEAR: i64 = 182 * 86_400;
    [0, -HALF_YEAR, HALF_YEAR].into_iter().find_map(|distance| {
        let time = jiff::Timestamp::from_second(seconds + distance).ok()?;
        let info = zone.to_offset_info(time);
        (info.abbreviation() == name).then(|| i64::from(info.offset().seconds()))
    })
}

fn day_of_year(year: i64, year_day: i64) -> Option<(i64, i64)> {
    let mut rest = year_day;
    for month in 1..=12 {
        let days = days_in(year, month);
        if rest <= days {
            return (rest >= 1).then_some((month, rest));
        }
        rest -= days;
    }
    None
}

mod chunks;
use chunks::{chunks, fields};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_go_reads_them() {
        const NOW: i64 = 1_700_000_000_000_000_000;
        let check = |format: &str, location: Option<&str>, text: &str, expected: Option<&str>| {
            let found = TimeFormat::new(format, location).unwrap().parse(text, NOW);
            let found = found.map(|time| jiff::Timestamp::from_nanosecond(time.into()).unwrap().to_string());
            assert_eq!(found.as_deref(), expected, "{format} {text}");
        };
        check("RFC3339", None, "2024-02-29T12:00:01+02:00", Some("2024-02-29T10:00:01Z"));
        check(
            "RFC3339Nano",
            None,
            "2024-02-29T12:00:01.123456789123Z",
            Some("2024-02-29T12:00:01.123456789Z"),
        );
        check("RFC3339", None, "2023-02-29T12:00:01Z", None);
        check("RFC3339", None, "2023-02-28T24:00:01Z", None);
        check("RFC3339", None, "2023-02-28t12:00:01Z", None);
        check("ANSIC", None, "Mon Jan  2 15:04:05 2006", Some("2006-01-02T15:04:05Z"));
        check("RFC1123Z", None, "Tue, 03 Jan 2006 15:04:05 -0700", Some("2006-01-03T22:04:05Z"));
        check("RFC822", None, "02 Jan 70 15:04 GMT+3", Some("1970-01-02T15:04:00Z"));
        check("Unix", None, "1700000000.25", Some("2023-11-14T22:13:20.25Z"));
        check("Unix", None, "x", None);
        check("UnixMs", None, "1700000000001", Some("2023-11-14T22:13:20.001Z"));
        check(
            "2006-01-02 15:04:05",
            Some("Europe/Berlin"),
            "2024-07-01 12:00:00",
            Some("2024-07-01T10:00:00Z"),
        );
        check("2006-01-02 15:04:05.000", None, "2024-07-01 12:00:00,250", Some("2024-07-01T12:00:00.25Z"));
        check("2006-01-02 15:04:05", None, "2024-07-01 12:00:00.25", Some("2024-07-01T12:00:00.25Z"));
        check("2006-01-02 15:04:05", None, "2024-07-01 12:00:00 ", None);
        check("Jan _2 15:04:05", None, "Nov  4 01:02:03", Some("2023-11-04T01:02:03Z"));
        check("2006-002 3:4PM", None, "2024-060 3:07AM", Some("2024-02-29T03:07:00Z"));
        check("02/Jan/2006:15:04:05 -0700", None, "10/Oct/2000:13:55:36 -0700", Some("2000-10-10T20:55:36Z"));
    }

    #[test]
    fn a_time_without_a_year_is_near_the_lines_own() {
        let format = TimeFormat::new("Jan 2", None).unwrap();
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
        let check = |text: &str, now: &str, expected: &str| {
            assert_eq!(format.parse(text, at(now)), Some(at(expected)), "{text} at {now}");
        };
        check("Dec 31", "2024-01-01T00:00:01Z", "2023-12-31T00:00:00Z");
        check("Jan 1", "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z");
        check("Feb 29", "2024-03-01T00:00:00Z", "2024-02-29T00:00:00Z");
        assert!(TimeFormat::new("2006", Some("Mars/Olympus")).is_err());
    }
}
