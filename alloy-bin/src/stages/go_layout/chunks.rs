//! A layout's pieces, and what each reads.

use super::{Chunk, Fields, MONTHS, WEEKDAYS};

/// What may stand in a layout; of several that begin alike, the first that fits.
const PIECES: &[(&str, Chunk)] = &[
    ("January", Chunk::LongMonth),
    ("Jan", Chunk::Month),
    ("Monday", Chunk::LongWeekday),
    ("Mon", Chunk::Weekday),
    ("MST", Chunk::ZoneName),
    ("002", Chunk::YearDay { padded: true }),
    ("01", Chunk::NumMonth { padded: true }),
    ("02", Chunk::Day { padded: true }),
    ("03", Chunk::Hour12 { padded: true }),
    ("04", Chunk::Minute { padded: true }),
    ("05", Chunk::Second { padded: true }),
    ("06", Chunk::Year),
    ("15", Chunk::Hour24),
    ("1", Chunk::NumMonth { padded: false }),
    ("2006", Chunk::LongYear),
    ("2", Chunk::Day { padded: false }),
    ("__2", Chunk::YearDay { padded: false }),
    ("_2", Chunk::UnderDay),
    ("3", Chunk::Hour12 { padded: false }),
    ("4", Chunk::Minute { padded: false }),
    ("5", Chunk::Second { padded: false }),
    ("PM", Chunk::Pm),
    ("pm", Chunk::PmLower),
    ("-07:00:00", Chunk::Zone { z: false, colon: true, parts: 3 }),
    ("-070000", Chunk::Zone { z: false, colon: false, parts: 3 }),
    ("-07:00", Chunk::Zone { z: false, colon: true, parts: 2 }),
    ("-0700", Chunk::Zone { z: false, colon: false, parts: 2 }),
    ("-07", Chunk::Zone { z: false, colon: false, parts: 1 }),
    ("Z07:00:00", Chunk::Zone { z: true, colon: true, parts: 3 }),
    ("Z070000", Chunk::Zone { z: true, colon: false, parts: 3 }),
    ("Z07:00", Chunk::Zone { z: true, colon: true, parts: 2 }),
    ("Z0700", Chunk::Zone { z: true, colon: false, parts: 2 }),
    ("Z07", Chunk::Zone { z: true, colon: false, parts: 1 }),
];

pub(super) fn chunks(layout: &str) -> Vec<Chunk> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        let Some((taken, chunk)) = piece(rest) else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        if !text.is_empty() {
            found.push(Chunk::Text(std::mem::take(&mut text)));
        }
        found.push(chunk);
        rest = &rest[taken..];
    }
    if !text.is_empty() {
        found.push(Chunk::Text(text));
    }
    found
}

fn piece(rest: &str) -> Option<(usize, Chunk)> {
    if rest.starts_with(['.', ',']) {
        let digit = rest[1..].chars().next().filter(|digit| matches!(digit, '0' | '9'))?;
        let count = rest[1..].chars().take_while(|other| *other == digit).count();
        let is_end = !rest[1 + count..].starts_with(|next: char| next.is_ascii_digit());
        let chunk = if digit == '0' { Chunk::Fraction(count) } else { Chunk::FractionMaybe };
        return is_end.then_some((1 + count, chunk));
    }
    // `_2006` is an underscore and a year; `Janet` is no month, as a word goes on in small letters.
    if rest.starts_with("_2006") {
        return None;
    }
    PIECES.iter().find_map(|(name, chunk)| {
        let behind = rest.strip_prefix(name)?;
        let is_word = matches!(chunk, Chunk::Month | Chunk::Weekday);
        let goes_on = is_word && behind.starts_with(|next: char| next.is_ascii_lowercase());
        (!goes_on).then(|| (name.len(), chunk.clone()))
    })
}

/// What the text says, if it is written as the layout has it.
pub(super) fn fields(chunks: &[Chunk], text: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    let mut rest = text;
    for (index, chunk) in chunks.iter().enumerate() {
        rest = read(chunk, chunks.get(index + 1), rest, &mut fields)?;
    }
    rest.is_empty().then_some(fields)
}

