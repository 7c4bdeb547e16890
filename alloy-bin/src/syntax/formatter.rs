//! Text in the one style. It works on tokens, not on the tree: every token and comment of the input is written
//! again in its order, so formatting can change nothing but white space. Line breaks stay where the author put
//! them, except that a block's braces stand on lines of their own, that a blank line parts a block from its
//! neighbours, and that no second one is kept.

use super::diagnostics::Diagnostics;
use super::lexer::{Comment, Token, TokenKind, lex};
use super::parser::parse;
use super::source::{SourceId, Sources};

/// Formats one source: tabs, aligned `=` and trailing comments, a line end at the end. What has errors is not
/// formatted.
pub fn format(sources: &Sources, source: SourceId) -> Result<String, Diagnostics> {
    let (_, diagnostics) = parse(sources, source);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let lexed = lex(sources, source);
    let pieces = weave(sources.text(source), &lexed.tokens, &lexed.comments);
    let mut lines = Lines::default();
    for index in 0..pieces.len() {
        lines.add(&pieces[index..]);
    }
    lines.align(|line| line.key_width, |line, width| line.key_padding = width);
    lines.align(|line| line.comment.is_some().then(|| line.code_width()), |line, width| line.padding = width);
    Ok(lines.lines.iter().map(Line::render).collect())
}

/// A token, or a comment if it has no kind.
struct Piece<'a> {
    kind: Option<TokenKind>,
    text: &'a str,
    /// Line ends between it and the piece before.
    line_ends: usize,
}

impl Piece<'_> {
    fn is_line_comment(&self) -> bool {
        self.kind.is_none() && self.text.starts_with("//")
    }
}

/// Whether a statement that begins here is a block, comments directly above it included.
fn begins_block(pieces: &[Piece<'_>]) -> bool {
    let comments = pieces.iter().take_while(|piece| piece.kind.is_none()).count();
    let is_apart = pieces.iter().skip(1).take(comments).any(|piece| piece.line_ends > 1);
    let mut kinds = pieces[comments..].iter().filter_map(|piece| piece.kind);
    !is_apart && kinds.next() == Some(TokenKind::Ident) && kinds.next() != Some(TokenKind::Assign)
}

/// Tokens and comments in their common order.
fn weave<'a>(text: &'a str, tokens: &[Token], comments: &[Comment]) -> Vec<Piece<'a>> {
    let visible = |kind| !matches!(kind, TokenKind::Terminator | TokenKind::EndOfFile);
    let mut all: Vec<_> = tokens
        .iter()
        .filter(|token| visible(token.kind))
        .map(|token| (token.span, Some(token.kind)))
        .chain(comments.iter().map(|comment| (comment.span, None)))
        .collect();
    all.sort_by_key(|(span, _)| span.start);
    let mut end = 0;
    all.into_iter()
        .map(|(span, kind)| {
            let line_ends = text[end..span.start].matches('\n').count();
            end = span.end;
            Piece { kind, text: &text[span.start..span.end], line_ends }
        })
        .collect()
}

#[derive(Default)]
struct Line {
    indent: usize,
    /// Nothing but a line end.
    blank: bool,
    code: String,
    /// For `name = ...` in a body or object: how wide the name is; the `=` follows it in `code`.
    key_width: Option<usize>,
    key_padding: usize,
    /// A `//` comment after code.
    comment: Option<String>,
    padding: usize,
    tokens: usize,
    /// Its expression goes on below: such a line is aligned with nothing.
    open: bool,
}

impl Line {
    fn code_width(&self) -> usize {
        self.code.chars().count() + self.key_padding
    }

    fn render(&self) -> String {
        let mut out = "\t".repeat(if self.blank { 0 } else { self.indent });
        match self.key_width {
            Some(width) => {
                let at = self.code.char_indices().nth(width).map_or(self.code.len(), |(at, _)| at);
                out += &self.code[..at];
                out += &" ".repeat(self.key_padding);
                out += &self.code[at..];
            }
            None => out += &self.code,
        }
        if let Some(comment) = &self.comment {
            out += &" ".repeat(self.padding + 1);
            out += comment;
        }
        out.push('\n');
        out
    }
}

/// An open bracket.
struct Bracket {
    is_block: bool,
    /// The index of the line it stands on.
    line: usize,
    /// The indent of the line it stands on: its closing partner returns there.
    indent: usize,
}

#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    brackets: Vec<Bracket>,
    /// The last two tokens.
    before_last: Option<TokenKind>,
    last: Option<TokenKind>,
    after_comment: bool,
    after_block: bool,
}

