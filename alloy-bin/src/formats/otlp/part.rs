//! Parts of messages, and several as one.

use bytes::Bytes;

use super::schema::{self, Kind, Message};
use super::walk;
use crate::formats::protobuf::put_varint;
use crate::formats::wire::{Field, Fields, WholeField};
use crate::telemetry::OtlpBatch;

/// Several batches of one signal as one: their messages one behind the other.
pub fn join_otlp(batches: &[OtlpBatch]) -> Option<OtlpBatch> {
    let (first, rest) = batches.split_first()?;
    if rest.is_empty() {
        return Some(first.clone());
    }
    let mut body = Vec::with_capacity(batches.iter().map(|batch| batch.body.len()).sum());
    batches.iter().for_each(|batch| body.extend_from_slice(&batch.body));
    let items = batches.iter().map(|batch| batch.items).sum();
    Some(OtlpBatch::new(first.signal, body.into(), items))
}

/// The items `from..to` of a batch, with the resource, scope and metric that they belong to.
pub fn otlp_part(batch: &OtlpBatch, from: u32, to: u32) -> OtlpBatch {
    let mut out = Vec::new();
    let mut window = Window { from, to, at: 0 };
    window.copy(schema::request(batch.signal), &batch.body, &mut out);
    OtlpBatch::new(batch.signal, Bytes::from(out), to.min(batch.items).saturating_sub(from))
}

/// The first resource of a message: who has sent it, mostly.
pub fn first_resource(batch: &OtlpBatch) -> &[u8] {
    let first = |message| match Fields::of(message).flatten().find(|(number, _)| *number == 1) {
        Some((_, Field::Bytes(inside))) => inside,
        _ => &[],
    };
    first(first(&batch.body))
}

/// Which items are wanted, and how many have been seen.
struct Window {
    from: u32,
    to: u32,
    at: u32,
}

impl Window {
    /// Copies a message that was checked before, without the items that are not wanted.
    fn copy(&mut self, message: &'static Message, bytes: &[u8], out: &mut Vec<u8>) {
        let mut near = 0;
        // An error can't be: the message was checked when it came in.
        for WholeField { number, whole, value } in Fields::whole(bytes).flatten() {
            match (message.field(number, &mut near).map(|field| field.kind), value) {
                (Some(Kind::Message(inner)), Field::Bytes(inside)) => {
                    let mut count = 0;
                    let _ = walk(inner, inside, super::DEPTH_MAX, &mut count);
                    let (first, last) = (self.at, self.at + count);
                    if count == 0 || (first >= self.from && last <= self.to) {
                        out.extend_from_slice(whole);
                        self.at = last;
                    } else if last <= self.from || first >= self.to {
                        self.at = last;
                    } else {
                        let mut part = Vec::new();
                        self.copy(inner, inside, &mut part);
                        put_varint(out, number << 3 | 2);
                        put_varint(out, part.len() as u64);
                        out.extend_from_slice(&part);
                    }
                }
                _ => out.extend_from_slice(whole),
            }
        }
    }
}