fn read<'t>(chunk: &Chunk, next: Option<&Chunk>, text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    match chunk {
        Chunk::Text(expected) => skip(text, expected),
        Chunk::LongYear => {
            let (year, rest) = fixed(text, 4)?;
            fields.year = Some(year);
            Some(rest)
        }
        Chunk::Year => {
            let (year, rest) = fixed(text, 2)?;
            fields.year = Some(if year >= 69 { year + 1900 } else { year + 2000 });
            Some(rest)
        }
        Chunk::LongMonth => named(text, &MONTHS, usize::MAX, |month| fields.month = Some(month as i64 + 1)),
        Chunk::Month => named(text, &MONTHS, 3, |month| fields.month = Some(month as i64 + 1)),
        Chunk::LongWeekday => named(text, &WEEKDAYS, usize::MAX, |_| ()),
        Chunk::Weekday => named(text, &WEEKDAYS, 3, |_| ()),
        Chunk::NumMonth { padded } => number(text, *padded, 1..=12, |month| fields.month = Some(month)),
        Chunk::Day { padded } => number(text, *padded, 0..=99, |day| fields.day = Some(day)),
        Chunk::UnderDay => {
            let text = text.strip_prefix(' ').unwrap_or(text);
            number(text, false, 0..=99, |day| fields.day = Some(day))
        }
        Chunk::YearDay { padded } => {
            let blanks = if *padded { 0 } else { text.bytes().take(2).take_while(|b| *b == b' ').count() };
            let (day, rest) = fixed(&text[blanks..], 3 - blanks)?;
            fields.year_day = Some(day);
            Some(rest)
        }
        Chunk::Hour24 => number(text, false, 0..=23, |hour| fields.hour = hour),
        Chunk::Hour12 { padded } => number(text, *padded, 0..=12, |hour| fields.hour = hour),
        Chunk::Minute { padded } => number(text, *padded, 0..=59, |minute| fields.minute = minute),
        Chunk::Second { padded } => {
            let rest = number(text, *padded, 0..=59, |second| fields.second = second)?;
            // A fraction may follow though the layout has none.
            let is_said = matches!(next, Some(Chunk::Fraction(_) | Chunk::FractionMaybe));
            if is_said { Some(rest) } else { Some(fraction_maybe(rest, fields)) }
        }
        Chunk::Pm | Chunk::PmLower => {
            let (pm, am) = if *chunk == Chunk::Pm { ("PM", "AM") } else { ("pm", "am") };
            fields.is_pm = Some(text.starts_with(pm));
            text.strip_prefix(pm).or_else(|| text.strip_prefix(am))
        }
        Chunk::ZoneName => zone_name(text, fields),
        Chunk::Zone { z, colon, parts } => zone(text, (*z, *colon, *parts), fields),
        Chunk::Fraction(count) => {
            let digits = text.strip_prefix(['.', ','])?;
            let (_, rest) = fixed(digits, *count)?;
            fields.nanosecond = nanosecond(&digits[..*count]);
            Some(rest)
        }
        Chunk::FractionMaybe => Some(fraction_maybe(text, fields)),
    }
}

/// Blanks in the layout stand for any number of blanks, or none at the end of the text.
fn skip<'t>(mut text: &'t str, expected: &str) -> Option<&'t str> {
    let mut wanted = expected;
    while let Some(first) = wanted.chars().next() {
        if first == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            wanted = wanted.trim_start_matches(' ');
            text = text.trim_start_matches(' ');
            continue;
        }
        text = text.strip_prefix(first)?;
        wanted = &wanted[first.len_utf8()..];
    }
    Some(text)
}

fn fixed(text: &str, count: usize) -> Option<(i64, &str)> {
    let digits = text.get(..count).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((digits.parse().ok()?, &text[count..]))
}

/// One or two digits; two if it is padded.
fn number(
    text: &str,
    padded: bool,
    range: std::ops::RangeInclusive<i64>,
    set: impl FnOnce(i64),
) -> Option<&str> {
    let found = fixed(text, 2).or_else(|| if padded { None } else { fixed(text, 1) });
    let (value, rest) = found.filter(|(value, _)| range.contains(value))?;
    set(value);
    Some(rest)
}

/// A name in any case; with `letters`, so many of its letters.
fn named<'t>(text: &'t str, names: &[&str], letters: usize, set: impl FnOnce(usize)) -> Option<&'t str> {
    let (index, length) = names.iter().enumerate().find_map(|(index, name)| {
        let name = &name[..name.len().min(letters)];
        let is_it = text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        is_it.then_some((index, name.len()))
    })?;
    set(index);
    Some(&text[length..])
}

fn fraction_maybe<'t>(text: &'t str, fields: &mut Fields) -> &'t str {
    let Some(digits) = text.strip_prefix(['.', ',']) else { return text };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return text;
    }
    fields.nanosecond = nanosecond(&digits[..count]);
    &digits[count..]
}

/// Of the digits, the first nine count.
fn nanosecond(digits: &str) -> i64 {
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    nine.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

fn zone<'t>(text: &'t str, (z, colon, parts): (bool, bool, usize), fields: &mut Fields) -> Option<&'t str> {
    if z && let Some(rest) = text.strip_prefix('Z') {
        fields.offset_s = Some(0);
        return Some(rest);
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut rest = &text[1..];
    let mut offset_s = 0;
    for (part, unit) in [3600, 60, 1].into_iter().take(parts).enumerate() {
        if colon && part > 0 {
            rest = rest.strip_prefix(':')?;
        }
        let (value, behind) = fixed(rest, 2)?;
        if value > if part == 0 { 24 } else { 59 } {
            return None;
        }
        offset_s += value * unit;
        rest = behind;
    }
    fields.offset_s = Some(sign * offset_s);
    Some(rest)
}

/// An abbreviation of a zone: three or four capital letters, `GMT` with hours, or `+03`.
fn zone_name<'t>(text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    if let Some(rest) = text.strip_prefix("UTC") {
        fields.zone_name = Some("UTC".to_owned());
        return Some(rest);
    }
    let signed = |text: &str| -> Option<usize> {
        let digits = text.strip_prefix(['+', '-'])?.bytes().take_while(u8::is_ascii_digit).count();
        let hours: i64 = text.get(1..1 + digits)?.parse().ok()?;
        (hours < 24).then_some(1 + digits)
    };
    let capitals = text.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
    let length = match capitals {
        _ if text.starts_with("ChST") || text.starts_with("MeST") => 4,
        _ if text.starts_with("GMT") => 3 + signed(&text[3..]).unwrap_or(0),
        0 => signed(text).filter(|length| *length == 3)?,
        3 => 3,
        4 if text.as_bytes()[3] == b'T' || text.starts_with("WITA") => 4,
        5 if text.as_bytes()[4] == b'T' => 5,
        _ => return None,
    };
    fields.zone_name = Some(text[..length].to_owned());
    Some(&text[length..])
}
