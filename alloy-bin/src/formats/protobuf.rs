//! The few protobuf functions that the encoders need: writing a field. `wire.rs` reads.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>. As in proto3, a scalar field with the value zero is
//! not written.

/// How many bytes [`put_varint`] writes.
pub(super) fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a base-128 varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The tag of a length-delimited field. All our field numbers are below 16, so a tag is one byte.
pub(super) const fn delimited(field: u8) -> u8 {
    assert!(field < 16);
    field << 3 | 2
}

/// The tag of a varint field.
pub(super) const fn varint(field: u8) -> u8 {
    assert!(field < 16);
    field << 3
}

/// The tag of a 64-bit field.
pub(super) const fn fixed64(field: u8) -> u8 {
    assert!(field < 16);
    field << 3 | 1
}

/// How many bytes [`put_bytes`] writes.
pub(super) fn bytes_field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Writes a string or bytes field, also when it is empty.
pub(super) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_integer`] writes.
pub(super) fn integer_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

/// Writes an int64 or int32 field; negative values take ten bytes, as the format demands for both.
pub(super) fn put_integer(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value as u64);
    }
}

/// How many bytes [`put_double`] writes.
pub(super) fn double_field_len(value: f64) -> usize {
    if value.to_bits() == 0 { 0 } else { 9 }
}

/// Writes a double field. Only positive zero is left out: minus zero is another value.
pub(super) fn put_double(out: &mut Vec<u8>, tag: u8, value: f64) {
    if value.to_bits() != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Writes a message field whose length is known only when it has been written, and returns that length.
///
/// Room for the length is left as `expected_len` would need it. A guess of another order costs one move of the message,
/// nothing else.
pub(super) fn put_message(
    out: &mut Vec<u8>,
    tag: u8,
    expected_len: usize,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    out.push(tag);
    let length_at = out.len();
    let guessed = varint_len(expected_len as u64);
    out.resize(length_at + guessed, 0);
    let start = out.len();
    write(out);

    let end = out.len();
    let length = end - start;
    let needed = varint_len(length as u64);
    if needed > guessed {
        out.resize(end + needed - guessed, 0);
    }
    if needed != guessed {
        out.copy_within(start..end, length_at + needed);
    }
    out.truncate(length_at + needed + length);

    let mut rest = length as u64;
    for byte in &mut out[length_at..length_at + needed - 1] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[length_at + needed - 1] = rest as u8;
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_what_is_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");

            let mut out = Vec::new();
            put_integer(&mut out, varint(1), value as i64);
            assert_eq!(out.len(), integer_field_len(value as i64), "{value}");
        }
    }

    #[test]
    fn a_wrong_guess_of_the_length_changes_nothing() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            let body = vec![7; length];
            let mut expected = vec![1];
            put_bytes(&mut expected, delimited(2), &body);
            for guess in [0, 127, 128, 20_000, 10_000_000] {
                let mut out = vec![1];
                let written = put_message(&mut out, delimited(2), guess, |out| out.extend_from_slice(&body));
                assert_eq!(written, length);
                assert!(out == expected, "length {length}, guess {guess}");
            }
        }
    }
}
