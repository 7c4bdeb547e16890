//! LogQL as `stage.match` has it: `{app="nginx", env=~"prod|dev"} |= "error" !~ "time(out)?"`. Stream matchers and line filters;
//! LogQL's parsers, formatters and label filters are refused.

use memchr::memmem;
use regex::Regex;

use super::line::text;
use crate::relabel::go_regex;
use crate::telemetry::Labels;

/// A compiled selector.
#[derive(Debug, Clone)]
pub struct Selector {
    matchers: Vec<Matcher>,
    filters: Vec<Filter>,
}

#[derive(Debug, Clone)]
struct Matcher {
    name: String,
    wanted: Wanted,
    negated: bool,
}

#[derive(Debug, Clone)]
enum Wanted {
    Text(String),
    Regex(Regex),
}

/// One of these, or none of them.
#[derive(Debug, Clone)]
struct Filter {
    any: Vec<Part>,
    negated: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(Box<memmem::Finder<'static>>),
    Regex(Regex),
}

impl Selector {
    /// Compiles a selector. The error is for people.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let selector = parser.selector().map_err(|reason| {
            let at = text.len() - parser.rest.len() + 1;
            format!("{text:?} is no selector: {reason}, at character {at}")
        })?;
        if selector.matchers.iter().all(|matcher| matcher.matches("")) {
            return Err(format!("{text:?} needs at least one matcher that does not match an absent label"));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, labels: &Labels, line: &[u8]) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
            && self.filters.iter().all(|filter| filter.matches(line))
    }
}

impl Matcher {
    fn matches(&self, value: &str) -> bool {
        let is_it = match &self.wanted {
            Wanted::Text(wanted) => wanted == value,
            Wanted::Regex(regex) => regex.is_match(value),
        };
        is_it != self.negated
    }
}

impl Filter {
    fn matches(&self, line: &[u8]) -> bool {
        let is_in = |part: &Part| match part {
            Part::Text(finder) => finder.find(line).is_some(),
            Part::Regex(regex) => regex.is_match(&text(line)),
        };
        self.any.iter().any(is_in) != self.negated
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<Selector, String> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.take("}") {
            if !matchers.is_empty() {
                self.expect(",")?;
                // A comma may come last.
                if self.take("}") {
                    break;
                }
            }
            matchers.push(self.matcher()?);
        }
        let mut filters = Vec::new();
        while !self.at_end() {
            filters.push(self.filter()?);
        }
        Ok(Selector { matchers, filters })
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        self.blanks();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("a label's name is expected".to_owned());
        }
        self.rest = &self.rest[end..];
        let operators = [("=~", true, false), ("!~", true, true), ("!=", false, true), ("=", false, false)];
        let found = operators.into_iter().find(|(operator, ..)| self.take(operator));
        let Some((_, is_regex, negated)) = found else {
            return Err("one of =, !=, =~, !~ is expected".to_owned());
        };
        let value = self.string()?;
        let wanted =
            if is_regex { Wanted::Regex(go_regex(&format!("^(?s:{value})$"))?) } else { Wanted::Text(value) };
        Ok(Matcher { name, wanted, negated })
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let operators = [("|=", false, false), ("|~", true, false), ("!=", false, true), ("!~", true, true)];
        let found = operators.into_iter().find(|(operator, ..)| self.take(operator));
        let Some((_, is_regex, negated)) = found else {
            return Err(
                "only line filters are supported here (|= != |~ !~); extract with stages instead".to_owned()
            );
        };
        let mut any = vec![self.part(is_regex)?];
        while self.take("or") {
            any.push(self.part(is_regex)?);
        }
        Ok(Filter { any, negated })
    }

    fn part(&mut self, is_regex: bool) -> Result<Part, String> {
        let wanted = self.string()?;
        Ok(if is_regex {
            Part::Regex(go_regex(&wanted)?)
        } else {
            Part::Text(Box::new(memmem::Finder::new(wanted.as_bytes()).into_owned()))
        })
    }

    /// In double quotes with Go's escapes, or in backquotes as it stands.
    fn string(&mut self) -> Result<String, String> {
        if self.take("`") {
            let end = self.rest.find('`').ok_or("a backquote is missing")?;
            let text = self.rest[..end].to_owned();
            self.rest = &self.rest[end + 1..];
            return Ok(text);
        }
        self.expect("\"")?;
        let mut value = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(value);
                }
                '\n' => return Err("a quote is missing".to_owned()),
                '\\' => {
                    let escaped = characters.next().map_or('\0', |(_, escaped)| escaped);
                    let mut code = |digits: usize| {
                        let text: String = characters.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        let is_hex = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
                        is_hex.then(|| u32::from_str_radix(&text, 16).ok()).flatten().and_then(char::from_u32)
                    };
                    let character = match escaped {
                        'n' => Some('\n'),
                        't' => Some('\t'),
                        'r' => Some('\r'),
                        'a' => Some('\x07'),
                        'b' => Some('\x08'),
                        'f' => Some('\x0c'),
                        'v' => Some('\x0b'),
                        '"' | '\\' => Some(escaped),
                        'x' => code(2).filter(char::is_ascii),
                        'u' => code(4),
                        'U' => code(8),
                        _ => None,
                    };
                    value.push(character.ok_or("an escape is not known")?);
                }
                other => value.push(other),
            }
        }
        Err("a quote is missing".to_owned())
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("{token:?} is expected")) }
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn at_end(&mut self) -> bool {
        self.blanks();
        self.rest.is_empty()
    }

    /// Blanks, and comments to the end of the line.
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
        while self.rest.starts_with('#') {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = self.rest[end..].trim_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_lines_are_selected_as_loki_selects_them() {
        let check = |selector: &str, line: &str, expected: bool| {
            let labels = Labels::new([("app", "nginx"), ("env", "prod")]);
            let selector = Selector::new(selector).unwrap();
            assert_eq!(selector.matches(&labels, line.as_bytes()), expected, "{selector:?} {line}");
        };
        check(r#"{app="nginx"}"#, "", true);
        check(r#"{app="nginx", env!="dev",}"#, "", true);
        check(r#"{app=~"ngin"}"#, "", false);
        check(r#"{app=~"ngin.*",none=""}"#, "", true);
        check(r#"{app="nginx",env!~"p.*"}"#, "", false);
        check(r#"{app="nginx"} |= "err" != `x"y` "#, "an error", true);
        check(r#"{app="nginx"} |= "err" != "an""#, "an error", false);
        check(r#"{app="nginx"} |~ "e(r+)o" !~ "\\d""#, "an error", true);
        check(r#"{app="nginx"} |= "x" or "err""#, "an error", true);
        check(r#"{app="nginx"} != "x" or "err""#, "an error", false);
        check("{app=\"nginx\"} # all\n |= \"\\u0065rr\"", "an error", true);
    }

    #[test]
    fn what_is_wrong_or_not_supported_is_said() {
        for (text, expected) in [
            ("", "\"{\" is expected, at character 1"),
            ("{}", "needs at least one matcher"),
            (r#"{a=~".*"}"#, "needs at least one matcher"),
            (r#"{a="b""#, "\",\" is expected"),
            (r#"{a "b"}"#, "one of =, !=, =~, !~ is expected"),
            (r#"{a="b"} | json"#, "only line filters are supported here"),
            (r#"{a="b"} |= "x"#, "a quote is missing"),
            (r#"{a=~"("}"#, "not a regular expression"),
            (r#"{a="\q"}"#, "an escape is not known"),
        ] {
            let error = Selector::new(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
