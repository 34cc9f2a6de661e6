//! Numbers as text: decimal, octal, and sizes for people.

use alloc::vec::Vec;

/// Appends `value` in decimal.
pub fn decimal(output: &mut Vec<u8>, value: u64) {
    in_base(output, value, 10);
}

/// Appends a signed `value` in decimal.
pub fn signed(output: &mut Vec<u8>, value: i64) {
    if value < 0 {
        output.push(b'-');
    }
    decimal(output, value.unsigned_abs());
}

/// Appends `value` in octal.
pub fn octal(output: &mut Vec<u8>, value: u64) {
    in_base(output, value, 8);
}

/// Appends `value` in hexadecimal, lower case.
pub fn hexadecimal(output: &mut Vec<u8>, value: u64) {
    in_base(output, value, 16);
}

fn in_base(output: &mut Vec<u8>, mut value: u64, base: u64) {
    let start = output.len();
    loop {
        output.push(b"0123456789abcdef"[(value % base) as usize]);
        value /= base;
        if value == 0 {
            break;
        }
    }
    output[start..].reverse();
}

/// `value` in decimal as text of its own.
pub fn decimal_text(value: u64) -> Vec<u8> {
    let mut text = Vec::new();
    decimal(&mut text, value);
    text
}

/// Appends `text` padded with spaces on the left to `width`.
pub fn right_aligned(output: &mut Vec<u8>, text: &[u8], width: usize) {
    for _ in text.len()..width {
        output.push(b' ');
    }
    output.extend_from_slice(text);
}

/// Appends `text` padded with spaces on the right to `width`.
pub fn left_aligned(output: &mut Vec<u8>, text: &[u8], width: usize) {
    output.extend_from_slice(text);
    for _ in text.len()..width {
        output.push(b' ');
    }
}

/// Reads an unsigned decimal number; None for anything else, overflow included.
pub fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// How `ls` prints sizes and block counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Units of so many bytes, rounded up.
    Unit(u64),
    /// `1.2K`: powers of 1024 with a letter, rounded up.
    Binary,
    /// `1.2k`: powers of 1000 with a letter, rounded up.
    Thousands,
}

/// `count` things of `unit` bytes each, as text in the given scale.
pub fn scaled(count: u64, unit: u64, scale: Scale) -> Vec<u8> {
    let bytes = u128::from(count) * u128::from(unit);
    match scale {
        Scale::Unit(size) => {
            let size = u128::from(size);
            decimal_text(((bytes + size - 1) / size) as u64)
        }
        Scale::Binary => with_letter(bytes, 1024, b"KMGTPEZ"),
        Scale::Thousands => with_letter(bytes, 1000, b"kMGTPEZ"),
    }
}

/// Rounds up to two figures below ten ("9.8K") and to whole numbers from ten on ("10K").
fn with_letter(bytes: u128, base: u128, letters: &[u8]) -> Vec<u8> {
    let mut power = 0;
    let mut divisor = 1u128;
    while bytes / divisor >= base && power < letters.len() {
        divisor *= base;
        power += 1;
    }
    if power == 0 {
        return decimal_text(bytes as u64);
    }
    let tenths = (bytes * 10 + divisor - 1) / divisor;
    let mut text = Vec::new();
    if tenths < 100 {
        decimal(&mut text, (tenths / 10) as u64);
        text.push(b'.');
        decimal(&mut text, (tenths % 10) as u64);
    } else {
        let mut whole = (bytes + divisor - 1) / divisor;
        // Rounding up may reach the next unit: 1023.5 KiB is printed as 1.0M.
        if whole == base && power < letters.len() {
            whole = 1;
            power += 1;
            decimal(&mut text, whole as u64);
            text.extend_from_slice(b".0");
        } else {
            decimal(&mut text, whole as u64);
        }
    }
    text.push(letters[power - 1]);
    text
}
