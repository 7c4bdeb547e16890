//! Text in the one style, which is that of Alloy's own formatter. It works on tokens, not on the tree: every token and
//! comment of the input is written again in its order, but for a comma before a closing bracket on the same line. So
//! formatting changes no meaning. Line breaks between statements and the elements of a list stay where the author put
//! them; a block's braces stand on lines of their own, a blank line stands before a block, and no second one is kept.

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
    lines.align(Line::code_width, |line, width| line.padding = width);
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

/// Whether a statement that begins here is a block.
fn begins_block(pieces: &[Piece<'_>]) -> bool {
    let mut kinds = pieces.iter().filter_map(|piece| piece.kind);
    kinds.next() == Some(TokenKind::Ident) && kinds.next() != Some(TokenKind::Assign)
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
    let mut pieces: Vec<Piece<'a>> = Vec::with_capacity(all.len());
    for (span, kind) in all {
        let line_ends = text[end..span.start].matches('\n').count();
        end = span.end;
        let closes_here = line_ends == 0 && kind.is_some_and(TokenKind::closes);
        let comma = pieces.pop_if(|last| closes_here && last.kind == Some(TokenKind::Comma));
        // The comma may have stood on a line of its own.
        let line_ends = line_ends + comma.map_or(0, |comma| comma.line_ends);
        pieces.push(Piece { kind, text: &text[span.start..span.end], line_ends });
    }
    pieces
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
    /// An expression of several lines begins or ends here: what is below is not aligned with what is above.
    ends_run: bool,
    /// An element of an array or an argument: Alloy does not align the comments of those.
    is_element: bool,
}

impl Line {
    /// Where a comment that is aligned with others would begin.
    fn code_width(&self) -> Option<usize> {
        let is_aligned = self.comment.is_some() && !self.is_element && !self.code.contains('\n');
        is_aligned.then(|| self.code.chars().count() + self.key_padding)
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

#[derive(Clone, Copy, PartialEq)]
enum BracketKind {
    Block,
    Object,
    /// An array, or a call's arguments.
    List,
    /// Parentheses or an index: no line ends in it, unless there is a comment.
    Group,
}

/// An open bracket.
struct Bracket {
    kind: BracketKind,
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

        if piece.kind == Some(TokenKind::Assign) {
            self.mark_key();
        }
        let line = self.line();
        if is_trailing {
            line.comment = Some(piece.text.to_owned());
        } else {
            line.code += piece.text;
        }
        line.ends_run |= piece.text.contains('\n');
        if let Some(kind) = piece.kind {
            line.tokens += 1;
            let indent = line.indent;
            let line = self.lines.len() - 1;
            if kind.opens() {
                self.brackets.push(Bracket { kind: self.bracket(kind), line, indent });
            } else if closed.is_some_and(|bracket| bracket.line < line) {
                self.line().ends_run = true;
            }
            self.before_last = self.last.replace(kind);
        }
        self.after_comment = piece.kind.is_none();
    }

    fn bracket(&self, opening: TokenKind) -> BracketKind {
        let after_operand = self.last.is_some_and(TokenKind::ends_operand);
        match opening {
            TokenKind::OpenBrace if after_operand => BracketKind::Block,
            TokenKind::OpenBrace => BracketKind::Object,
            TokenKind::OpenParen if after_operand => BracketKind::List,
            TokenKind::OpenBracket if !after_operand => BracketKind::List,
            _ => BracketKind::Group,
        }
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
        let inside = closed.or(self.brackets.last()).map_or(BracketKind::Block, |bracket| bracket.kind);
        let after_block_open = after_open && inside == BracketKind::Block;
        if after_block_open && !(piece.is_line_comment() && piece.line_ends == 0) {
            return 1;
        }
        if closed.is_some() && inside == BracketKind::Block {
            return 1;
        }
        if piece.kind.is_none() || self.after_comment {
            return piece.line_ends.min(2);
        }
        let goes_on =
            matches!(last, TokenKind::Assign | TokenKind::Dot | TokenKind::Not | TokenKind::Operator(_));
        match inside {
            _ if goes_on => 0,
            BracketKind::Group => 0,
            BracketKind::Object | BracketKind::List => piece.line_ends.min(1),
            BracketKind::Block if piece.line_ends > 0 && begins_block(pieces) => 2,
            BracketKind::Block => piece.line_ends.min(2),
        }
    }

    fn new_line(&mut self, closed: Option<&Bracket>, breaks: usize) {
        let innermost = closed.or(self.brackets.last()).map(|bracket| bracket.line);
        let goes_on = matches!(
            self.last,
            Some(TokenKind::Assign | TokenKind::Dot | TokenKind::Not | TokenKind::Operator(_))
        );
        let is_inside = innermost == Some(self.lines.len().wrapping_sub(1));
        self.line().ends_run |= goes_on || is_inside;
        if breaks > 1 {
            self.lines.push(Line { blank: true, ..Line::default() });
        }
        let inside = self.brackets.last().map_or(0, |bracket| bracket.indent + 1);
        let indent = closed.map_or(inside + usize::from(goes_on), |bracket| bracket.indent);
        let is_element = self.brackets.last().is_some_and(|bracket| bracket.kind == BracketKind::List);
        self.lines.push(Line { indent, is_element, ..Line::default() });
    }

    fn space_before(&self, piece: &Piece<'_>, closed: Option<&Bracket>) -> bool {
        let (Some(last), Some(kind)) = (self.last, piece.kind) else {
            return self.last.is_some() || self.after_comment;
        };
        if self.after_comment {
            return !kind.closes();
        }
        if closed.is_some_and(|bracket| bracket.kind == BracketKind::Block) {
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
        for run in self.lines.chunk_by_mut(|a, b| {
            a.indent == b.indent && !a.ends_run && width(a).is_some() && width(b).is_some()
        }) {
            let widest = run.iter().filter_map(&width).max().unwrap_or(0);
            for line in run {
                if let Some(own) = width(line) {
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
        check("\u{feff}a = 1\r\n\r\n\r\nb = 2\r\n", "a = 1\n\nb = 2\n");
        check("", "");
    }

    #[test]
    fn lines_break_between_elements_and_nowhere_else() {
        check("a =\n\n  1", "a = 1\n");
        check("a = 1 +\n2", "a = 1 + 2\n");
        check("a = (\n1 +\n2)", "a = (1 + 2)\n");
        check("a = b[\n1]", "a = b[1]\n");
        check("a = [1, 2,]", "a = [1, 2]\n");
        check("a = f(1, {b = 2,},)", "a = f(1, {b = 2})\n");
        check("a = [1, /* x */ ]", "a = [1, /* x */]\n");
        check("a = [\n\n1,\n\n2,\n\n]", "a = [\n\t1,\n\t2,\n]\n");
        check("a = f(1,\n2, 3,\n4)", "a = f(1,\n\t2, 3,\n\t4)\n");
        check("a = [\n\n// x\n\n1,\n]", "a = [\n\n\t// x\n\n\t1,\n]\n");
    }

    #[test]
    fn braces_of_blocks_stand_on_their_own_lines() {
        check("a.b  \"c\" { }", "a.b \"c\" { }\n");
        check("a {\n\n}", "a { }\n");
        check("a { b = 1 }", "a {\n\tb = 1\n}\n");
        check("a { b { c = 1 } }", "a {\n\tb {\n\t\tc = 1\n\t}\n}\n");
        check("a { }\nb = 1\nc { }", "a { }\nb = 1\n\nc { }\n");
        check("a { }\n// x\nb { }\n\nc = 1 // y\nd { }", "a { }\n// x\nb { }\n\nc = 1 // y\nd { }\n");
        check("a { b = 1\n// x\n\nc { } // y\n}", "a {\n\tb = 1\n\t// x\n\n\tc { } // y\n}\n");
        check("a {\n\n\nb = 1\n\n\n\nc = 2\n\n}", "a {\n\tb = 1\n\n\tc = 2\n}\n");
    }

    #[test]
    fn equal_signs_align_until_a_blank_line_or_behind_a_value_of_several_lines() {
        check("a = 1\nlong = {x = 1}\n\nb = 2", "a    = 1\nlong = {x = 1}\n\nb = 2\n");
        check("a = 1\nlong = [\n1,\n]\nbb = 2\nc = 3", "a    = 1\nlong = [\n\t1,\n]\nbb = 2\nc  = 3\n");
        check("o = {\na = 1,\n\"long\" = 2,\n}", "o = {\n\ta      = 1,\n\t\"long\" = 2,\n}\n");
        check("f = g([{\na = 1,\n}])", "f = g([{\n\ta = 1,\n}])\n");
        check("a = `x\ny`\nlong = 1", "a = `x\ny`\nlong = 1\n");
        check(
            "o = {\nk = 5,\nlonger_key = {\na = 1,\nbb = 2,\n},\nother = 1,\n}",
            "o = {\n\tk          = 5,\n\tlonger_key = {\n\t\ta  = 1,\n\t\tbb = 2,\n\t},\n\tother = 1,\n}\n",
        );
    }

    #[test]
    fn comments_stay_where_they_are_and_align_at_the_ends_of_lines() {
        check(
            "// top\n\n/* b */\na = 1 // x\nlong=22//y",
            "// top\n\n/* b */\na    = 1  // x\nlong = 22 //y\n",
        );
        check("a { // x\nb = 1\n// last\n}", "a { // x\n\tb = 1\n\t// last\n}\n");
        check("a = [ // x\n1, /* y */ 2,\n// z\n]", "a = [ // x\n\t1, /* y */ 2,\n\t// z\n]\n");
        check("a = [\n1, // x\n222, // y\n]", "a = [\n\t1, // x\n\t222, // y\n]\n");
        check("a = // x\n1", "a = // x\n\t1\n");
        check("a = 1 + // x\n2", "a = 1 + // x\n\t2\n");
        check("a { /* x */ }", "a {\n\t/* x */\n}\n");
        check("a = 1\n// x\nlong = 2", "a = 1\n// x\nlong = 2\n");
    }

    #[test]
    fn what_has_errors_is_not_formatted() {
        assert!(formatted("a = ").starts_with("Error: test.alloy:1:4: expected an expression"));
    }
}
