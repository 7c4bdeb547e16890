//! The texts of one message, each once.

use std::hash::{BuildHasher, RandomState};

use twox_hash::XxHash3_64;

use crate::formats::protobuf::{delimited, put_bytes};

pub(super) const REQUEST_SYMBOLS: u64 = 4;

/// Grows by itself; a small message needs no more.
const SLOTS_MIN: usize = 256;

/// A table of symbols on its way to be one. A text's reference is its place in the table.
pub(super) struct Symbols {
    /// The field as the wire has it, text by text.
    encoded: Vec<u8>,
    /// Where each text begins in it, and its length.
    spans: Vec<(u32, u32)>,
    /// Open addressing: one more than a reference, 0 is free. At most half is taken.
    slots: Vec<u32>,
    /// By chance: who makes up labels can't make them collide.
    seed: u64,
}

impl Symbols {
    /// With the empty text, which has the reference 0.
    pub(super) fn new() -> Self {
        let (slots, seed) = (vec![0; SLOTS_MIN], RandomState::new().hash_one(0));
        let mut symbols = Symbols { encoded: Vec::new(), spans: Vec::new(), slots, seed };
        symbols.reference(b"");
        symbols
    }

    /// The text's reference; it gets one if it is new.
    pub(super) fn reference(&mut self, text: &[u8]) -> u32 {
        let mut slot = self.slot(text);
        while let Some(reference) = self.slots[slot].checked_sub(1) {
            if self.text(reference) == text {
                return reference;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        let reference = self.spans.len() as u32;
        put_bytes(&mut self.encoded, delimited(REQUEST_SYMBOLS as u8), text);
        self.spans.push(((self.encoded.len() - text.len()) as u32, text.len() as u32));
        self.slots[slot] = reference + 1;
        if self.spans.len() * 2 > self.slots.len() {
            self.grow();
        }
        reference
    }

    /// The table as the wire has it.
    pub(super) fn into_encoded(self) -> Vec<u8> {
        self.encoded
    }

    fn slot(&self, text: &[u8]) -> usize {
        XxHash3_64::oneshot_with_seed(self.seed, text) as usize & (self.slots.len() - 1)
    }

    fn text(&self, reference: u32) -> &[u8] {
        let (start, length) = self.spans[reference as usize];
        &self.encoded[start as usize..][..length as usize]
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        for reference in 0..self.spans.len() as u32 {
            let mut slot = self.slot(self.text(reference));
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = reference + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::wire::Fields;

    #[test]
    fn each_text_is_there_once_and_keeps_its_reference() {
        let mut symbols = Symbols::new();
        let texts: Vec<String> = (0..5_000).map(|number| format!("text {number}")).collect();
        let first: Vec<u32> = texts.iter().map(|text| symbols.reference(text.as_bytes())).collect();
        assert_eq!(first, Vec::from_iter(1..=5_000));
        let again: Vec<u32> = texts.iter().map(|text| symbols.reference(text.as_bytes())).collect();
        assert_eq!((first, symbols.reference(b"")), (again, 0));
        let encoded = symbols.into_encoded();
        let written: Vec<&[u8]> = Fields::of(&encoded)
            .map(|field| field.and_then(|(_, text)| text.bytes()).expect("a text"))
            .collect();
        assert_eq!(written.len(), 5_001);
        assert!(written[0].is_empty() && written[1..].iter().copied().eq(texts.iter().map(String::as_bytes)));
    }
}
