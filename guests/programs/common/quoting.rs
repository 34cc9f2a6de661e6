//! File names in messages and listings, quoted as coreutils quote them in the C locale.
//!
//! In that locale every byte outside printable ASCII counts as unprintable.

use alloc::vec::Vec;

fn printable(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte)
}

/// The letter of a C escape such as `\n`, for bytes that have one.
fn c_escape(byte: u8) -> Option<u8> {
    Some(match byte {
        7 => b'a',
        8 => b'b',
        9 => b't',
        10 => b'n',
        11 => b'v',
        12 => b'f',
        13 => b'r',
        _ => return None,
    })
}

fn push_octal_escape(output: &mut Vec<u8>, byte: u8) {
    output.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
}

fn push_escape(output: &mut Vec<u8>, byte: u8) {
    match c_escape(byte) {
        Some(letter) => output.extend_from_slice(&[b'\\', letter]),
        None => push_octal_escape(output, byte),
    }
}

/// Does a shell read `name` as something else than itself?
fn shell_needs_quotes(name: &[u8]) -> bool {
    let special = |index: usize, byte: u8| match byte {
        b'{' | b'}' => name.len() == 1,
        b'#' | b'~' => index == 0,
        b' ' | b'!' | b'"' | b'$' | b'&' | b'(' | b')' | b'*' | b';' | b'<' | b'=' | b'>' | b'[' | b'^' | b'`'
        | b'|' | b'\'' | b'\\' | b'?' => true,
        _ => !printable(byte),
    };
    name.is_empty() || name.iter().enumerate().any(|(index, &byte)| special(index, byte))
}

/// May `byte` stand in double quotes unescaped, so that a name with an apostrophe can be shown as "it's"?
fn plain_in_double_quotes(name: &[u8], index: usize) -> bool {
    match name[index] {
        b'{' | b'}' => name.len() == 1,
        b'#' | b'~' => index == 0,
        b' ' | b'\'' | b'%' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b']' | b'_' | b'@' => true,
        byte => byte.is_ascii_alphanumeric(),
    }
}

/// A name as one shell word, always in quotes: `'a b'`, `"it's"`, `'a'$'\n''b'`.
pub fn shell_always(name: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(name.len() + 2);
    if name.contains(&b'\'') && (0..name.len()).all(|index| plain_in_double_quotes(name, index)) {
        output.push(b'"');
        output.extend_from_slice(name);
        output.push(b'"');
        return output;
    }
    output.push(b'\'');
    // Inside $'...'. Coreutils go over a name with an apostrophe twice and begin the second time in the state
    // in which the first has ended, which shows when the last byte is not printable.
    let mut in_escape = name.contains(&b'\'') && name.last().map_or(false, |&last| !printable(last));
    for &byte in name {
        if !printable(byte) {
            if !in_escape {
                output.extend_from_slice(b"'$'");
                in_escape = true;
            }
            push_escape(&mut output, byte);
            continue;
        }
        if byte == b'\'' {
            output.extend_from_slice(b"'\\''");
            in_escape = false;
            continue;
        }
        if in_escape {
            output.extend_from_slice(b"''");
            in_escape = false;
        }
        output.push(byte);
    }
    output.push(b'\'');
    output
}

/// A name as one shell word, in quotes only where a shell needs them.
pub fn shell(name: &[u8]) -> Vec<u8> {
    if shell_needs_quotes(name) {
        shell_always(name)
    } else {
        name.to_vec()
    }
}

/// As `shell`, for a name that a colon follows: one inside it is quoted too.
pub fn before_colon(name: &[u8]) -> Vec<u8> {
    if name.contains(&b':') {
        shell_always(name)
    } else {
        shell(name)
    }
}

/// An option's argument in a message: `'x'`, with C escapes.
pub fn argument(text: &[u8]) -> Vec<u8> {
    delimited(text, b'\'')
}

/// A name in double quotes with C escapes (`ls -Q`).
pub fn c_string(name: &[u8]) -> Vec<u8> {
    delimited(name, b'"')
}

fn delimited(text: &[u8], quote: u8) -> Vec<u8> {
    let mut output = Vec::with_capacity(text.len() + 2);
    output.push(quote);
    for &byte in text {
        if byte == quote || byte == b'\\' {
            output.push(b'\\');
            output.push(byte);
        } else if printable(byte) {
            output.push(byte);
        } else {
            push_escape(&mut output, byte);
        }
    }
    output.push(quote);
    output
}

/// A name with C escapes for unprintable bytes and backslashes before blanks (`ls -b`).
pub fn escaped(name: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b' ' | b'\\' => output.extend_from_slice(&[b'\\', byte]),
            byte if printable(byte) => output.push(byte),
            byte => push_escape(&mut output, byte),
        }
    }
    output
}

/// A name with a question mark for every unprintable byte (`ls -q`).
pub fn questioned(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if printable(byte) { byte } else { b'?' }).collect()
}

/// A name on a line of `sha256sum`. Backslash, newline and carriage return are escaped;
/// a line whose name has one begins with a backslash, which the second value tells.
pub fn digest_line(name: &[u8]) -> (Vec<u8>, bool) {
    let mut output = Vec::with_capacity(name.len());
    let mut escaped = false;
    for &byte in name {
        let letter = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            other => {
                output.push(other);
                continue;
            }
        };
        output.extend_from_slice(&[b'\\', letter]);
        escaped = true;
    }
    (output, escaped)
}

/// The inverse of `digest_line`; None for an escape that it never writes.
pub fn from_digest_line(name: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        output.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            0 => return None,
            other => other,
        });
    }
    Some(output)
}
