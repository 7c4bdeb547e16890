//! What is shown of a source. In messages, its text but for the values of attributes that sound like secrets, and passwords in
//! URLs; in support bundles, its shape alone.

use std::ops::Range;

use super::lexer::{TokenKind, lex};
use super::source::{SourceId, Sources};

/// Parts of names whose values nobody should see in a log. What such a name's value has in a file, or where it is
/// fetched from, is no secret.
const SECRET_NAMES: [&str; 11] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "api_key",
    "api-key",
    "key_pem",
    "private_key",
];
const PUBLIC_ENDS: [&str; 5] = ["_file", "_path", "_url", "_type", "_name"];

/// The text with stars for the bytes of string literals that are assigned to such names. Literals in calls stay:
/// `sys.env("NAME")`.
pub(super) fn without_secrets(sources: &Sources, source: SourceId) -> String {
    let text = sources.text(source);
    let tokens = lex(sources, source).tokens;
    let mut shown = text.as_bytes().to_vec();
    let (mut is_secret, mut calls) = (false, 0_usize);
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Assign => {
                let name = index.checked_sub(1).map(|before| tokens[before].span);
                is_secret = name.is_some_and(|name| sounds_secret(&text[name.start..name.end]));
            }
            TokenKind::Terminator => (is_secret, calls) = (false, 0),
            TokenKind::OpenParen => calls += 1,
            TokenKind::CloseParen => calls = calls.saturating_sub(1),
            TokenKind::String | TokenKind::RawString if is_secret && calls == 0 => {
                let content = token.span.start + 1..token.span.end;
                let quoted = matches!(shown[content.end - 1], b'"' | b'`' | b'\'') && !content.is_empty();
                let content = content.start..content.end - usize::from(quoted);
                shown[content].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
            }
            TokenKind::String | TokenKind::RawString => {
                let password = password_in_url(&text[token.span.start..token.span.end]).unwrap_or_default();
                shown[token.span.start..][password].fill(b'*');
            }
            _ => {}
        }
    }
    String::from_utf8(shown).expect("whole characters became stars")
}

/// The text without comments, and with dots for the content of string literals: they may be anything. Labels of blocks stay.
fn outline(sources: &Sources, source: SourceId) -> String {
    let text = sources.text(source);
    let lexed = lex(sources, source);
    let is_label = |index: usize| {
        let kind = |index: Option<usize>| Some(lexed.tokens.get(index?)?.kind);
        kind(index.checked_sub(1)) == Some(TokenKind::Ident)
            && kind(Some(index + 1)) == Some(TokenKind::OpenBrace)
    };
    let tokens = lexed.tokens.iter().enumerate();
    // What is no token of the language may be the rest of a text.
    let hidden = [TokenKind::String, TokenKind::RawString, TokenKind::Illegal];
    let texts = tokens.filter(|(index, token)| hidden.contains(&token.kind) && !is_label(*index));
    let mut cuts: Vec<_> = texts.map(|(_, token)| (token.span, "\"...\"")).collect();
    cuts.extend(lexed.comments.iter().map(|comment| (comment.span, "")));
    cuts.sort_by_key(|(span, _)| span.start);
    let (mut shown, mut end) = (String::new(), 0);
    for (span, instead) in cuts {
        shown.push_str(&text[end..span.start]);
        shown.push_str(instead);
        end = span.end;
    }
    shown + &text[end..]
}

impl Sources {
    /// The texts without comments and without what stands in their string literals, each with the name of its file.
    pub fn outlines(&self) -> Vec<(String, String)> {
        let outline = |(index, (name, id)): (usize, (&str, SourceId))| {
            // Who imports it may have a password in the address; the folders are nobody's business.
            let name =
                name.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            (format!("{index}-{name}"), outline(self, id))
        };
        self.all().enumerate().map(outline).collect()
    }
}

/// Where the password is in `"https://me:password@host/"`.
fn password_in_url(text: &str) -> Option<Range<usize>> {
    let host = text.find("://")? + 3;
    let end = text[host..].find(['/', '?', '#']).map_or(text.len(), |length| host + length);
    let at = host + text[host..end].rfind('@')?;
    Some(host + text[host..at].find(':')? + 1..at)
}

fn sounds_secret(name: &str) -> bool {
    let name = name.trim_matches('"').to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) && !PUBLIC_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut sources = Sources::default();
        let id = sources.add("test.alloy", text);
        assert_eq!(without_secrets(&sources, id), expected, "{text}");
    }

    #[test]
    fn an_outline_has_no_text_but_labels() {
        let mut sources = Sources::default();
        let text = "// never\na.b \"label\" {\n\tc = [\"never\", `ne\nver`, 1] /* never */\n\td = f({\"never\" = \"never\"}[\"never\"])\n}\ne = 'never'\nf = \"never\n";
        sources.add("https://me:never@host/a/b.alloy?never", text);
        let expected = "\na.b \"label\" {\n\tc = [\"...\", \"...\", 1] \n\td = f({\"...\" = \"...\"}[\"...\"])\n}\ne = \"...\"\nf = \"...\"\n";
        assert_eq!(sources.outlines(), [("0-b.alloy".to_owned(), expected.to_owned())]);
    }

    #[test]
    fn values_of_secret_names_are_stars() {
        check("password = \"hunter2\"", "password = \"*******\"");
        check("a = 1\nbearer_token=\"x\" // y", "a = 1\nbearer_token=\"*\" // y");
        check(
            "headers = {\"Authorization\" = [\"Bearer x\", \"y\"], a = \"b\"}",
            "headers = {\"Authorization\" = [\"********\", \"*\"], a = \"b\"}",
        );
        check("key_pem = `a\nb`\nurl = \"x\"", "key_pem = `*\n*`\nurl = \"x\"");
        check(
            "secret = \"p\u{e4}\" + sys.env(\"NAME\") + \"z\"",
            "secret = \"***\" + sys.env(\"NAME\") + \"*\"",
        );
        check("password_file = \"/x\"\ntoken_url = \"/y\"", "password_file = \"/x\"\ntoken_url = \"/y\"");
        check("password = \"open\nb = \"c\"", "password = \"****\nb = \"c\"");
        check("password = \"", "password = \"");
        check("password = \"\"", "password = \"\"");
        check("url = f(\"http://me:a:b@c@h/d:e@f\")", "url = f(\"http://me:*****@h/d:e@f\")");
        check("url = \"http://me@h:1/\" // a:b@c", "url = \"http://me@h:1/\" // a:b@c");
    }
}
