//! Values as words: `7`, `-7` and `+7`, `hex:00ff`, `string:TEXT`, and any other text.

use core::fmt;
use protocols::store::{KIND_BYTES, KIND_NONE, KIND_SIGNED, KIND_STRING, KIND_UNSIGNED};
use rt::alloc::vec::Vec;

pub struct Value {
    pub kind: u32,
    pub bytes: Vec<u8>,
}

/// None: `hex:` without pairs of digits.
pub fn read(text: &[u8]) -> Option<Value> {
    if let Some(digits) = text.strip_prefix(b"hex:") {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
        return Some(Value { kind: KIND_BYTES, bytes: digits.chunks(2).map(pair).collect::<Option<_>>()? });
    }
    let string = text.strip_prefix(b"string:");
    let word = core::str::from_utf8(text).unwrap_or("");
    let (kind, bytes) = match (word.parse::<u64>(), word.parse::<i64>()) {
        (Ok(number), _) if !word.starts_with('+') => (KIND_UNSIGNED, number.to_le_bytes().to_vec()),
        (_, Ok(number)) => (KIND_SIGNED, number.to_le_bytes().to_vec()),
        _ => (KIND_STRING, string.unwrap_or(text).to_vec()),
    };
    Some(Value { kind, bytes })
}

/// A value as a word: its kind and its bytes.
pub struct Shown<'a>(pub u32, pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut word = [0; 8];
        let length = self.1.len().min(8);
        word[..length].copy_from_slice(&self.1[..length]);
        match self.0 {
            KIND_NONE => f.write_str("deleted"),
            KIND_UNSIGNED => write!(f, "{}", u64::from_le_bytes(word)),
            KIND_SIGNED => write!(f, "{:+}", i64::from_le_bytes(word)),
            KIND_STRING => write!(f, "{:?}", core::str::from_utf8(self.1).unwrap_or("?")),
            _ => {
                f.write_str("hex:")?;
                self.1.iter().try_for_each(|byte| write!(f, "{:02x}", byte))
            }
        }
    }
}
