//! `%` directives of `stat`'s formats, with the flags, widths and precisions of `printf`.

use crate::common::accounts::Accounts;
use crate::common::calendar;
use crate::common::modes;
use crate::common::numbers;
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::system::{Kind, Metadata, System, Time};
use alloc::vec::Vec;

/// Who the owners are.
pub struct Names {
    pub users: Accounts,
    pub groups: Accounts,
}

/// One file's line under construction.
pub struct Report<'r> {
    pub path: &'r [u8],
    pub metadata: &'r Metadata,
    /// Does %N put names in quotes?
    pub quoted: bool,
    pub output: Vec<u8>,
}

/// What stands between `%` and the letter.
#[derive(Clone, Copy, Default)]
struct Shape {
    left: bool,
    zeros: bool,
    alternate: bool,
    /// What stands before a number that is not negative, of those that may be.
    sign: Option<u8>,
    width: usize,
    /// Some(None) is a lone point.
    precision: Option<Option<usize>>,
}

/// Widths beyond this are cut off: a format cannot exhaust memory.
const WIDEST: u64 = 4096;

impl<'r> Report<'r> {
    /// Expands a format. False, after a message, where it cannot be understood.
    pub fn expand<S: System>(
        &mut self,
        printer: &mut Printer,
        system: &mut S,
        names: &mut Names,
        format: &[u8],
        escapes: bool,
    ) -> bool {
        let mut rest = format;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'%' => {
                    let (shape, used) = shape(after);
                    let directive = &after[used..];
                    match self.directive(printer, system, names, shape, &after[..used], directive) {
                        Some(letters) => rest = &directive[letters..],
                        None => return false,
                    }
                }
                b'\\' if escapes => rest = self.escape(printer, system, after),
                other => self.output.push(other),
            }
        }
        true
    }

    /// Prints one directive; returns how many letters it had, None where it is invalid.
    fn directive<S: System>(
        &mut self,
        printer: &mut Printer,
        system: &mut S,
        names: &mut Names,
        shape: Shape,
        prefix: &[u8],
        text: &[u8],
    ) -> Option<usize> {
        let letter = text.first().copied();
        if letter.is_none() || letter == Some(b'%') {
            if prefix.is_empty() {
                self.output.push(b'%');
                return Some(text.len().min(1));
            }
            let bad = [b"%", prefix, &text[..text.len().min(1)]].concat();
            printer.fail(system, 1, &[&quoting::argument(&bad), b": invalid directive"]);
            return None;
        }
        let half = letter.filter(|letter| matches!(letter, b'H' | b'L'));
        if let (Some(half), Some(device @ (b'd' | b'r'))) = (half, text.get(1)) {
            let number = if *device == b'd' { self.metadata.device } else { self.metadata.special };
            let part = if half == b'H' { modes::major(number) } else { modes::minor(number) };
            self.number(shape, part, 10);
            return Some(2);
        }
        self.single_letter(printer, system, names, shape, letter.unwrap_or(b'?'));
        Some(1)
    }

    fn single_letter<S: System>(
        &mut self,
        printer: &mut Printer,
        system: &mut S,
        names: &mut Names,
        shape: Shape,
        letter: u8,
    ) {
        let metadata = self.metadata;
        match letter {
            b'n' => self.text(shape, self.path),
            b'N' => self.name_and_target(printer, system, shape),
            b'd' => self.number(shape, metadata.device, 10),
            b'D' => self.number(shape, metadata.device, 16),
            b'i' => self.number(shape, metadata.inode, 10),
            b'a' => self.number(shape, u64::from(metadata.mode & 0o7777), 8),
            b'A' => self.text(shape, &modes::text(metadata.mode)),
            b'f' => self.number(shape, u64::from(metadata.mode), 16),
            b'F' => self.text(shape, modes::words(metadata).as_bytes()),
            b'h' => self.number(shape, u64::from(metadata.links), 10),
            b'u' => self.number(shape, u64::from(metadata.user), 10),
            b'U' => self.text(shape, names.users.name(system, metadata.user).unwrap_or(b"UNKNOWN")),
            b'g' => self.number(shape, u64::from(metadata.group), 10),
            b'G' => self.text(shape, names.groups.name(system, metadata.group).unwrap_or(b"UNKNOWN")),
            b'r' => self.number(shape, metadata.special, 10),
            b'R' => self.number(shape, metadata.special, 16),
            b't' => self.number(shape, modes::major(metadata.special), 16),
            b'T' => self.number(shape, modes::minor(metadata.special), 16),
            b's' => self.number(shape, metadata.size, 10),
            b'b' => self.number(shape, metadata.blocks, 10),
            b'B' => self.number(shape, 512, 10),
            b'o' => self.number(shape, u64::from(metadata.block_bytes), 10),
            // One image is all that a program can see.
            b'm' => self.text(shape, b"/"),
            b'x' => self.date(shape, Some(metadata.accessed)),
            b'y' => self.date(shape, Some(metadata.modified)),
            b'z' => self.date(shape, Some(metadata.changed)),
            b'w' => self.date(shape, metadata.born),
            b'X' => self.seconds(shape, metadata.accessed),
            b'Y' => self.seconds(shape, metadata.modified),
            b'Z' => self.seconds(shape, metadata.changed),
            b'W' => self.seconds(shape, metadata.born.unwrap_or_default()),
            b'C' => {
                let path = quoting::shell_always(self.path);
                printer.fail(system, 1, &[b"failed to get security context of ", &path, b": No data available"]);
                self.text(shape, b"?");
            }
            _ => self.output.push(b'?'),
        }
    }

    fn name_and_target<S: System>(&mut self, printer: &mut Printer, system: &mut S, shape: Shape) {
        let quoted = self.quoted;
        let show = |name: &[u8]| if quoted { quoting::shell_always(name) } else { name.to_vec() };
        self.text(shape, &show(self.path));
        if self.metadata.kind() == Kind::SymbolicLink {
            match system.read_link(self.path) {
                Ok(target) => {
                    self.output.extend_from_slice(b" -> ");
                    self.text(shape, &show(&target));
                }
                Err(error) => {
                    let path = quoting::shell_always(self.path);
                    printer.fail_with(system, 1, &[b"cannot read symbolic link ", &path], error);
                }
            }
        }
    }

    fn text(&mut self, shape: Shape, text: &[u8]) {
        let most = shape.precision.map_or(usize::MAX, |precision| precision.unwrap_or(0));
        self.fill(shape, &text[..text.len().min(most)]);
    }

    fn number(&mut self, shape: Shape, value: u64, base: u32) {
        let mut digits = Vec::new();
        match base {
            8 => numbers::octal(&mut digits, value),
            16 => numbers::hexadecimal(&mut digits, value),
            _ => numbers::decimal(&mut digits, value),
        }
        let sign: &[u8] = match base {
            16 if shape.alternate && value != 0 => b"0x",
            _ => b"",
        };
        let mut least = shape.precision.map_or(0, |precision| precision.unwrap_or(0));
        if shape.precision.is_none() && shape.zeros && !shape.left {
            least = shape.width.saturating_sub(sign.len());
        }
        if base == 8 && shape.alternate && value != 0 {
            least = least.max(digits.len() + 1);
        }
        let zeros = least.saturating_sub(digits.len());
        let text = [sign, &b"0".repeat(zeros), &digits].concat();
        self.fill(shape, &text);
    }

    fn fill(&mut self, shape: Shape, text: &[u8]) {
        if shape.left {
            numbers::left_aligned(&mut self.output, text, shape.width);
        } else {
            numbers::right_aligned(&mut self.output, text, shape.width);
        }
    }

    fn date(&mut self, shape: Shape, time: Option<Time>) {
        let mut text = Vec::new();
        match time {
            Some(time) => calendar::format(&mut text, time, b"%Y-%m-%d %H:%M:%S.%N %z"),
            None => text.push(b'-'),
        }
        self.text(shape, &text);
    }

    /// Seconds since 1970; a precision adds that many digits after the point, a lone point nine.
    ///
    /// A width counts for the whole. Where it leaves the integer part two places at least, that part is
    /// aligned in them; what coreutils do with narrower ones is odd, and done here in the same way.
    fn seconds(&mut self, shape: Shape, time: Time) {
        const NANOSECONDS: u64 = 1_000_000_000;
        let digits = shape.precision.map_or(0, |precision| precision.unwrap_or(9));
        let mut whole = shape;
        if digits > 0 && shape.width > 1 {
            let places = (shape.width - 1).saturating_sub(digits);
            whole.width = if places > 1 && !shape.left { places } else { 0 };
            whole.left = shape.left && places <= 1;
        }
        // Before 1970 the fraction counts downwards from the next second.
        let (mut seconds, mut fraction) = (time.seconds, u64::from(time.nanoseconds));
        let divisor = 10u64.pow(9 - digits.min(9) as u32);
        let negative = seconds < 0;
        if negative && fraction != 0 {
            let parts = (NANOSECONDS - fraction) / divisor;
            seconds += i64::from(parts != 0);
            fraction = parts;
        } else {
            fraction /= divisor;
        }
        let printed = self.signed(whole, negative, seconds.unsigned_abs());
        if digits == 0 {
            return;
        }
        self.output.push(b'.');
        calendar::zero_padded(&mut self.output, fraction, digits.min(9));
        self.output.extend_from_slice(&b"0".repeat(digits.saturating_sub(9)));
        if printed + 1 < shape.width {
            let behind = (shape.width - printed - 1).abs_diff(digits.min(9));
            self.output.extend_from_slice(&b" ".repeat(behind.saturating_sub(digits.saturating_sub(9))));
        }
    }

    /// Prints a number with its sign; returns how many bytes that took.
    fn signed(&mut self, shape: Shape, negative: bool, value: u64) -> usize {
        let start = self.output.len();
        let sign = if negative { Some(b'-') } else { shape.sign };
        let mut text: Vec<u8> = sign.into_iter().collect();
        let digits = numbers::decimal_text(value);
        if shape.zeros && !shape.left {
            let zeros = shape.width.saturating_sub(text.len() + digits.len());
            text.extend_from_slice(&b"0".repeat(zeros));
        }
        text.extend_from_slice(&digits);
        self.fill(shape, &text);
        self.output.len() - start
    }

    /// Prints the escape that begins `text` (after the backslash) and returns what follows it.
    fn escape<'t, S: System>(&mut self, printer: &mut Printer, system: &mut S, text: &'t [u8]) -> &'t [u8] {
        let (&letter, after) = match text.split_first() {
            Some(split) => split,
            None => {
                printer.note(system, &[b"warning: backslash at end of format"]);
                self.output.push(b'\\');
                return text;
            }
        };
        let plain = match letter {
            b'a' => 7,
            b'b' => 8,
            b'e' => 27,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'"' | b'\\' => letter,
            b'0'..=b'7' => {
                let digits = text.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let value = text[..digits].iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                self.output.push(value as u8);
                return &text[digits..];
            }
            b'x' if after.first().map_or(false, u8::is_ascii_hexdigit) => {
                let digits = after.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
                let value = after[..digits]
                    .iter()
                    .fold(0, |value, &digit| value * 16 + (digit as char).to_digit(16).unwrap_or(0));
                self.output.push(value as u8);
                return &after[digits..];
            }
            other => {
                printer.note(system, &[b"warning: unrecognized escape '\\", &[other], b"'"]);
                other
            }
        };
        self.output.push(plain);
        after
    }
}

/// Reads flags, width and precision; returns how many bytes they take.
fn shape(text: &[u8]) -> (Shape, usize) {
    let mut shape = Shape::default();
    let mut at = 0;
    while let Some(flag) = text.get(at) {
        match flag {
            b'-' => shape.left = true,
            b'0' => shape.zeros = true,
            b'#' => shape.alternate = true,
            b'+' => shape.sign = Some(b'+'),
            b' ' => shape.sign = shape.sign.or(Some(b' ')),
            b'\'' | b'I' => {}
            _ => break,
        }
        at += 1;
    }
    let (width, used) = digits(&text[at..]);
    shape.width = width;
    at += used;
    if text.get(at) == Some(&b'.') {
        let (precision, used) = digits(&text[at + 1..]);
        shape.precision = Some(if used > 0 { Some(precision) } else { None });
        at += 1 + used;
    }
    (shape, at)
}

fn digits(text: &[u8]) -> (usize, usize) {
    let used = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = if used == 0 { 0 } else { numbers::parse(&text[..used]).unwrap_or(WIDEST).min(WIDEST) };
    (value as usize, used)
}
