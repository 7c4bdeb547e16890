//! Expression + scope -> value. Errors carry the span of the offending part.

use super::operators::{binary, unary};
use super::scope::Scope;
use super::stdlib::{ENTRY_BYTES, MADE_BYTES_MAX, TOO_LARGE};
use super::suggest::did_you_mean;
use super::value::{Number, Value};
use crate::syntax::ast::{Expr, ExprKind, Field, Ident, Literal, Suffix};
use crate::syntax::{Diagnostic, Span};
use std::cell::Cell;

/// Evaluates an expression. Both sides of every operator are evaluated, and nothing converts implicitly. What is made of
/// something unknown is unknown, and never an error. What it may make is bounded.
pub fn evaluate(expression: &Expr, scope: &Scope) -> Result<Value, Diagnostic> {
    Evaluation { scope, made_bytes: Cell::new(0) }.value(expression)
}

struct Evaluation<'a> {
    scope: &'a Scope,
    /// What functions and operators have made so far.
    made_bytes: Cell<usize>,
}

impl Evaluation<'_> {
    fn value(&self, expression: &Expr) -> Result<Value, Diagnostic> {
        let span = expression.span;
        match &expression.kind {
            ExprKind::Literal(literal) => Ok(constant(literal)),
            ExprKind::Ident(name) => self.chain(name, span, &[]),
            ExprKind::Chain { operand, suffixes } => match &operand.kind {
                ExprKind::Ident(name) => self.chain(name, operand.span, suffixes),
                _ => self.apply_all(self.value(operand)?, operand.span, suffixes),
            },
            ExprKind::Unary { operator, operand } => match self.value(operand)? {
                Value::Unknown(_) => Ok(Value::ANYTHING),
                operand => unary(*operator, &operand).map_err(|message| Diagnostic::error(span, message)),
            },
            ExprKind::Binary { first, rest } => {
                let mut left = self.value(first)?;
                for (operator, operand) in rest {
                    let right = self.value(operand)?;
                    if left.has_unknown() || right.has_unknown() {
                        left = Value::ANYTHING;
                        continue;
                    }
                    let span = first.span.to(operand.span);
                    let joined = binary(&left, *operator, &right);
                    left = self.account(joined.map_err(|message| Diagnostic::error(span, message))?, span)?;
                }
                Ok(left)
            }
            ExprKind::Parenthesized(inner) => self.value(inner),
            ExprKind::Array(elements) => Ok(Value::array(self.values(elements)?)),
            ExprKind::Object(fields) => {
                let evaluated = |field: &Field| Ok((field.key.text.clone(), self.value(&field.value)?));
                let fields: Result<Vec<(String, Value)>, Diagnostic> = fields.iter().map(evaluated).collect();
                Ok(Value::object(fields?))
            }
        }
    }

    fn values(&self, expressions: &[Expr]) -> Result<Vec<Value>, Diagnostic> {
        expressions.iter().map(|expression| self.value(expression)).collect()
    }

    /// A name and what follows it: as many names as possible find the value in the scope, the others look into it.
    fn chain(&self, name: &str, span: Span, suffixes: &[Suffix]) -> Result<Value, Diagnostic> {
        let fields = leading_fields(suffixes);
        let path: Vec<&str> =
            std::iter::once(name).chain(fields.iter().map(|field| field.text.as_str())).collect();
        let Some((parts, value)) = self.scope.resolve(&path) else {
            let message = match path.len() {
                1 => format!("identifier {name:?} does not exist or is out of scope"),
                _ => format!("component \"{}\" does not exist or is out of scope", path.join(".")),
            };
            let span = fields.last().map_or(span, |last| span.to(last.span));
            return Err(Diagnostic::error(span, message).with_hint(self.scope.suggest(&path)));
        };
        self.apply_all(value.clone(), span, &suffixes[parts - 1..])
    }

    fn apply_all(&self, mut value: Value, start: Span, suffixes: &[Suffix]) -> Result<Value, Diagnostic> {
        for suffix in suffixes {
            value = match suffix {
                Suffix::Access(name) => access(&value, name)?,
                Suffix::Index(index) => element(&value, &self.value(index)?, index.span)?,
                Suffix::Call { arguments, span } => self.call(&value, arguments, start.to(*span))?,
            };
        }
        Ok(value)
    }

    fn call(&self, value: &Value, arguments: &[Expr], span: Span) -> Result<Value, Diagnostic> {
        let values = self.values(arguments)?;
        let function = match value {
            Value::Function(function) => function,
            Value::Unknown(_) => return Ok(Value::ANYTHING),
            other => {
                return Err(Diagnostic::error(span, format!("expected function, got {}", other.type_name())));
            }
        };
        if values.iter().any(Value::has_unknown) {
            return Ok(Value::ANYTHING);
        }
        let result = (function.call)(&values).map_err(|error| {
            let argument = error.argument.and_then(|index| arguments.get(index));
            let span = argument.map_or(span, |argument| argument.span);
            Diagnostic::error(span, format!("{}: {}", function.name, error.message)).with_hint(error.hint)
        })?;
        self.account(result, span)
    }

    fn account(&self, value: Value, span: Span) -> Result<Value, Diagnostic> {
        let bytes = match &value {
            Value::String(text) => text.len(),
            Value::Secret(secret) => secret.expose().len(),
            Value::Array(elements) => elements.len().saturating_mul(ENTRY_BYTES),
            Value::Object(fields) => fields.len().saturating_mul(ENTRY_BYTES),
            _ => 0,
        };
        let made = self.made_bytes.get().saturating_add(bytes);
        self.made_bytes.set(made);
        if made > MADE_BYTES_MAX { Err(Diagnostic::error(span, TOO_LARGE)) } else { Ok(value) }
    }
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Integer(value) => Number::from_integer((*value).into()).into(),
        Literal::Float(value) => Number::Float(*value).into(),
        Literal::String(text) => text.as_str().into(),
    }
}

