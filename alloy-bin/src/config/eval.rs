//! Expression + scope -> value. Errors carry the span of the offending part.

use super::operators::{binary, unary};
use super::scope::Scope;
use super::suggest::did_you_mean;
use super::value::{Number, Value};
use crate::syntax::ast::{Expr, ExprKind, Field, Ident, Literal, Suffix};
use crate::syntax::{Diagnostic, Span};

/// Evaluates an expression. Both sides of every operator are evaluated, and nothing converts implicitly. What is made of
/// something unknown is unknown, and never an error.
pub fn evaluate(expression: &Expr, scope: &Scope) -> Result<Value, Diagnostic> {
    let span = expression.span;
    let failed = |message| Diagnostic::error(span, message);
    match &expression.kind {
        ExprKind::Literal(literal) => Ok(constant(literal)),
        ExprKind::Ident(name) => chain(name, span, &[], scope),
        ExprKind::Chain { operand, suffixes } => match &operand.kind {
            ExprKind::Ident(name) => chain(name, operand.span, suffixes, scope),
            _ => apply_all(evaluate(operand, scope)?, operand.span, suffixes, scope),
        },
        ExprKind::Unary { operator, operand } => match evaluate(operand, scope)? {
            Value::Unknown(_) => Ok(Value::ANYTHING),
            operand => unary(*operator, &operand).map_err(failed),
        },
        ExprKind::Binary { first, rest } => {
            let mut left = evaluate(first, scope)?;
            for (operator, operand) in rest {
                let right = evaluate(operand, scope)?;
                if left.has_unknown() || right.has_unknown() {
                    left = Value::ANYTHING;
                    continue;
                }
                left = binary(&left, *operator, &right)
                    .map_err(|message| Diagnostic::error(first.span.to(operand.span), message))?;
            }
            Ok(left)
        }
        ExprKind::Parenthesized(inner) => evaluate(inner, scope),
        ExprKind::Array(elements) => {
            let values: Result<Vec<Value>, Diagnostic> =
                elements.iter().map(|element| evaluate(element, scope)).collect();
            Ok(Value::array(values?))
        }
        ExprKind::Object(fields) => {
            let evaluated = |field: &Field| Ok((field.key.text.clone(), evaluate(&field.value, scope)?));
            let fields: Result<Vec<(String, Value)>, Diagnostic> = fields.iter().map(evaluated).collect();
            Ok(Value::object(fields?))
        }
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

/// A name and what follows it: as many names as possible find the value in the scope, the others look into it.
fn chain(name: &str, span: Span, suffixes: &[Suffix], scope: &Scope) -> Result<Value, Diagnostic> {
    let fields = leading_fields(suffixes);
    let path: Vec<&str> =
        std::iter::once(name).chain(fields.iter().map(|field| field.text.as_str())).collect();
    let Some((parts, value)) = scope.resolve(&path) else {
        let message = match path.len() {
            1 => format!("identifier {name:?} does not exist or is out of scope"),
            _ => format!("component \"{}\" does not exist or is out of scope", path.join(".")),
        };
        let span = fields.last().map_or(span, |last| span.to(last.span));
        return Err(Diagnostic::error(span, message).with_hint(scope.suggest(&path)));
    };
    apply_all(value.clone(), span, &suffixes[parts - 1..], scope)
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

fn apply_all(mut value: Value, start: Span, suffixes: &[Suffix], scope: &Scope) -> Result<Value, Diagnostic> {
    for suffix in suffixes {
        value = match suffix {
            Suffix::Access(name) => access(&value, name)?,
            Suffix::Index(index) => element(&value, &evaluate(index, scope)?, index.span)?,
            Suffix::Call { arguments, span } => call(&value, arguments, start.to(*span), scope)?,
        };
    }
    Ok(value)
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
        let hint = did_you_mean(&name.text, fields.keys().map(String::as_str));
        Diagnostic::error(name.span, format!("field {:?} does not exist", name.text)).with_hint(hint)
    })
}

fn element(value: &Value, index: &Value, span: Span) -> Result<Value, Diagnostic> {
    let failed = |message: String| Err(Diagnostic::error(span, message));
    match (value, index) {
        (Value::Unknown(_), _) | (_, Value::Unknown(_)) => Ok(Value::ANYTHING),
        (Value::Object(fields), Value::String(key)) => Ok(fields.get(&**key).cloned().unwrap_or_default()),
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

fn call(value: &Value, arguments: &[Expr], span: Span, scope: &Scope) -> Result<Value, Diagnostic> {
    let values: Result<Vec<Value>, Diagnostic> =
        arguments.iter().map(|argument| evaluate(argument, scope)).collect();
    let values = values?;
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
    (function.call)(&values).map_err(|error| {
        let argument = error.argument.and_then(|index| arguments.get(index));
        Diagnostic::error(argument.map_or(span, |argument| argument.span), error.message)
    })
}
