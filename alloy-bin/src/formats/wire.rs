//! Reading protobuf: fields of a message, in place.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>.

/// What was expected, and from where on it was not found.
pub(super) type Fault<'b> = (&'b [u8], &'static str);

/// The fields of a message, in the order in which they stand.
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

/// A field's value, as the wire has it.
#[derive(Clone, Copy)]
pub(super) enum Field<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    #[cfg_attr(not(feature = "otelcol"), allow(dead_code))]
    Fixed32(u32),
}

/// A field as it stands in its message.
pub(super) struct WholeField<'b> {
    pub(super) number: u64,
    /// With its tag.
    pub(super) whole: &'b [u8],
    pub(super) value: Field<'b>,
}

impl<'b> WholeField<'b> {
    /// What is behind the length of a text, of bytes or of a message.
    pub(super) fn content(&self) -> Option<&'b [u8]> {
        self.value.bytes().ok()
    }
}

impl<'b> Fields<'b> {
    pub(super) fn of(message: &'b [u8]) -> Self {
        Fields { rest: message }
    }

    /// The fields with all of their bytes, for whoever copies them. `None` where the message is damaged, which is the end.
    pub(super) fn whole(message: &'b [u8]) -> impl Iterator<Item = Option<WholeField<'b>>> {
        let mut fields = Fields::of(message);
        std::iter::from_fn(move || {
            let start = fields.rest;
            let field = fields.next()?.ok();
            let whole = &start[..start.len() - fields.rest.len()];
            Some(field.map(|(number, value)| WholeField { number, whole, value }))
        })
    }

    fn field(&mut self) -> Result<(u64, Field<'b>), Fault<'b>> {
        let start = self.rest;
        let tag = varint(&mut self.rest)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.rest)?),
            1 => Field::Fixed64(u64::from_le_bytes(fixed(&mut self.rest)?)),
            2 => Field::Bytes(delimited_message(&mut self.rest)?),
            5 => Field::Fixed32(u32::from_le_bytes(fixed(&mut self.rest)?)),
            _ => return Err((start, "a field's tag")),
        };
        if tag >> 3 == 0 { Err((start, "a field's number")) } else { Ok((tag >> 3, field)) }
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Field<'b>), Fault<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'b> Field<'b> {
    /// A varint field.
    pub(super) fn integer(self) -> Result<u64, Fault<'b>> {
        if let Field::Varint(value) = self { Ok(value) } else { Err((&[], "a whole number")) }
    }

    /// A double field.
    pub(super) fn double(self) -> Result<f64, Fault<'b>> {
        if let Field::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err((&[], "a double")) }
    }

    /// A field with a length.
    pub(super) fn bytes(self) -> Result<&'b [u8], Fault<'b>> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err((&[], "bytes behind their length")) }
    }

    /// A string field.
    pub(super) fn text(self) -> Result<&'b str, Fault<'b>> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| (bytes, "valid UTF-8"))
    }

    /// A repeated field of signed varints, packed or one of them.
    pub(super) fn signed_integers(self, all: &mut Vec<i64>) -> Result<(), Fault<'b>> {
        let mut packed = match self {
            Field::Bytes(packed) => packed,
            field => {
                all.push(unzigzag(field.integer()?));
                return Ok(());
            }
        };
        while !packed.is_empty() {
            all.push(unzigzag(varint(&mut packed)?));
        }
        Ok(())
    }

    /// A repeated field of doubles, packed or one of them.
    pub(super) fn doubles(self, all: &mut Vec<f64>) -> Result<(), Fault<'b>> {
        let mut packed = match self {
            Field::Bytes(packed) => packed,
            field => {
                all.push(field.double()?);
                return Ok(());
            }
        };
        while !packed.is_empty() {
            all.push(f64::from_le_bytes(fixed(&mut packed)?));
        }
        Ok(())
    }
}

/// Signed numbers of small size in few bytes: 0, -1, 1, -2 as 0, 1, 2, 3.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The numbers of a packed field.
#[cfg(feature = "otelcol")]
pub(super) fn packed_varints(mut packed: &[u8]) -> impl Iterator<Item = Result<u64, Fault<'_>>> {
    std::iter::from_fn(move || {
        let next = (!packed.is_empty()).then(|| varint(&mut packed));
        if matches!(next, Some(Err(_))) {
            packed = &[];
        }
        next
    })
}

/// A length and what follows it.
pub(super) fn delimited_message<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Fault<'b>> {
    let start = *rest;
    let length = varint(rest)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
    let (message, behind) = rest.split_at(length.ok_or((start, "as many bytes as the length says"))?);
    *rest = behind;
    Ok(message)
}

/// A base-128 varint.
pub(super) fn varint<'b>(rest: &mut &'b [u8]) -> Result<u64, Fault<'b>> {
    let start = *rest;
    let mut value = 0;
    for (index, byte) in start.iter().take(10).enumerate() {
        // Of the tenth byte one bit is left.
        if index == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &start[index + 1..];
            return Ok(value);
        }
    }
    Err((start, "a number of at most 64 bits"))
}

fn fixed<'b, const LENGTH: usize>(rest: &mut &'b [u8]) -> Result<[u8; LENGTH], Fault<'b>> {
    let (bytes, behind) = rest.split_first_chunk().ok_or((*rest, "a number of fixed length"))?;
    *rest = behind;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::Fields;
    use crate::formats::protobuf::{delimited, fixed64, put_bytes, put_double, put_integer, varint};

    #[test]
    fn fields_come_back_as_they_were_written_and_damage_is_the_end() {
        let mut message = Vec::new();
        put_integer(&mut message, varint(1), 300);
        put_double(&mut message, fixed64(2), 1.5);
        put_bytes(&mut message, delimited(3), b"text");
        let fields: Vec<_> = Fields::whole(&message).map(|field| field.expect("it is sound")).collect();
        let seen: Vec<_> = fields.iter().map(|field| (field.number, field.whole.len())).collect();
        assert_eq!(seen, [(1, 3), (2, 9), (3, 6)]);
        assert_eq!((fields[0].content(), fields[2].content()), (None, Some(b"text".as_slice())));
        assert_eq!(fields.iter().map(|field| field.whole).collect::<Vec<_>>().concat(), message);
        for cut in 1..message.len() {
            let sound = Fields::whole(&message[..cut]).take_while(Option::is_some).count();
            let whole = [3, 12, 18].iter().filter(|end| **end <= cut).count();
            assert_eq!(sound, whole, "cut at {cut}");
            assert_eq!(Fields::whole(&message[..cut]).any(|field| field.is_none()), ![3, 12].contains(&cut));
        }
        assert!(Fields::whole(&[0xff; 12]).next().expect("something").is_none());
    }
}
