//! Which names expressions use: the graph draws its edges from them.

use super::eval::leading_fields;
use super::scope::PARTS_MAX;
use crate::syntax::Span;
use crate::syntax::ast::{Expr, ExprKind, Statement, Suffix};

/// A name with the fields that follow it: `prometheus.remote_write.default.receiver`. Whether its beginning is a
/// component, an argument or a function of the standard library is for the reader to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The parts of the path; never empty.
    pub path: Vec<String>,
    /// Where the path stands.
    pub span: Span,
}

impl Reference {
    /// The names that its beginning may be, the longest first. What is behind a name's last part are fields.
    pub fn prefixes(&self) -> impl Iterator<Item = String> {
        (1..=self.path.len().min(PARTS_MAX)).rev().map(|parts| self.path[..parts].join("."))
    }
}

/// All references in a body and the blocks inside it, in the order of the text.
pub fn references(statements: &[Statement]) -> Vec<Reference> {
    let mut found = Vec::new();
    in_statements(statements, &mut found);
    found
}

fn in_statements(statements: &[Statement], found: &mut Vec<Reference>) {
    for statement in statements {
        match statement {
            Statement::Attribute(attribute) => in_expression(&attribute.value, found),
            Statement::Block(block) => in_statements(&block.statements, found),
        }
    }
}

fn in_expression(expression: &Expr, found: &mut Vec<Reference>) {
    match &expression.kind {
        ExprKind::Literal(_) => {}
        ExprKind::Ident(name) => found.push(Reference { path: vec![name.clone()], span: expression.span }),
        ExprKind::Chain { operand, suffixes } => {
            if let ExprKind::Ident(name) = &operand.kind {
                let fields = leading_fields(suffixes);
                let span = fields.last().map_or(operand.span, |last| operand.span.to(last.span));
                let path = std::iter::once(name).chain(fields.iter().map(|field| &field.text));
                found.push(Reference { path: path.cloned().collect(), span });
            } else {
                in_expression(operand, found);
            }
            for suffix in suffixes {
                match suffix {
                    Suffix::Access(_) => {}
                    Suffix::Index(index) => in_expression(index, found),
                    Suffix::Call { arguments, .. } => {
                        arguments.iter().for_each(|argument| in_expression(argument, found));
                    }
                }
            }
        }
        ExprKind::Unary { operand, .. } => in_expression(operand, found),
        ExprKind::Binary { first, rest } => {
            in_expression(first, found);
            rest.iter().for_each(|(_, operand)| in_expression(operand, found));
        }
        ExprKind::Parenthesized(inner) => in_expression(inner, found),
        ExprKind::Array(elements) => elements.iter().for_each(|element| in_expression(element, found)),
        ExprKind::Object(fields) => fields.iter().for_each(|field| in_expression(&field.value, found)),
    }
}
