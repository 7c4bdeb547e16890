//! Tokens -> tree. Recursive descent for statements, precedence climbing for expressions. After an error it goes on
//! with the next statement, so that one run reports everything; of each line only the first error is kept.

use super::ast::{
    Attribute, BinaryOperator, Block, Expr, ExprKind, Field, File, Ident, Literal, Statement, Suffix,
    UnaryOperator,
};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::lexer::{Token, TokenKind, is_identifier, lex};
use super::literals::{unquote, unquote_raw};
use super::source::{SourceId, Sources, Span};

/// How deep blocks, brackets and signs may nest. People stay below twenty; ten frames of half a kilobyte per level
/// stay far below the two megabytes of a thread's stack.
const DEPTH_MAX: usize = 100;

/// Parses one source. The tree holds what could be understood; use it only if there are no errors.
pub fn parse(sources: &Sources, source: SourceId) -> (File, Diagnostics) {
    let mut parser = Parser::new(sources, source);
    let statements = parser.statements();
    (File { statements }, parser.into_diagnostics())
}

/// Parses one source that is a single expression.
pub fn parse_expression(sources: &Sources, source: SourceId) -> Result<Expr, Diagnostics> {
    let mut parser = Parser::new(sources, source);
    let expression = parser.expression(1);
    if expression.is_ok() {
        parser.take_if(TokenKind::Terminator);
        if parser.kind() != TokenKind::EndOfFile {
            parser.unexpected("the end of the expression");
        }
    }
    let diagnostics = parser.into_diagnostics();
    expression.ok().filter(|_| diagnostics.is_empty()).ok_or(diagnostics)
}

/// An error was reported; the statement is given up.
struct Failed;

type Parsed<T> = Result<T, Failed>;

struct Parser<'a> {
    sources: &'a Sources,
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    diagnostics: Diagnostics,
}

impl<'a> Parser<'a> {
    fn new(sources: &'a Sources, source: SourceId) -> Self {
        let lexed = lex(sources, source);
        Parser {
            sources,
            text: sources.text(source),
            tokens: lexed.tokens,
            at: 0,
            depth: 0,
            diagnostics: lexed.diagnostics,
        }
    }

    fn into_diagnostics(mut self) -> Diagnostics {
        self.diagnostics.keep_first_of_each_line(self.sources);
        self.diagnostics
    }

    /// Everything up to the end of the file or, in a block, its closing brace.
    fn statements(&mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        let depth = self.depth;
        loop {
            match self.kind() {
                TokenKind::EndOfFile => return statements,
                TokenKind::CloseBrace if self.depth > 0 => return statements,
                TokenKind::Terminator => self.at += 1,
                _ => {
                    let start = self.at;
                    match self.statement().and_then(|statement| self.end_of_statement().map(|()| statement)) {
                        Ok(statement) => statements.push(statement),
                        Err(Failed) => {
                            self.depth = depth;
                            self.recover(start);
                        }
                    }
                }
            }
        }
    }

    fn end_of_statement(&mut self) -> Parsed<()> {
        match self.kind() {
            TokenKind::Terminator | TokenKind::EndOfFile => Ok(()),
            TokenKind::CloseBrace if self.depth > 0 => Ok(()),
            _ => Err(self.unexpected("a new line")),
        }
    }

    /// Goes to the end of the statement that began at `start`: to the line end that is not inside brackets opened by
    /// it, or to the brace that closes its block. If brackets are left open it stops at text in the first column,
    /// which is most likely the next block.
    fn recover(&mut self, start: usize) {
        let mut open = Vec::new();
        let mut braces: usize = 0;
        for at in start..self.tokens.len() {
            let kind = self.tokens[at].kind;
            let stop = match kind {
                TokenKind::EndOfFile => true,
                TokenKind::Terminator => open.is_empty(),
                TokenKind::CloseBrace => braces == 0 && self.depth > 0,
                TokenKind::Ident => at > start && self.begins_line(self.tokens[at]),
                _ => false,
            };
            if stop && at >= self.at {
                self.at = at;
                return;
            }
            if kind.opens() {
                braces += usize::from(kind == TokenKind::OpenBrace);
                open.push(kind);
            } else if kind == TokenKind::CloseBrace && braces > 0 {
                braces -= 1;
                while open.pop().is_some_and(|kind| kind != TokenKind::OpenBrace) {}
            } else if kind.closes() {
                open.pop_if(|kind| *kind != TokenKind::OpenBrace);
            }
        }
    }

    fn begins_line(&self, token: Token) -> bool {
        self.text[..token.span.start].ends_with('\n')
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let first = self.ident("a name")?;
        let mut name = vec![first];
        while self.take_if(TokenKind::Dot).is_some() {
            name.push(self.ident("a name")?);
        }
        if self.kind() == TokenKind::Assign {
            let last = &name[name.len() - 1];
            if name.len() > 1 {
                let span = name[0].span.to(last.span);
                return Err(self.fail(span, "attribute names can't contain dots"));
            }
            self.at += 1;
            let value = self.expression(1)?;
            return Ok(Statement::Attribute(Attribute { name: name.remove(0), value }));
        }
        self.block(name).map(Statement::Block)
    }

