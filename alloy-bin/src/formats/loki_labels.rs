//! A stream's labels as push requests write them: `{app="nginx", path="C:\\x"}`, names and strings as PromQL has them.

/// Reads the labels. The error is for people.
pub(super) fn read_labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut reader = Reader { rest: text };
    reader.labels().map_err(|reason| {
        let at = text[..text.len() - reader.rest.len()].chars().count() + 1;
        let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
        format!("{shown:?} are no labels: {reason}, at character {at}")
    })
}

/// So much of what is wrong goes into an answer.
const SHOWN_CHARACTERS: usize = 200;

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn labels(&mut self) -> Result<Vec<(String, String)>, &'static str> {
        let mut labels = Vec::new();
        self.expect('{', "a brace is expected")?;
        while !self.take('}') {
            if !labels.is_empty() {
                self.expect(',', "a comma or the closing brace is expected")?;
                // A comma may come last.
                if self.take('}') {
                    break;
                }
            }
            let name = self.name()?;
            self.expect('=', "a = is expected")?;
            labels.push((name, self.string()?));
        }
        self.blanks();
        if self.rest.is_empty() { Ok(labels) } else { Err("the end is expected") }
    }

    fn name(&mut self) -> Result<String, &'static str> {
        self.blanks();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        if end == 0 || self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("a label's name is expected");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name.to_owned())
    }

    /// In double or single quotes with Go's escapes, or in backquotes as it stands. Escapes may write single bytes; what is no UTF-8
    /// then becomes U+FFFD.
    fn string(&mut self) -> Result<String, &'static str> {
        const OPEN: &str = "a quote is missing";
        self.blanks();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quote = quote.ok_or("a text in quotes is expected")?;
        self.rest = &self.rest[1..];
        if quote == '`' {
            let (text, rest) = self.rest.split_once('`').ok_or(OPEN)?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        let mut value = Vec::new();
        loop {
            let end = self.rest.find([quote, '\\', '\n']).ok_or(OPEN)?;
            value.extend_from_slice(&self.rest.as_bytes()[..end]);
            let found = self.rest.as_bytes()[end];
            self.rest = &self.rest[end + 1..];
            match found {
                b'\\' => self.escape(quote, &mut value)?,
                b'\n' => return Err(OPEN),
                _ => return Ok(String::from_utf8_lossy(&value).into_owned()),
            }
        }
    }

    fn escape(&mut self, quote: char, value: &mut Vec<u8>) -> Result<(), &'static str> {
        const UNKNOWN: &str = "an escape is not known";
        let escaped = self.rest.chars().next().ok_or(UNKNOWN)?;
        let (digits, radix) = match escaped {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => {
                value.push(match escaped {
                    'a' => 0x07,
                    'b' => 0x08,
                    'f' => 0x0c,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 0x0b,
                    '\\' => b'\\',
                    same if same == quote => quote as u8,
                    _ => return Err(UNKNOWN),
                });
                self.rest = &self.rest[1..];
                return Ok(());
            }
        };
        let start = usize::from(radix == 16);
        let digits = self.rest.get(start..start + digits).ok_or(UNKNOWN)?;
        // The parser of numbers would take a sign.
        let code = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits);
        let code = code.and_then(|digits| u32::from_str_radix(digits, radix).ok()).ok_or(UNKNOWN)?;
        self.rest = &self.rest[start + digits.len()..];
        if matches!(escaped, 'u' | 'U') {
            let character = char::from_u32(code).ok_or(UNKNOWN)?;
            value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            value.push(u8::try_from(code).map_err(|_| UNKNOWN)?);
        }
        Ok(())
    }

    fn expect(&mut self, token: char, error: &'static str) -> Result<(), &'static str> {
        if self.take(token) { Ok(()) } else { Err(error) }
    }

    fn take(&mut self, token: char) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_promql_writes_them() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            assert_eq!(read_labels(text), Ok(expected.iter().map(owned).collect()), "{text}");
        };
        check("{}", &[]);
        check(" { } ", &[]);
        check(r#"{a="b"}"#, &[("a", "b")]);
        check(r#"{ a = "b" ,c='d"', e=`f\`, }"#, &[("a", "b"), ("c", "d\""), ("e", "f\\")]);
        check(
            r#"{a="\\\"\n\t\r\a\b\f\v\x7f\101\u00e9\U0001f600é"}"#,
            &[("a", "\\\"\n\t\r\x07\x08\x0c\x0b\x7fAé😀é")],
        );
        check(r#"{a="\xc3\xa9 \xff"}"#, &[("a", "é \u{fffd}")]);
        check(r#"{a='\''}"#, &[("a", "'")]);
    }

    #[test]
    fn what_are_no_labels_is_refused_with_its_place() {
        for (text, expected) in [
            ("", "a brace is expected, at character 1"),
            ("app", "a brace is expected, at character 1"),
            ("{", "a label's name is expected, at character 2"),
            (r#"{1="b"}"#, "a label's name is expected, at character 2"),
            (r#"{,}"#, "a label's name is expected, at character 2"),
            (r#"{a=b}"#, "a text in quotes is expected, at character 4"),
            (r#"{a="b}"#, "a quote is missing, at character 5"),
            ("{a=`b}", "a quote is missing, at character 5"),
            ("{a=\"b\n\"}", "a quote is missing, at character 7"),
            (r#"{a="b" c="d"}"#, "a comma or the closing brace is expected, at character 8"),
            (r#"{a="b"} x"#, "the end is expected, at character 9"),
            (r#"{a="\q"}"#, "an escape is not known, at character 6"),
            (r#"{a="\'"}"#, "an escape is not known, at character 6"),
            (r#"{a="\x+1"}"#, "an escape is not known, at character 6"),
            (r#"{a="\400"}"#, "an escape is not known"),
            (r#"{a="\ud800"}"#, "an escape is not known"),
            (r#"{a="\xé"}"#, "an escape is not known"),
        ] {
            let error = read_labels(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(read_labels(&"é".repeat(100_000)).expect_err("no labels").len() < 1000);
    }
}
