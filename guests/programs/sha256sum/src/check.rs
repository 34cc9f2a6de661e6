//! `sha256sum -c`: compares files with the digests in a list.

use super::Manner;
use crate::common::digests::{self, Digests};
use crate::common::numbers;
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::reading::{read_whole, Next};
use crate::common::sha256::{hexadecimal, DIGEST_BYTES};
use crate::common::system::{Errno, System};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A longer list is refused: it is held in memory.
const LARGEST_LIST: usize = 8 << 20;
const HEX_DIGITS: usize = 2 * DIGEST_BYTES;

/// One line that could be understood.
struct Listed {
    name: Vec<u8>,
    /// In lower case.
    digest: [u8; HEX_DIGITS],
    /// Numbers of the lines just before it that could not be understood.
    malformed_before: Vec<u64>,
}

/// Which of the two plain forms a list uses; the first plain line decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PlainForm {
    Unknown,
    /// Digest, space, space or asterisk, name.
    Usual,
    /// Digest, space, name, as BSD systems print with `-r`.
    Reversed,
}

struct Checking<'c> {
    printer: &'c mut Printer,
    shown_list: &'c [u8],
    manner: Manner,
    /// Listed files that were not asked for yet, and those under way.
    waiting: VecDeque<Listed>,
    under_way: VecDeque<Listed>,
    unreadable: u64,
    different: u64,
    any_same: bool,
}

/// Checks every file on a list and prints what became of it.
pub fn check<S: System>(printer: &mut Printer, system: &mut S, list: &[u8], manner: Manner) {
    let text = match list {
        b"-" => Vec::new(),
        _ => match read_whole(system, list, LARGEST_LIST) {
            Ok(text) => text,
            // Coreutils open a directory and fail to read it.
            Err(Errno::EISDIR) => {
                return printer.fail(system, 1, &[&quoting::before_colon(list), b": read error"]);
            }
            Err(error) => return digests::unreadable(printer, system, list, error),
        },
    };
    let shown_list: &[u8] = if list == b"-" { b"standard input" } else { list };
    let shown_list = quoting::before_colon(shown_list);
    let mut form = PlainForm::Unknown;
    let mut waiting = VecDeque::new();
    let mut malformed = 0;
    let mut malformed_before = Vec::new();
    for (index, line) in lines(&text).enumerate() {
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        match parse_line(line, &mut form) {
            Some((name, digest)) => {
                let malformed_before = core::mem::take(&mut malformed_before);
                waiting.push_back(Listed { name, digest, malformed_before });
            }
            None => {
                malformed += 1;
                malformed_before.push(index as u64 + 1);
            }
        }
    }
    if waiting.is_empty() {
        if manner.warn {
            warn_of_lines(printer, system, &shown_list, &malformed_before);
        }
        return printer.fail(system, 1, &[&shown_list, b": no properly formatted checksum lines found"]);
    }
    let mut checking = Checking {
        printer,
        shown_list: &shown_list,
        manner,
        waiting,
        under_way: VecDeque::new(),
        unreadable: 0,
        different: 0,
        any_same: false,
    };
    digests::compute(system, &mut checking);
    checking.warn_of_lines(system, &malformed_before);
    checking.summarize(system, malformed);
}

fn warn_of_lines<S: System>(printer: &mut Printer, system: &mut S, list: &[u8], numbers: &[u64]) {
    for &number in numbers {
        let number = numbers::decimal_text(number);
        printer.note(system, &[list, b": ", &number, b": improperly formatted SHA256 checksum line"]);
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Name and digest; None where the line is neither `digest  name` nor `SHA256 (name) = digest`.
fn parse_line(line: &[u8], form: &mut PlainForm) -> Option<(Vec<u8>, [u8; HEX_DIGITS])> {
    let mut rest = skip_blanks(line);
    let escaped = rest.first() == Some(&b'\\');
    if escaped {
        rest = &rest[1..];
    }
    let (name, digest) = match rest.strip_prefix(b"SHA256") {
        Some(tagged) => parse_tagged(tagged)?,
        None => parse_plain(rest, form)?,
    };
    let name = if escaped { quoting::from_digest_line(name)? } else { name.to_vec() };
    Some((name, digest_of(digest)?))
}

/// After the word SHA256: ` (name) = digest` or `(name)= digest`.
fn parse_tagged(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b" ").unwrap_or(text).strip_prefix(b"(")?;
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let after = skip_blanks(&text[end + 1..]).strip_prefix(b"=")?;
    Some((&text[..end], skip_blanks(after)))
}

fn parse_plain<'l>(text: &'l [u8], form: &mut PlainForm) -> Option<(&'l [u8], &'l [u8])> {
    if text.len() < HEX_DIGITS + 2 {
        return None;
    }
    let (digest, rest) = text.split_at(HEX_DIGITS);
    let name = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"\t"))?;
    digest_of(digest)?;
    if name.len() == 1 || !(name[0] == b' ' || name[0] == b'*') {
        // The two forms may not be mixed: a leading blank could be part of a name or not.
        if *form == PlainForm::Usual {
            return None;
        }
        *form = PlainForm::Reversed;
        return Some((name, digest));
    }
    if *form == PlainForm::Reversed {
        return Some((name, digest));
    }
    *form = PlainForm::Usual;
    Some((&name[1..], digest))
}

