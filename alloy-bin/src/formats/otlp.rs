//! OTLP: checks a message in place, takes parts out of it, reads its JSON, packs it for the log.
//!
//! A message stays the bytes that came: [`check_otlp`] walks it once by the tables of `otlp/schema.rs`, allocates nothing, and
//! counts its items. Messages of one signal are joined by writing one behind the other, since their only field is repeated.

mod json;
mod loki;
mod packing;
mod part;
mod print;
mod prometheus;
mod reply;
mod schema;
mod value;

use bytes::Bytes;

use self::schema::{Kind, Message};
use super::wire::{Fault, Field, Fields, packed_varints};
use crate::telemetry::{OtlpBatch, Signal};

pub use json::{OtlpJsonError, otlp_from_json};
pub use loki::otlp_to_loki;
pub use packing::{PackedRequest, Packing, join_packed, packed_plain_bytes, split_packed};
pub use part::{first_resource, join_otlp, otlp_part};
pub use print::{print_otlp, print_start_of_otlp};
pub use prometheus::{Additions, Deltas, PrometheusOptions, Resource, Translated};
pub use reply::{export_response, rejected_by_response, retry_delay, status};

/// Messages inside one another. Decoders in C++, Python and Rust take 100: what is taken here must be taken by them.
const DEPTH_MAX: usize = 64;

/// Why a message was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {request}: byte {at}, in {message}: expected {expected}")]
pub struct OtlpError {
    /// The message that it should have been.
    pub request: &'static str,
    /// Where it is wrong, counted from 0.
    pub at: usize,
    /// The message inside it that is wrong.
    pub message: &'static str,
    /// What could have stood there.
    pub expected: &'static str,
}

/// Checks a request's message to its last byte, and makes a batch of it.
pub fn check_otlp(signal: Signal, body: Bytes) -> Result<OtlpBatch, OtlpError> {
    let request = schema::request(signal);
    let mut items = 0;
    match walk(request, &body, DEPTH_MAX, &mut items) {
        Ok(()) => Ok(OtlpBatch::new(signal, body, items)),
        Err((message, (place, expected))) => {
            // A fault is a slice of the body, or an empty one of nowhere.
            let at = (place.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
            let at = if at <= body.len() { at } else { body.len() };
            Err(OtlpError { request: request.name, at, message: message.name, expected })
        }
    }
}

/// What is wrong, and the message that it is wrong in.
type Wrong<'b> = (&'static Message, Fault<'b>);

fn walk<'b>(
    message: &'static Message,
    bytes: &'b [u8],
    depth: usize,
    items: &mut u32,
) -> Result<(), Wrong<'b>> {
    if depth == 0 {
        return Err((message, (bytes, "fewer messages inside one another")));
    }
    *items += u32::from(message.is_item);
    let mut near = 0;
    for field in Fields::of(bytes) {
        let (number, value) = field.map_err(|fault| (message, fault))?;
        let Some(field) = message.field(number, &mut near) else { continue };
        let fits = match (field.kind, value) {
            (Kind::Message(inner), Field::Bytes(inside)) => {
                walk(inner, inside, depth - 1, items)?;
                true
            }
            (Kind::Text, Field::Bytes(text)) => {
                if std::str::from_utf8(text).is_err() {
                    return Err((message, (text, "UTF-8")));
                }
                true
            }
            (Kind::Bytes | Kind::Id, Field::Bytes(_))
            | (Kind::Bool | Kind::Int | Kind::Uint | Kind::Sint | Kind::Enum(..), Field::Varint(_))
            | (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, Field::Fixed64(_))
            | (Kind::Fixed32, Field::Fixed32(_)) => true,
            (Kind::Fixed64 | Kind::Double, Field::Bytes(packed)) if field.is_repeated => {
                packed.len().is_multiple_of(8)
            }
            (Kind::Uint, Field::Bytes(packed)) if field.is_repeated => {
                packed_varints(packed).all(|value| value.is_ok())
            }
            _ => false,
        };
        if !fits {
            let place = if let Field::Bytes(inside) = value { inside } else { &[] };
            return Err((message, (place, "another type of field")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
