//! Text -> tokens and comments. Line ends that close a statement become [`TokenKind::Terminator`]: those after a
//! name, a literal or a closing bracket, as in Go. Comments are kept apart, the formatter weaves them in again.

use super::ast::BinaryOperator;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::source::{SourceId, Sources, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Ident,
    /// `null`, `true`, `false`.
    Keyword,
    Integer,
    Float,
    /// Also one that is not terminated, or stands in single quotes: that was reported here.
    String,
    RawString,
    /// A character the language does not have, reported here. It stands for an operand, so that the parser adds
    /// nothing to that.
    Illegal,
    Assign,
    Dot,
    Comma,
    Not,
    /// `-` is among them even where it is a sign.
    Operator(BinaryOperator),
    OpenParen,
    CloseParen,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    Terminator,
    EndOfFile,
}

impl TokenKind {
    /// Whether an operand can end here, so that a line end closes the statement and `(`, `[` are suffixes.
    pub(super) fn ends_operand(self) -> bool {
        use TokenKind::*;
        matches!(
            self,
            Ident
                | Keyword
                | Integer
                | Float
                | String
                | RawString
                | Illegal
                | CloseParen
                | CloseBracket
                | CloseBrace
        )
    }

    pub(super) fn opens(self) -> bool {
        matches!(self, TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace)
    }