    fn block(&mut self, name: Vec<Ident>) -> Parsed<Block> {
        let label = self.take_if(TokenKind::String).map(|token| self.label(token));
        if self.kind() == TokenKind::Ident && label.is_none() {
            let token = self.tokens[self.at];
            let hint = format!("did you mean \"{}\"?", self.text_of(token));
            let message = "a block's label is a string in double quotes";
            self.diagnostics.push(Diagnostic::error(token.span, message).with_hint(Some(hint)));
            return Err(Failed);
        }
        if self.kind() != TokenKind::OpenBrace {
            let expected = if label.is_some() { "\"{\"" } else { "\"=\", \"{\" or a block's label" };
            return Err(self.unexpected(expected));
        }
        self.enter()?;
        self.at += 1;
        let statements = self.statements();
        self.depth -= 1;
        let close = self.expect(TokenKind::CloseBrace, "\"}\"")?;
        Ok(Block { span: name[0].span.to(close.span), name, label, statements })
    }

    /// A bad label is reported, but the block is read: its content may have errors of its own.
    fn label(&mut self, token: Token) -> Ident {
        let text = self.string_value(token);
        if !is_identifier(&text) {
            let message = format!("expected block label to be a valid identifier, got {text:?}");
            let hint = "letters, digits and _, not beginning with a digit";
            self.diagnostics.push(Diagnostic::error(token.span, message).with_hint(Some(hint.to_owned())));
        }
        Ident { text, span: token.span }
    }

    /// An expression of operators that bind at least as tightly as `precedence`.
    fn expression(&mut self, precedence: u8) -> Parsed<Expr> {
        self.enter()?;
        let mut left = self.unary()?;
        while let TokenKind::Operator(operator) = self.kind() {
            let bound = operator.precedence();
            if bound < precedence {
                break;
            }
            self.at += 1;
            let right = self.expression(if operator == BinaryOperator::Power { bound } else { bound + 1 })?;
            left = join(left, operator, right);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let operator = match self.kind() {
            TokenKind::Not => UnaryOperator::Not,
            TokenKind::Operator(BinaryOperator::Subtract) => UnaryOperator::Negate,
            _ => return self.primary(),
        };
        let start = self.next().span;
        self.enter()?;
        let operand = Box::new(self.unary()?);
        self.depth -= 1;
        Ok(Expr { span: start.to(operand.span), kind: ExprKind::Unary { operator, operand } })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let operand = self.operand()?;
        let mut suffixes = Vec::new();
        let mut span = operand.span;
        loop {
            let open = self.tokens[self.at].span;
            let (suffix, end) = match self.kind() {
                TokenKind::Dot if matches!(operand.kind, ExprKind::Literal(_)) => {
                    return Err(self.fail(open, "a literal has no fields"));
                }
                TokenKind::Dot => {
                    self.at += 1;
                    let name = self.ident("a field's name")?;
                    let end = name.span;
                    (Suffix::Access(name), end)
                }
                TokenKind::OpenBracket => {
                    self.at += 1;
                    let index = self.expression(1)?;
                    (Suffix::Index(index), self.expect(TokenKind::CloseBracket, "\"]\"")?.span)
                }
                TokenKind::OpenParen => {
                    self.at += 1;
                    let (arguments, end) = self.list(TokenKind::CloseParen, |parser| parser.expression(1))?;
                    (Suffix::Call { arguments, span: open.to(end) }, end)
                }
                _ => break,
            };
            span = span.to(end);
            suffixes.push(suffix);
        }
        if suffixes.is_empty() {
            return Ok(operand);
        }
        Ok(Expr { kind: ExprKind::Chain { operand: Box::new(operand), suffixes }, span })
    }

    fn operand(&mut self) -> Parsed<Expr> {
        let token = self.tokens[self.at];
        let text = self.text_of(token);
        let mut span = token.span;
        self.at += 1;
        let kind = match token.kind {
            TokenKind::Ident => {
                let text = text.to_owned();
                if self.kind() == TokenKind::OpenBrace {
                    return Err(self.fail(span, "can't use a block as an expression"));
                }
                ExprKind::Ident(text)
            }
            TokenKind::Keyword => ExprKind::Literal(match text {
                "null" => Literal::Null,
                keyword => Literal::Bool(keyword == "true"),
            }),
            TokenKind::Integer | TokenKind::Float => {
                let number = number(text);
                if matches!(number, Literal::Float(value) if value.is_infinite()) {
                    self.diagnostics.error(span, "number is out of range");
                }
                ExprKind::Literal(number)
            }
            TokenKind::String => ExprKind::Literal(Literal::String(self.string_value(token))),
            TokenKind::RawString => ExprKind::Literal(Literal::String(unquote_raw(text))),
            TokenKind::Illegal => ExprKind::Literal(Literal::Null),
            TokenKind::OpenParen => {
                let inner = self.expression(1)?;
                span = span.to(self.expect(TokenKind::CloseParen, "\")\"")?.span);
                ExprKind::Parenthesized(Box::new(inner))
            }
            TokenKind::OpenBracket => {
                let (elements, end) = self.list(TokenKind::CloseBracket, |parser| parser.expression(1))?;
                span = span.to(end);
                ExprKind::Array(elements)
            }
            TokenKind::OpenBrace => {
                let (fields, end) = self.list(TokenKind::CloseBrace, Parser::field)?;
                span = span.to(end);
                ExprKind::Object(fields)
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected("an expression"));
            }
        };
        Ok(Expr { kind, span })
    }

