//! Numbers in the labels `le` and `quantile`, in one form: a bucket is the same series in whatever format its page came.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::telemetry::MetricType;

/// The label's value as Prometheus 3 writes it, if it is the bound of a histogram's bucket or a summary's quantile; any other as
/// it is. Only what has another form is copied.
pub(super) fn normal<'b>(metric_type: MetricType, name: &str, value: Cow<'b, str>) -> Cow<'b, str> {
    match (metric_type, name) {
        (MetricType::Histogram, "le") | (MetricType::Summary, "quantile") => {}
        _ => return value,
    }
    let Ok(number) = value.parse::<f64>() else { return value };
    if number.is_infinite() && value.contains(|digit: char| digit.is_ascii_digit()) {
        // Too large for a double: Go calls that an error.
        return value;
    }
    // A number's form is short.
    let mut text = String::with_capacity(24);
    write_float(&mut text, number);
    if text == *value { value } else { Cow::Owned(text) }
}

/// As OpenMetrics writes numbers in `le` and `quantile`: `1.0`, `0.005`, `1e+06`, `+Inf`.
pub(super) fn write_float(text: &mut String, number: f64) {
    const WRITES: &str = "a String takes every write";
    if number.is_nan() {
        return text.push_str("NaN");
    } else if number.is_infinite() {
        return text.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    }
    let start = text.len();
    write!(text, "{number:e}").expect(WRITES);
    let at = start + text[start..].find('e').expect("that is how it is written");
    let exponent: i32 = text[at + 1..].parse().expect("digits follow");
    // Go's shortest form has an exponent from the seventh digit on, and before the fourth zero.
    if (-4..6).contains(&exponent) {
        text.truncate(start);
        write!(text, "{number:?}").expect(WRITES);
    } else {
        text.truncate(at);
        write!(text, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()).expect(WRITES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_quantiles_have_one_form() {
        use MetricType::{Counter, GaugeHistogram, Histogram, Summary};
        for (metric_type, name, value, expected) in [
            (Histogram, "le", "1", "1.0"),
            (Histogram, "le", "1.0", "1.0"),
            (Histogram, "le", "1.00", "1.0"),
            (Histogram, "le", "+Inf", "+Inf"),
            (Histogram, "le", "inf", "+Inf"),
            (Histogram, "le", "1000000", "1e+06"),
            (Histogram, "le", "1e999", "1e999"),
            (Histogram, "le", "many", "many"),
            (Histogram, "le", "", ""),
            (Histogram, "quantile", "1", "1"),
            (Summary, "quantile", "1", "1.0"),
            (Summary, "quantile", ".5", "0.5"),
            (Summary, "le", "1", "1"),
            (Counter, "le", "1", "1"),
            (GaugeHistogram, "le", "1", "1"),
        ] {
            let seen = normal(metric_type, name, Cow::Borrowed(value));
            assert_eq!(seen, expected, "{metric_type:?} {name} {value}");
            assert_eq!(matches!(seen, Cow::Borrowed(_)), value == expected, "{value} is copied for a reason");
        }
    }

    #[test]
    fn numbers_in_labels_are_written_as_go_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.25, "0.25"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456.0, "123456.0"),
            (1234567.0, "1.234567e+06"),
            (1e6, "1e+06"),
            (1e21, "1e+21"),
            (1.5e-10, "1.5e-10"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut text = String::new();
            write_float(&mut text, number);
            assert_eq!(text, expected);
        }
    }
}
