//! A message as text for people: one line for each field, indented as the messages are.

use std::fmt::Write as _;

use super::schema::{self, Kind, Message};
use crate::formats::wire::{Field, Fields, packed_varints, unzigzag};
use crate::telemetry::OtlpBatch;

/// Every field of a batch. Ids are hexadecimal, enums by name.
pub fn print_otlp(batch: &OtlpBatch) -> String {
    print_start_of_otlp(batch, usize::MAX)
}

/// The same until so many bytes are written.
pub fn print_start_of_otlp(batch: &OtlpBatch, enough: usize) -> String {
    let mut out = String::new();
    print(schema::request(batch.signal), &batch.body, 0, enough, &mut out);
    out
}

fn print(message: &'static Message, bytes: &[u8], depth: usize, enough: usize, out: &mut String) {
    let mut near = 0;
    // An error can't be: the message was checked when it came in.
    for (number, value) in Fields::of(bytes).flatten() {
        let Some(field) = message.field(number, &mut near) else { continue };
        if out.len() >= enough {
            return;
        }
        let _ = write!(out, "{:1$}{2}:", "", depth * 2, field.name);
        match (field.kind, value) {
            (Kind::Message(inner), Field::Bytes(inside)) => {
                out.push('\n');
                print(inner, inside, depth + 1, enough, out);
                continue;
            }
            (Kind::Text, Field::Bytes(text)) => {
                let _ = write!(out, " {:?}", String::from_utf8_lossy(text));
            }
            (Kind::Id | Kind::Bytes, Field::Bytes(bytes)) => {
                out.push(' ');
                for byte in bytes {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            (Kind::Double, Field::Bytes(packed)) => {
                for number in packed.as_chunks::<8>().0 {
                    let _ = write!(out, " {}", f64::from_le_bytes(*number));
                }
            }
            (_, Field::Bytes(packed)) if matches!(field.kind, Kind::Fixed64) => {
                for number in packed.as_chunks::<8>().0 {
                    let _ = write!(out, " {}", u64::from_le_bytes(*number));
                }
            }
            (_, Field::Bytes(packed)) => {
                for number in packed_varints(packed).flatten() {
                    let _ = write!(out, " {number}");
                }
            }
            (Kind::Double, Field::Fixed64(bits)) => drop(write!(out, " {}", f64::from_bits(bits))),
            (Kind::Sfixed64, Field::Fixed64(value)) => drop(write!(out, " {}", value as i64)),
            (Kind::Int, Field::Varint(value)) => drop(write!(out, " {}", value as i64)),
            (Kind::Sint, Field::Varint(value)) => drop(write!(out, " {}", unzigzag(value))),
            (Kind::Bool, Field::Varint(value)) => drop(write!(out, " {}", value != 0)),
            (Kind::Enum(_, names), Field::Varint(value)) => match names.get(value as usize) {
                Some(name) => drop(write!(out, " {name}")),
                None => drop(write!(out, " {value}")),
            },
            (_, Field::Varint(value) | Field::Fixed64(value)) => drop(write!(out, " {value}")),
            (_, Field::Fixed32(value)) => drop(write!(out, " {value}")),
        }
        out.push('\n');
    }
}