    /// What is separated by commas up to `close`; also gives the span of `close`. A line end where a comma belongs
    /// is reported and read as one, it is the most frequent slip.
    fn list<T>(&mut self, close: TokenKind, item: fn(&mut Self) -> Parsed<T>) -> Parsed<(Vec<T>, Span)> {
        let mut items = Vec::new();
        while self.kind() != close {
            items.push(item(self)?);
            match self.kind() {
                TokenKind::Comma => self.at += 1,
                TokenKind::Terminator if self.tokens[self.at + 1].kind != TokenKind::EndOfFile => {
                    let before = self.tokens[self.at - 1].span;
                    let hint = "the last line of a list ends with a comma, too, if the bracket is below it";
                    self.diagnostics.push(
                        Diagnostic::error(before, "missing ',' at the end of the line")
                            .with_hint(Some(hint.to_owned())),
                    );
                    self.at += 1;
                }
                kind if kind == close => {}
                _ => return Err(self.unexpected("',' or the closing bracket")),
            }
        }
        Ok((items, self.next().span))
    }

    fn field(&mut self) -> Parsed<Field> {
        let key = match self.take_if(TokenKind::String) {
            Some(token) => Ident { text: self.string_value(token), span: token.span },
            None => self.ident("a field's name")?,
        };
        self.expect(TokenKind::Assign, "\"=\"")?;
        Ok(Field { key, value: self.expression(1)? })
    }

    fn string_value(&mut self, token: Token) -> String {
        unquote(self.text_of(token)).unwrap_or_else(|bad| {
            let start = token.span.start;
            let span = Span { start: start + bad.range.start, end: start + bad.range.end, ..token.span };
            self.diagnostics.error(span, bad.message);
            String::new()
        })
    }

    fn ident(&mut self, expected: &str) -> Parsed<Ident> {
        let token = self.expect(TokenKind::Ident, expected)?;
        Ok(Ident { text: self.text_of(token).to_owned(), span: token.span })
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.depth == DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(self.fail(self.tokens[self.at].span, message));
        }
        self.depth += 1;
        Ok(())
    }

    fn expect(&mut self, kind: TokenKind, expected: &str) -> Parsed<Token> {
        self.take_if(kind).ok_or_else(|| self.unexpected(expected))
    }

    fn take_if(&mut self, kind: TokenKind) -> Option<Token> {
        (self.kind() == kind).then(|| self.next())
    }

    fn kind(&self) -> TokenKind {
        self.tokens[self.at].kind
    }

    /// NOTE: never called at the end of the file, so `at` stays inside the tokens.
    fn next(&mut self) -> Token {
        self.at += 1;
        self.tokens[self.at - 1]
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.span.start..token.span.end]
    }

    fn unexpected(&mut self, expected: &str) -> Failed {
        let mut token = self.tokens[self.at];
        if token.kind == TokenKind::EndOfFile && self.at > 0 {
            // Something to see is better than the empty line at the end.
            token.span.start = self.tokens[self.at - 1].span.end;
            token.span.end = token.span.start;
        }
        let got = match token.kind {
            TokenKind::EndOfFile => "the end of the file".to_owned(),
            TokenKind::Terminator => "the end of the line".to_owned(),
            TokenKind::Ident | TokenKind::Keyword => self.text_of(token).to_owned(),
            TokenKind::Integer | TokenKind::Float => "a number".to_owned(),
            TokenKind::String | TokenKind::RawString => "a string".to_owned(),
            _ => format!("{:?}", self.text_of(token)),
        };
        self.fail(token.span, format!("expected {expected}, got {got}"))
    }

    fn fail(&mut self, span: Span, message: impl Into<String>) -> Failed {
        self.diagnostics.error(span, message);
        Failed
    }
}

/// Joins operands; those of one precedence in a row become one list. Powers are grouped from the right and stay
/// pairs.
fn join(left: Expr, operator: BinaryOperator, right: Expr) -> Expr {
    let span = left.span.to(right.span);
    let kind = match left.kind {
        ExprKind::Binary { first, mut rest } if rest[0].0.precedence() == operator.precedence() => {
            rest.push((operator, right));
            ExprKind::Binary { first, rest }
        }
        kind => ExprKind::Binary {
            first: Box::new(Expr { kind, span: left.span }),
            rest: vec![(operator, right)],
        },
    };
    Expr { kind, span }
}

/// An integer as long as it fits, else a float. What the lexer has refused counts as zero.
fn number(text: &str) -> Literal {
    match text.parse::<u64>() {
        Ok(integer) => Literal::Integer(integer),
        Err(_) => Literal::Float(text.parse().unwrap_or(0.0)),
    }
}
