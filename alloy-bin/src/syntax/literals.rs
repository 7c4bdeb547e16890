//! The values of string and number tokens.

use std::ops::Range;

/// Something wrong inside a string: its bytes, relative to the literal, and what it is.
pub(super) struct BadEscape {
    pub(super) range: Range<usize>,
    pub(super) message: String,
}

/// The value of a raw string. Carriage returns are not part of it, so that a file means the same with either kind
/// of line end.
pub(super) fn unquote_raw(literal: &str) -> String {
    literal.trim_matches('`').replace('\r', "")
}

/// The value of a string in double quotes, which knows Go's escapes. The closing quote may be missing: the lexer has
/// reported that.
pub(super) fn unquote(literal: &str) -> Result<String, BadEscape> {
    let mut bytes = Vec::with_capacity(literal.len());
    let mut at = literal.len().min(1);
    while let Some(c) = literal[at..].chars().next() {
        match c {
            '"' => break,
            '\\' => at += escape(literal, at, &mut bytes)?,
            _ => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += c.len_utf8();
            }
        }
    }
    // Go strings may hold any bytes. Ours are text: what is not becomes a replacement character.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Appends the escape that begins at `at`; returns its length in the literal.
fn escape(literal: &str, at: usize, bytes: &mut Vec<u8>) -> Result<usize, BadEscape> {
    let bad = |length: usize, message: &str| {
        let end = literal.floor_char_boundary((at + length).min(literal.len()));
        BadEscape { range: at..end.max(at + 1), message: message.to_owned() }
    };
    let Some(kind) = literal[at + 1..].chars().next() else {
        return Err(bad(1, "unknown escape sequence"));
    };
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '"' | '\'' => kind as u8,
        'x' => return number(literal, at + 2, 2, 16, bytes).map(|()| 4).ok_or_else(|| bad(4, HEX)),
        '0'..='7' => return number(literal, at + 1, 3, 8, bytes).map(|()| 4).ok_or_else(|| bad(4, OCTAL)),
        'u' => return unicode(literal, at + 2, 4, bytes).map(|()| 6).ok_or_else(|| bad(6, UNICODE)),
        'U' => return unicode(literal, at + 2, 8, bytes).map(|()| 10).ok_or_else(|| bad(10, UNICODE)),
        _ => return Err(bad(1 + kind.len_utf8(), "unknown escape sequence")),
    };
    bytes.push(simple);
    Ok(2)
}

const HEX: &str = "\\x needs two hexadecimal digits";
const OCTAL: &str = "an octal escape needs three digits up to \\377";
const UNICODE: &str = "escape is not a Unicode code point";

fn digits(literal: &str, at: usize, count: usize, radix: u32) -> Option<u32> {
    let digits = literal.get(at..at + count)?;
    digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

fn number(literal: &str, at: usize, count: usize, radix: u32, bytes: &mut Vec<u8>) -> Option<()> {
    bytes.push(u8::try_from(digits(literal, at, count, radix)?).ok()?);
    Some(())
}

fn unicode(literal: &str, at: usize, count: usize, bytes: &mut Vec<u8>) -> Option<()> {
    let c = char::from_u32(digits(literal, at, count, 16)?)?;
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(literal: &str, expected: &str) {
        match unquote(literal) {
            Ok(value) => assert_eq!(value, expected, "{literal}"),
            Err(bad) => assert_eq!(format!("{:?} {}", bad.range, bad.message), expected, "{literal}"),
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        check(r#""""#, "");
        check(r#""a\n\t\\\"b""#, "a\n\t\\\"b");
        check(r#""\x41\101\u00e4\U0001F600""#, "AA\u{e4}\u{1f600}");
        check(r#""\xc3\xa4""#, "\u{e4}");
        check(r#""\xff""#, "\u{fffd}");
        check(r#""a\d""#, "2..4 unknown escape sequence");
        check(r#""\x4""#, "1..5 \\x needs two hexadecimal digits");
        check(r#""\400""#, "1..5 an octal escape needs three digits up to \\377");
        check(r#""\ud800""#, "1..7 escape is not a Unicode code point");
        check("\"open", "open");
        check("\"open\\", "5..6 unknown escape sequence");
        check("\"", "");
    }

    #[test]
    fn raw_strings_keep_everything_but_carriage_returns() {
        assert_eq!(unquote_raw("`a\\n\r\nb`"), "a\\n\nb");
        assert_eq!(unquote_raw("`open"), "open");
    }
}
