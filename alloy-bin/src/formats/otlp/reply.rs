//! What receivers answer: `Export...ServiceResponse` and `google.rpc.Status`, written and read.
//!
//! ```text
//! Export...ServiceResponse { partial_success = 1 { int64 rejected = 1; string error_message = 2; } }
//! Status { int32 code = 1; string message = 2; repeated Any details = 3 { string type_url = 1; bytes value = 2; } }
//! RetryInfo { Duration retry_delay = 1 { int64 seconds = 1; int32 nanos = 2; } }
//! ```

use std::time::Duration;

use crate::formats::protobuf::{delimited, put_bytes, put_integer, varint};
use crate::formats::wire::{Field, Fields};

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// An answer that all is taken, but for so many items.
pub fn export_response(rejected: u64, reason: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if rejected > 0 {
        let mut partial = Vec::new();
        put_integer(&mut partial, varint(1), i64::try_from(rejected).unwrap_or(i64::MAX));
        put_bytes(&mut partial, delimited(2), reason.as_bytes());
        put_bytes(&mut out, delimited(1), &partial);
    }
    out
}

/// How many items a receiver has not taken of what it acknowledged, and why.
pub fn rejected_by_response(response: &[u8]) -> (u64, String) {
    let (mut rejected, mut reason) = (0, String::new());
    for (number, field) in Fields::of(response).flatten() {
        let (1, Field::Bytes(partial)) = (number, field) else { continue };
        for field in Fields::of(partial).flatten() {
            match field {
                (1, Field::Varint(count)) => rejected = count,
                (2, Field::Bytes(text)) => reason = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    (rejected, reason)
}

/// Why nothing is taken, with the time after which the client may try again.
pub fn status(code: u32, message: &str, retry: Option<Duration>) -> Vec<u8> {
    let mut out = Vec::new();
    put_integer(&mut out, varint(1), code.into());
    put_bytes(&mut out, delimited(2), message.as_bytes());
    if let Some(delay) = retry {
        let (mut duration, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_integer(&mut duration, varint(1), i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
        put_integer(&mut duration, varint(2), delay.subsec_nanos().into());
        put_bytes(&mut info, delimited(1), &duration);
        put_bytes(&mut any, delimited(1), RETRY_INFO.as_bytes());
        put_bytes(&mut any, delimited(2), &info);
        put_bytes(&mut out, delimited(3), &any);
    }
    out
}

/// The time after which a receiver wants us back, if its status has one.
pub fn retry_delay(status: &[u8]) -> Option<Duration> {
    /// The last bytes with that number.
    fn inside(message: &[u8], number: u64) -> Option<&[u8]> {
        let mut fields = Fields::of(message).flatten();
        fields.find_map(|(found, field)| match field {
            Field::Bytes(bytes) if found == number => Some(bytes),
            _ => None,
        })
    }
    let details = Fields::of(status).flatten().filter_map(|(number, field)| match field {
        Field::Bytes(any) if number == 3 => Some(any),
        _ => None,
    });
    let mut infos =
        details.filter(|any| inside(any, 1).is_some_and(|url| url.ends_with(b"/google.rpc.RetryInfo")));
    let info = inside(infos.next()?, 2).unwrap_or_default();
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(inside(info, 1).unwrap_or_default()).flatten() {
        match field {
            (1, Field::Varint(value)) => seconds = value,
            (2, Field::Varint(value)) => nanos = value.min(999_999_999) as u32,
            _ => {}
        }
    }
    // A negative time is none.
    Some(if i64::try_from(seconds).is_ok() { Duration::new(seconds, nanos) } else { Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_understood() {
        assert!(export_response(0, "none").is_empty());
        assert_eq!(rejected_by_response(&export_response(7, "delta")), (7, "delta".to_owned()));
        assert_eq!(rejected_by_response(b"\xff"), (0, String::new()));
        for delay in [Duration::ZERO, Duration::from_secs(5), Duration::from_millis(1500)] {
            assert_eq!(retry_delay(&status(8, "full", Some(delay))), Some(delay));
        }
        assert_eq!(retry_delay(&status(8, "full", None)), None);
        // As Go's own library writes it.
        let theirs =
            b"\x08\x0e\x12\x01m\x1a\x2e\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x02\x0a\0";
        assert_eq!(retry_delay(theirs), Some(Duration::ZERO));
    }
}