    pub(super) fn closes(self) -> bool {
        matches!(self, TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

/// `//` to the end of the line, or `/* */`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comment {
    pub(super) span: Span,
}

pub(super) struct Lexed {
    /// Ends with exactly one `EndOfFile`.
    pub(super) tokens: Vec<Token>,
    pub(super) comments: Vec<Comment>,
    pub(super) diagnostics: Diagnostics,
}

pub(super) fn lex(sources: &Sources, source: SourceId) -> Lexed {
    let text = sources.text(source);
    let mut lexer = Lexer {
        text,
        source,
        // A byte order mark is allowed as the first character only.
        at: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
        out: Lexed { tokens: Vec::new(), comments: Vec::new(), diagnostics: Diagnostics::default() },
    };
    while lexer.step() {}
    lexer.out
}

struct Lexer<'a> {
    text: &'a str,
    source: SourceId,
    at: usize,
    out: Lexed,
}

impl Lexer<'_> {
    /// Takes one token or one piece of white space; false after the end of the file.
    fn step(&mut self) -> bool {
        let start = self.at;
        let Some(first) = self.peek() else {
            self.terminate_statement();
            self.token(TokenKind::EndOfFile, start);
            return false;
        };
        match first {
            '\n' => {
                self.terminate_statement();
                self.at += 1;
            }
            ' ' | '\t' | '\r' => self.at += 1,
            '/' if self.rest().starts_with("//") || self.rest().starts_with("/*") => self.comment(),
            '"' => self.string(),
            '`' => self.raw_string(),
            '\'' => self.single_quoted(),
            '0'..='9' => self.number(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            _ if is_ident_start(first) => self.ident(),
            _ => self.punctuation(first),
        }
        true
    }

    fn comment(&mut self) {
        let start = self.at;
        if self.rest().starts_with("//") {
            self.take_while(|c| c != '\n');
        } else {
            match self.rest().find("*/") {
                Some(length) => self.at += length + 2,
                None => {
                    self.at = self.text.len();
                    let opening = Span { end: start + 2, ..self.span(start) };
                    self.out.diagnostics.error(opening, "block comment not terminated");
                }
            }
            // A comment over several lines ends a statement like the line end it contains.
            if self.text[start..self.at].contains('\n') {
                let end = std::mem::replace(&mut self.at, start);
                self.terminate_statement();
                self.at = end;
            }
        }
        let text = self.text[start..self.at].trim_end();
        let span = Span { end: start + text.len(), ..self.span(start) };
        self.out.comments.push(Comment { span });
    }

    fn string(&mut self) {
        let start = self.at;
        self.at += 1;
        loop {
            self.take_while(|c| !matches!(c, '"' | '\\' | '\n'));
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    break;
                }
                // The escape's character is skipped unseen, it may be a quote; but a line end ends the string.
                Some('\\') => {
                    self.at += 1;
                    self.at += self.peek().filter(|c| *c != '\n').map_or(0, char::len_utf8);
                }
                _ => {
                    self.out.diagnostics.error(self.span(start), "string literal not terminated");
                    break;
                }
            }
        }
        self.token(TokenKind::String, start);
    }

    fn raw_string(&mut self) {
        let start = self.at;
        match self.rest()[1..].find('`') {
            Some(length) => self.at += length + 2,
            None => {
                self.at = self.text.len();
                let opening = Span { end: start + 1, ..self.span(start) };
                self.out.diagnostics.error(opening, "raw string literal not terminated");
            }
        }
        self.token(TokenKind::RawString, start);
    }

    fn single_quoted(&mut self) {
        let start = self.at;
        self.at += 1;
        self.take_while(|c| !matches!(c, '\'' | '\n'));
        if self.peek() == Some('\'') {
            self.at += 1;
        }
        let diagnostic =
            Diagnostic::error(self.span(start), "illegal single-quoted string; use double quotes");
        self.out.diagnostics.push(diagnostic);
        self.token(TokenKind::String, start);
    }

    fn number(&mut self) {
        let start = self.at;
        let mut kind = TokenKind::Integer;
        self.take_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            kind = TokenKind::Float;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let exponent = self.rest().strip_prefix(['e', 'E']);
        let digits = exponent.map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if let Some(digits) = digits.filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit())) {
            kind = TokenKind::Float;
            self.at = self.text.len() - digits.len();
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.peek().is_some_and(is_ident_continue) {
            self.take_while(is_ident_continue);
            let text = &self.text[start..self.at];
            let hint = format!("durations and sizes are strings: \"{text}\"");
            self.out.diagnostics.push(
                Diagnostic::error(self.span(start), format!("invalid number {text}")).with_hint(Some(hint)),
            );
        }
        self.token(kind, start);
    }

    fn ident(&mut self) {
        let start = self.at;
        self.take_while(is_ident_continue);
        let keyword = matches!(&self.text[start..self.at], "null" | "true" | "false");
        self.token(if keyword { TokenKind::Keyword } else { TokenKind::Ident }, start);
    }

    fn punctuation(&mut self, first: char) {
        use BinaryOperator::*;
        use TokenKind::*;
        const TABLE: &[(&str, TokenKind)] = &[
            ("||", Operator(Or)),
            ("&&", Operator(And)),
            ("==", Operator(Equal)),
            ("!=", Operator(NotEqual)),
            ("<=", Operator(LessOrEqual)),
            (">=", Operator(GreaterOrEqual)),
            ("<", Operator(Less)),
            (">", Operator(Greater)),
            ("+", Operator(Add)),
            ("-", Operator(Subtract)),
            ("*", Operator(Multiply)),
            ("/", Operator(Divide)),
            ("%", Operator(Modulo)),
            ("^", Operator(Power)),
            ("=", Assign),
            ("!", Not),
            (".", Dot),
            (",", Comma),
            ("(", OpenParen),
            (")", CloseParen),
            ("[", OpenBracket),
            ("]", CloseBracket),
            ("{", OpenBrace),
            ("}", CloseBrace),
        ];
        let start = self.at;
        match TABLE.iter().find(|(symbol, _)| self.rest().starts_with(symbol)) {
            Some((symbol, kind)) => {
                self.at += symbol.len();
                self.token(*kind, start);
            }
            None => {
                self.at += first.len_utf8();
                let message = format!("illegal character {first:?} (U+{:04X})", u32::from(first));
                self.out.diagnostics.error(self.span(start), message);
                self.token(Illegal, start);
            }
        }
    }

    fn terminate_statement(&mut self) {
        if self.out.tokens.last().is_some_and(|token| token.kind.ends_operand()) {
            let span = Span { source: self.source, start: self.at, end: self.at };
            self.out.tokens.push(Token { kind: TokenKind::Terminator, span });
        }
    }

    fn token(&mut self, kind: TokenKind, start: usize) {
        self.out.tokens.push(Token { kind, span: self.span(start) });
    }

    fn span(&self, start: usize) -> Span {
        Span { source: self.source, start, end: self.at }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !keep(c)).unwrap_or(rest.len());
    }
}

fn is_ident_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_ident_continue(c: char) -> bool {
    is_ident_start(c) || c.is_numeric()
}

/// Whether a label, or an object's key in print, needs no quotes.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(is_ident_start) && text.chars().all(is_ident_continue)
}
