//! Names with numbers in them in the order of those numbers (`ls -v`): `a9` before `a10`, `a~` before `a`.
//!
//! The order is the one Debian uses for package versions, applied to names without what looks like a suffix,
//! and only then to the whole.

use core::cmp::Ordering;

pub fn compare(one: &[u8], other: &[u8]) -> Ordering {
    // Nothing, `.`, `..`, other hidden names, the rest: in this order.
    let rank = |name: &[u8]| match name {
        b"" => 0,
        b"." => 1,
        b".." => 2,
        _ if name[0] == b'.' => 3,
        _ => 4,
    };
    let by_rank = rank(one).cmp(&rank(other));
    if by_rank != Ordering::Equal || rank(one) < 3 {
        return by_rank;
    }
    let without_suffix = compare_versions(&one[..prefix_length(one)], &other[..prefix_length(other)]);
    without_suffix.then_with(|| compare_versions(one, other))
}

/// Bytes before a suffix such as `.tar.gz`: parts that begin with a dot and a letter (or `~`), at the end.
fn prefix_length(name: &[u8]) -> usize {
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'~';
    let begins_part = |at: usize| name.get(at) == Some(&b'.') && name.get(at + 1).map_or(false, begins);
    let mut at = 0;
    let mut prefix = 0;
    while at < name.len() {
        at += 1;
        prefix = at;
        while begins_part(at) {
            let part = name[at + 2..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'~');
            at += 2 + part.count();
        }
    }
    prefix
}

/// How a byte outside a number counts; `~` comes before the end of a name, and that before everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => -1,
        Some(b'~') => -2,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn compare_versions(mut one: &[u8], mut other: &[u8]) -> Ordering {
    let is_text = |rest: &[u8]| rest.first().map_or(false, |byte| !byte.is_ascii_digit());
    while !one.is_empty() || !other.is_empty() {
        while is_text(one) || is_text(other) {
            let order = weight(one.first()).cmp(&weight(other.first()));
            if order != Ordering::Equal {
                return order;
            }
            one = one.get(1..).unwrap_or(b"");
            other = other.get(1..).unwrap_or(b"");
        }
        let (number, rest) = split_number(one);
        let (other_number, other_rest) = split_number(other);
        let order = number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number));
        if order != Ordering::Equal {
            return order;
        }
        one = rest;
        other = other_rest;
    }
    Ordering::Equal
}

/// The digits at the beginning without leading zeros, and what follows them.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let digits = text[zeros..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (&text[zeros..zeros + digits], &text[zeros + digits..])
}