fn digest_of(text: &[u8]) -> Option<[u8; HEX_DIGITS]> {
    if text.len() != HEX_DIGITS || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut digest = [0; HEX_DIGITS];
    for (lower, byte) in digest.iter_mut().zip(text) {
        *lower = byte.to_ascii_lowercase();
    }
    Some(digest)
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    &text[blanks..]
}

impl<'c> Checking<'c> {
    fn report<S: System>(&mut self, system: &mut S, name: &[u8], verdict: &[u8]) {
        // Of the bytes that digests' lines escape only a newline matters here.
        let (shown, escaped) = if name.contains(&b'\n') { quoting::digest_line(name) } else { (name.to_vec(), false) };
        let start: &[u8] = if escaped { b"\\" } else { b"" };
        self.printer.buffer().extend_from_slice(&[start, &shown, b": ", verdict, b"\n"].concat());
        self.printer.pass_on(system);
    }

    fn warn_of_lines<S: System>(&mut self, system: &mut S, numbers: &[u64]) {
        if self.manner.warn {
            warn_of_lines(self.printer, system, self.shown_list, numbers);
        }
    }

    fn summarize<S: System>(mut self, system: &mut S, malformed: u64) {
        let (printer, manner) = (&mut self.printer, self.manner);
        // Results come before the summary where both go to one place.
        printer.flush(system);
        let mut warn = |count: u64, one: &str, many: &str| {
            if count > 0 && !manner.status_only {
                let text = if count == 1 { one } else { many };
                printer.note(system, &[b"WARNING: ", &numbers::decimal_text(count), b" ", text.as_bytes()]);
            }
        };
        warn(malformed, "line is improperly formatted", "lines are improperly formatted");
        warn(self.unreadable, "listed file could not be read", "listed files could not be read");
        warn(self.different, "computed checksum did NOT match", "computed checksums did NOT match");
        if manner.ignore_missing && !self.any_same && !manner.status_only {
            self.printer.note(system, &[self.shown_list, b": no file was verified"]);
        }
        let good = self.any_same && self.different == 0 && self.unreadable == 0;
        if !good || (manner.strict && malformed > 0) {
            self.printer.set_status(1);
        }
    }
}

impl<'c, S: System> Digests<S> for Checking<'c> {
    fn next(&mut self, _: &mut S) -> Next {
        match self.waiting.pop_front() {
            Some(listed) => {
                let name = listed.name.clone();
                self.under_way.push_back(listed);
                if name == b"-" {
                    Next::Nothing(name)
                } else {
                    Next::File(name)
                }
            }
            None => Next::End,
        }
    }

    fn digest(&mut self, system: &mut S, name: &[u8], digest: Result<[u8; DIGEST_BYTES], Errno>) -> bool {
        let listed = match self.under_way.pop_front() {
            Some(listed) => listed,
            None => return false,
        };
        self.warn_of_lines(system, &listed.malformed_before);
        match digest {
            Err(Errno::ENOENT) if self.manner.ignore_missing => {}
            Err(error) => {
                self.unreadable += 1;
                digests::unreadable(self.printer, system, name, error);
                if !self.manner.status_only {
                    self.report(system, name, b"FAILED open or read");
                }
            }
            Ok(digest) if hexadecimal(&digest) == listed.digest => {
                self.any_same = true;
                if !self.manner.status_only && !self.manner.quiet {
                    self.report(system, name, b"OK");
                }
            }
            Ok(_) => {
                self.different += 1;
                if !self.manner.status_only {
                    self.report(system, name, b"FAILED");
                }
            }
        }
        !self.printer.output_lost()
    }
}
