//! What the operators do. Nothing converts implicitly here; that happens on assignment only.

use super::secret::Secret;
use super::value::{Number, Value};
use crate::syntax::ast::{BinaryOperator, UnaryOperator};

pub(super) fn unary(operator: UnaryOperator, operand: &Value) -> Result<Value, String> {
    match (operator, operand) {
        (UnaryOperator::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
        (UnaryOperator::Negate, Value::Number(Number::Float(value))) => Ok(Number::Float(-value).into()),
        (UnaryOperator::Negate, Value::Number(number)) => {
            Ok(Number::from_integer(-number.as_integer().unwrap_or(0)).into())
        }
        (UnaryOperator::Not, other) => Err(format!("expected bool, got {}", other.type_name())),
        (UnaryOperator::Negate, other) => Err(format!("expected number, got {}", other.type_name())),
    }
}

pub(super) fn binary(left: &Value, operator: BinaryOperator, right: &Value) -> Result<Value, String> {
    use BinaryOperator::*;
    match (left, operator, right) {
        // Values of different types are different, even if they would convert to each other.
        (_, Equal, _) => Ok(Value::Bool(left == right)),
        (_, NotEqual, _) => Ok(Value::Bool(left != right)),
        (Value::Bool(a), Or, Value::Bool(b)) => Ok(Value::Bool(*a || *b)),
        (Value::Bool(a), And, Value::Bool(b)) => Ok(Value::Bool(*a && *b)),
        (Value::Number(a), Less | LessOrEqual | Greater | GreaterOrEqual, Value::Number(b)) => {
            Ok(Value::Bool(compare(a, operator, b)))
        }
        (Value::String(a), Less | LessOrEqual | Greater | GreaterOrEqual, Value::String(b)) => {
            Ok(Value::Bool(compare(a, operator, b)))
        }
        (Value::String(a), Add, Value::String(b)) => Ok(format!("{a}{b}").into()),
        (Value::Secret(a), Add, Value::Secret(b)) => Ok(secret(a.expose(), b.expose())),
        (Value::Secret(a), Add, Value::String(b)) => Ok(secret(a.expose(), b)),
        (Value::String(a), Add, Value::Secret(b)) => Ok(secret(a, b.expose())),
        (Value::Number(a), Add | Subtract | Multiply | Divide | Modulo | Power, Value::Number(b)) => {
            arithmetic(*a, operator, *b).map(Value::Number)
        }
        _ => Err(format!(
            "operator {} can't be used with {} and {}",
            operator.symbol(),
            left.type_name(),
            right.type_name()
        )),
    }
}

/// A secret stays one, whatever it is joined with.
fn secret(a: &str, b: &str) -> Value {
    Value::Secret(Secret::new(format!("{a}{b}")))
}

fn compare<T: PartialOrd + ?Sized>(a: &T, operator: BinaryOperator, b: &T) -> bool {
    match operator {
        BinaryOperator::Less => a < b,
        BinaryOperator::LessOrEqual => a <= b,
        BinaryOperator::Greater => a > b,
        _ => a >= b,
    }
}

/// Whole numbers stay whole; those that leave the range of 64 bits become floats instead of wrapping round.
fn arithmetic(a: Number, operator: BinaryOperator, b: Number) -> Result<Number, String> {
    use BinaryOperator::*;
    if matches!(operator, Divide | Modulo) && b.as_float() == 0.0 {
        return Err("division by zero".to_owned());
    }
    let integers = match (a, b) {
        (Number::Float(_), _) | (_, Number::Float(_)) => None,
        _ => a.as_integer().zip(b.as_integer()),
    };
    let whole = integers.and_then(|(a, b)| match operator {
        Add => a.checked_add(b),
        Subtract => a.checked_sub(b),
        Multiply => a.checked_mul(b),
        Divide => a.checked_div(b),
        Modulo => a.checked_rem(b),
        _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    });
    let (a, b) = (a.as_float(), b.as_float());
    Ok(whole.map(Number::from_integer).unwrap_or_else(|| {
        Number::Float(match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide => a / b,
            Modulo => a % b,
            _ => a.powf(b),
        })
    }))
}