impl Lines {
    /// Writes the first of the pieces that are left.
    fn add(&mut self, pieces: &[Piece<'_>]) {
        let piece = &pieces[0];
        let closed = piece.kind.filter(|kind| kind.closes()).and_then(|_| self.brackets.pop());
        let breaks = self.break_before(pieces, closed.as_ref());
        let is_trailing = breaks == 0 && piece.is_line_comment() && !self.line().code.is_empty();
        if breaks > 0 {
            self.new_line(closed.as_ref(), breaks);
        } else if !is_trailing && self.space_before(piece, closed.as_ref()) {
            self.line().code.push(' ');
        }

        let is_block = piece.kind == Some(TokenKind::OpenBrace)
            && matches!(self.last, Some(TokenKind::Ident | TokenKind::String));
        if piece.kind == Some(TokenKind::Assign) {
            self.mark_key();
        }
        let line = self.line();
        if is_trailing {
            line.comment = Some(piece.text.to_owned());
        } else {
            line.code += piece.text;
        }
        line.open |= piece.text.contains('\n');
        if let Some(kind) = piece.kind {
            line.tokens += 1;
            let indent = line.indent;
            if kind.opens() {
                self.brackets.push(Bracket { is_block, line: self.lines.len() - 1, indent });
            }
            self.before_last = self.last.replace(kind);
            self.after_block = closed.is_some_and(|bracket| bracket.is_block);
        }
        self.after_comment = piece.kind.is_none();
    }

    /// How many line ends to write before the first of the pieces that are left.
    fn break_before(&self, pieces: &[Piece<'_>], closed: Option<&Bracket>) -> usize {
        let piece = &pieces[0];
        let Some(last) = self.last.filter(|_| !self.lines.is_empty()) else {
            return usize::from(!self.lines.is_empty()) * piece.line_ends.clamp(1, 2);
        };
        let after_open = last.opens() && !self.after_comment;
        if after_open && closed.is_some() {
            return 0;
        }
        let after_block_open = after_open && self.brackets.last().is_some_and(|bracket| bracket.is_block);
        if after_block_open && !(piece.is_line_comment() && piece.line_ends == 0) {
            return 1;
        }
        if closed.is_some_and(|bracket| bracket.is_block) {
            return 1;
        }
        let tokens_only = piece.kind.is_some() && !self.after_comment;
        if tokens_only && (matches!(last, TokenKind::Assign | TokenKind::Dot) || self.last_is_unary()) {
            return 0;
        }
        let is_below_comment =
            self.after_comment && self.lines.last().is_some_and(|line| line.comment.is_none());
        let in_body = self.brackets.last().is_none_or(|bracket| bracket.is_block);
        let begins_statement = in_body && last.ends_operand() && closed.is_none() && !is_below_comment;
        if begins_statement && piece.line_ends > 0 && (self.after_block || begins_block(pieces)) {
            return 2;
        }
        // No blank line at the edges of a bracket.
        piece.line_ends.min(if after_open || closed.is_some() { 1 } else { 2 })
    }

    fn new_line(&mut self, closed: Option<&Bracket>, breaks: usize) {
        let innermost = closed.or(self.brackets.last()).map(|bracket| bracket.line);
        let goes_on = matches!(
            self.last,
            Some(TokenKind::Assign | TokenKind::Dot | TokenKind::Not | TokenKind::Operator(_))
        );
        let is_inside = innermost == Some(self.lines.len().wrapping_sub(1));
        self.line().open |= goes_on || is_inside;
        if breaks > 1 {
            self.lines.push(Line { blank: true, ..Line::default() });
        }
        let inside = self.brackets.last().map_or(0, |bracket| bracket.indent + 1);
        let indent = closed.map_or(inside + usize::from(goes_on), |bracket| bracket.indent);
        self.lines.push(Line { indent, ..Line::default() });
    }

    fn space_before(&self, piece: &Piece<'_>, closed: Option<&Bracket>) -> bool {
        let (Some(last), Some(kind)) = (self.last, piece.kind) else {
            return self.last.is_some() || self.after_comment;
        };
        if self.after_comment {
            return true;
        }
        if closed.is_some_and(|bracket| bracket.is_block) {
            return true;
        }
        let is_suffix = matches!(kind, TokenKind::OpenParen | TokenKind::OpenBracket) && last.ends_operand();
        let glued_left = last.opens() || last == TokenKind::Dot || self.last_is_unary();
        let glued_right = kind.closes() || matches!(kind, TokenKind::Dot | TokenKind::Comma) || is_suffix;
        !glued_left && !glued_right
    }

    fn last_is_unary(&self) -> bool {
        match self.last {
            Some(TokenKind::Not) => true,
            Some(TokenKind::Operator(super::ast::BinaryOperator::Subtract)) => {
                !self.before_last.is_some_and(TokenKind::ends_operand)
            }
            _ => false,
        }
    }

    /// Remembers what stands before an `=` if it is the only token of its line.
    fn mark_key(&mut self) {
        let line = self.line();
        if line.tokens == 1 {
            line.key_width = Some(line.code.trim_end().chars().count());
        }
    }

    fn line(&mut self) -> &mut Line {
        if self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        self.lines.last_mut().expect("one was just added")
    }

    /// Pads what `width` measures to the widest of each run of lines that have it.
    fn align(&mut self, width: impl Fn(&Line) -> Option<usize>, pad: impl Fn(&mut Line, usize)) {
        let measure = |line: &Line| width(line).filter(|_| !line.open);
        for run in self
            .lines
            .chunk_by_mut(|a, b| a.indent == b.indent && measure(a).is_some() && measure(b).is_some())
        {
            let widest = run.iter().filter_map(&measure).max().unwrap_or(0);
            for line in run {
                if let Some(own) = measure(line) {
                    pad(line, widest - own);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        let mut sources = Sources::default();
        let id = sources.add("test.alloy", text);
        format(&sources, id).unwrap_or_else(|diagnostics| diagnostics.render(&sources))
    }

    fn check(text: &str, expected: &str) {
        let once = formatted(text);
        assert_eq!(once, expected, "{text}");
        assert_eq!(formatted(&once), once, "not stable: {text}");
    }

    #[test]
    fn spaces_stand_round_operators_and_nowhere_else() {
        check("a=1+2*-b-(c)", "a = 1 + 2 * -b - (c)\n");
        check("a = ! b&&c ( 1,2 ) [ 0 ] . d", "a = !b && c(1, 2)[0].d\n");
        check("a = [ 1,{ b=2,\"c\"=3 },{ },[ ] ]", "a = [1, {b = 2, \"c\" = 3}, {}, []]\n");
        check("a =\n\n  1", "a = 1\n");
        check("a = 1 +\n2", "a = 1 +\n\t2\n");
        check("\u{feff}a = 1\r\n\r\n\r\nb = 2\r\n", "a = 1\n\nb = 2\n");
        check("", "");
    }

    #[test]
    fn braces_of_blocks_stand_on_their_own_lines() {
        check("a.b  \"c\" { }", "a.b \"c\" { }\n");
        check("a {\n\n}", "a { }\n");
        check("a { b = 1 }", "a {\n\tb = 1\n}\n");
        check("a { b { c = 1 } }", "a {\n\tb {\n\t\tc = 1\n\t}\n}\n");
        check("a { }\n// x\nb { }\nc = 1 // y\nd { }", "a { }\n\n// x\nb { }\n\nc = 1 // y\n\nd { }\n");
        check("a { b = 1\n// x\n\nc { } // y\n}", "a {\n\tb = 1\n\t// x\n\n\tc { } // y\n}\n");
        check("a {\n\n\nb = 1\n\n\n\nc = 2\n\n}", "a {\n\tb = 1\n\n\tc = 2\n}\n");
    }

    #[test]
    fn equal_signs_align_until_a_blank_line_or_a_value_of_several_lines() {
        check("a = 1\nlong = {x = 1}\n\nb = 2", "a    = 1\nlong = {x = 1}\n\nb = 2\n");
        check("a = 1\nlong = [\n1,\n]\nbb = 2\nc = 3", "a = 1\nlong = [\n\t1,\n]\nbb = 2\nc  = 3\n");
        check("o = {\na = 1,\n\"long\" = 2,\n}", "o = {\n\ta      = 1,\n\t\"long\" = 2,\n}\n");
        check("f = g([{\na = 1,\n}])", "f = g([{\n\ta = 1,\n}])\n");
        check("a = `x\ny`\nlong = 1", "a = `x\ny`\nlong = 1\n");
    }

    #[test]
    fn comments_stay_where_they_are_and_align_at_the_ends_of_lines() {
        check(
            "// top\n\n/* b */\na = 1 // x\nlong=22//y",
            "// top\n\n/* b */\na    = 1  // x\nlong = 22 //y\n",
        );
        check("a { // x\nb = 1\n// last\n}", "a { // x\n\tb = 1\n\t// last\n}\n");
        check("a = [ // x\n1, /* y */ 2,\n// z\n]", "a = [ // x\n\t1, /* y */ 2,\n\t// z\n]\n");
        check("a = // x\n1", "a = // x\n\t1\n");
        check("a { /* x */ }", "a {\n\t/* x */\n}\n");
        check("a = 1\n// x\nlong = 2", "a = 1\n// x\nlong = 2\n");
    }

    #[test]
    fn what_has_errors_is_not_formatted() {
        assert!(formatted("a = ").starts_with("Error: test.alloy:1:4: expected an expression"));
    }
}