/// The names at the beginning of what follows an operand.
pub(super) fn leading_fields(suffixes: &[Suffix]) -> Vec<&Ident> {
    suffixes
        .iter()
        .map_while(|suffix| match suffix {
            Suffix::Access(name) => Some(name),
            _ => None,
        })
        .collect()
}

fn access(value: &Value, name: &Ident) -> Result<Value, Diagnostic> {
    if let Value::Unknown(_) = value {
        return Ok(Value::ANYTHING);
    }
    let Value::Object(fields) = value else {
        let message = format!("can't access field {:?} of {}", name.text, value.type_name());
        return Err(Diagnostic::error(name.span, message));
    };
    fields.get(&name.text).cloned().ok_or_else(|| {
        let hint = did_you_mean(&name.text, fields.keys());
        Diagnostic::error(name.span, format!("field {:?} does not exist", name.text)).with_hint(hint)
    })
}

fn element(value: &Value, index: &Value, span: Span) -> Result<Value, Diagnostic> {
    let failed = |message: String| Err(Diagnostic::error(span, message));
    match (value, index) {
        (Value::Unknown(_), _) | (_, Value::Unknown(_)) => Ok(Value::ANYTHING),
        (Value::Object(fields), Value::String(key)) => Ok(fields.get(key).cloned().unwrap_or_default()),
        (Value::Array(elements), Value::Number(number)) => {
            let index = number.as_integer().and_then(|index| usize::try_from(index).ok());
            match index.and_then(|index| elements.get(index)) {
                Some(element) => Ok(element.clone()),
                None => failed(format!("index {number} is out of range of an array of {}", elements.len())),
            }
        }
        (Value::Object(_), other) => failed(format!("expected string, got {}", other.type_name())),
        (Value::Array(_), other) => failed(format!("expected number, got {}", other.type_name())),
        (other, _) => failed(format!("expected object or array, got {}", other.type_name())),
    }
}
