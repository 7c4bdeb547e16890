//! The JSON of OTLP -> protobuf, field by field, without a tree in between.
//!
//! As the specification has it: ids are hexadecimal, 64-bit numbers may be text, unknown fields are skipped. More is taken than
//! it asks for: names in snake_case, enums by name, `null` for what is not there. JSON inside JSON is limited by serde_json to
//! 128 levels.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{self, Field, Kind, Message};
use super::{OtlpError, check_otlp};
use crate::formats::protobuf::put_varint;
use crate::telemetry::{OtlpBatch, Signal};

/// Why a text was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpJsonError {
    /// It is not JSON, or a field is of another type; line and column are in the text.
    #[error("not a valid request in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// What it says can't be said in protobuf.
    #[error(transparent)]
    Message(#[from] OtlpError),
}

/// Reads a request's message. The error names line and column. In protobuf it must not be larger than `bytes_max`: a number of
/// two characters becomes eight bytes.
pub fn otlp_from_json(signal: Signal, text: &[u8], bytes_max: usize) -> Result<OtlpBatch, OtlpJsonError> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut json = serde_json::Deserializer::from_slice(text);
    MessageSeed { message: schema::request(signal), out: &mut out, bytes_max }.deserialize(&mut json)?;
    json.end()?;
    Ok(check_otlp(signal, Bytes::from(out))?)
}

/// Writes the fields of a message; its tag and length are its writer's.
struct MessageSeed<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(NameSeed(self.message))? {
            match field {
                Some(field) => {
                    let (out, bytes_max) = (&mut *self.out, self.bytes_max);
                    map.next_value_seed(ValueSeed { field, in_list: false, out, bytes_max })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A field's name.
struct NameSeed(&'static Message);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// Writes a field with its tag.
struct ValueSeed<'o> {
    field: &'static Field,
    in_list: bool,
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl ValueSeed<'_> {
    fn put<E: Error>(self, wire_type: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), E> {
        put_varint(self.out, u64::from(self.field.number) << 3 | u64::from(wire_type));
        write(self.out);
        match self.out.len() > self.bytes_max {
            true => {
                Err(E::custom(format!("the message is larger than {} bytes in protobuf", self.bytes_max)))
            }
            false => Ok(()),
        }
    }

    fn put_bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        self.put(2, |out| {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        })
    }

    /// A whole number of any type that has them.
    fn whole<E: Error>(self, value: i128) -> Result<(), E> {
        let out_of_range =
            || E::custom(format!("{value} is out of the range of the field {}", self.field.name));
        match self.field.kind {
            Kind::Int => {
                let value = i64::try_from(value).map_err(|_| out_of_range())?;
                self.put(0, |out| put_varint(out, value as u64))
            }
            Kind::Uint => {
                let value = u64::try_from(value).map_err(|_| out_of_range())?;
                self.put(0, |out| put_varint(out, value))
            }
            Kind::Enum(..) => {
                let value = i32::try_from(value).map_err(|_| out_of_range())?;
                self.put(0, |out| put_varint(out, i64::from(value) as u64))
            }
            Kind::Sint => {
                let value = i32::try_from(value).map_err(|_| out_of_range())?;
                self.put(0, |out| put_varint(out, u64::from((value << 1 ^ value >> 31) as u32)))
            }
            Kind::Fixed32 => {
                let value = u32::try_from(value).map_err(|_| out_of_range())?;
                self.put(5, |out| out.extend_from_slice(&value.to_le_bytes()))
            }
            Kind::Fixed64 => {
                let value = u64::try_from(value).map_err(|_| out_of_range())?;
                self.put(1, |out| out.extend_from_slice(&value.to_le_bytes()))
            }
            Kind::Sfixed64 => {
                let value = i64::try_from(value).map_err(|_| out_of_range())?;
                self.put(1, |out| out.extend_from_slice(&value.to_le_bytes()))
            }
            Kind::Double => self.double(value as f64),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn double<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => self.put(1, |out| out.extend_from_slice(&value.to_le_bytes())),
            // `1e3` and `5.0` are whole numbers, too.
            _ if value.fract() == 0.0 && value.abs() < (1_u64 << 53) as f64 => self.whole(value as i128),
            _ => Err(self.mismatch("a number with a fraction")),
        }
    }

    fn mismatch<E: Error>(&self, got: &str) -> E {
        E::custom(format!("{got} does not fit the field {}", self.field.name))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for the field {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.in_list { Err(self.mismatch("null in a list")) } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.put(0, |out| out.push(u8::from(value))),
            _ => Err(self.mismatch("true or false")),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.double(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => self.put_bytes(text.as_bytes()),
            Kind::Id => match unhex(text) {
                Some(id) => self.put_bytes(&id),
                None => Err(self.mismatch("what is not hexadecimal")),
            },
            Kind::Bytes => match STANDARD.decode(text) {
                Ok(bytes) => self.put_bytes(&bytes),
                Err(_) => Err(self.mismatch("what is not base64")),
            },
            Kind::Enum(prefix, names) => {
                let short = text.strip_prefix(prefix);
                match short.and_then(|short| names.iter().position(|name| *name == short)) {
                    Some(value) => self.whole(value as i128),
                    None => match text.parse::<i32>() {
                        Ok(value) => self.whole(value.into()),
                        Err(_) => Err(self.mismatch("an unknown name")),
                    },
                }
            }
            Kind::Double => match text {
                "NaN" => self.double(f64::NAN),
                "Infinity" => self.double(f64::INFINITY),
                "-Infinity" => self.double(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => self.double(value),
                    _ => Err(self.mismatch("text that is not a number")),
                },
            },
            Kind::Int | Kind::Uint | Kind::Sint | Kind::Fixed32 | Kind::Fixed64 | Kind::Sfixed64 => {
                match text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)) {
                    Ok(value) => self.whole(value),
                    Err(_) => Err(self.mismatch("text that is not a whole number")),
                }
            }
            Kind::Bool | Kind::Message(_) => Err(self.mismatch("text")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.field.is_repeated || self.in_list {
            return Err(self.mismatch("a list"));
        }
        let (field, bytes_max) = (self.field, self.bytes_max);
        while list
            .next_element_seed(ValueSeed { field, in_list: true, out: &mut *self.out, bytes_max })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else { return Err(self.mismatch("an object")) };
        if self.field.is_repeated && !self.in_list {
            return Err(self.mismatch("an object that is not in a list"));
        }
        put_varint(self.out, u64::from(self.field.number) << 3 | 2);
        // Most messages are shorter than 128 bytes; a longer one is moved by the bytes that its length needs.
        let length_at = self.out.len();
        self.out.push(0);
        MessageSeed { message, out: &mut *self.out, bytes_max: self.bytes_max }.visit_map(map)?;
        let length = self.out.len() - length_at - 1;
        let mut prefix = Vec::with_capacity(10);
        put_varint(&mut prefix, length as u64);
        self.out.splice(length_at..=length_at, prefix);
        Ok(())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| bytes.collect())?
}
