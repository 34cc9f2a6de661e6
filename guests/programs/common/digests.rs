//! Digests of many files in the order they are named, as lines like those of `sha256sum`.

use super::printer::Printer;
use super::quoting;
use super::reading::{read_files, Consumer, Next};
use super::sha256::{hexadecimal, Sha256, DIGEST_BYTES};
use super::system::{Errno, System};
use alloc::vec::Vec;

/// Names files and takes their digests.
pub trait Digests<S: System> {
    fn next(&mut self, system: &mut S) -> Next;

    /// Called once per file, in order. False: nobody wants more.
    fn digest(&mut self, system: &mut S, path: &[u8], digest: Result<[u8; DIGEST_BYTES], Errno>) -> bool;
}

struct Hashing<'d, D> {
    digests: &'d mut D,
    current: Sha256,
    wanted: bool,
}

impl<'d, S: System, D: Digests<S>> Consumer<S> for Hashing<'d, D> {
    fn next(&mut self, system: &mut S) -> Next {
        if self.wanted {
            self.digests.next(system)
        } else {
            Next::End
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        self.current.update(bytes);
    }

    fn after_data(&mut self, _: &mut S) -> bool {
        self.wanted
    }

    fn finished(&mut self, system: &mut S, path: &[u8], result: Result<(), Errno>) {
        let digest = core::mem::replace(&mut self.current, Sha256::new()).finish();
        if self.wanted {
            self.wanted = self.digests.digest(system, path, result.map(|()| digest));
        }
    }
}

/// Computes every digest that is asked for.
pub fn compute<S: System, D: Digests<S>>(system: &mut S, digests: &mut D) {
    read_files(system, &mut Hashing { digests, current: Sha256::new(), wanted: true });
}

/// The forms of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineStyle {
    /// `SHA256 (name) = digest`.
    pub tagged: bool,
    /// `*` before the name.
    pub binary: bool,
    /// Ends with NUL, and the name is not escaped.
    pub zero: bool,
}

impl LineStyle {
    pub const USUAL: LineStyle = LineStyle { tagged: false, binary: false, zero: false };
}

/// Appends the line of one file.
pub fn line(output: &mut Vec<u8>, style: LineStyle, name: &[u8], digest: &[u8; DIGEST_BYTES]) {
    let (shown, escaped) = if style.zero { (name.to_vec(), false) } else { quoting::digest_line(name) };
    if escaped {
        output.push(b'\\');
    }
    if style.tagged {
        output.extend_from_slice(b"SHA256 (");
        output.extend_from_slice(&shown);
        output.extend_from_slice(b") = ");
        output.extend_from_slice(&hexadecimal(digest));
    } else {
        output.extend_from_slice(&hexadecimal(digest));
        output.extend_from_slice(if style.binary { b" *" } else { b"  " });
        output.extend_from_slice(&shown);
    }
    output.push(if style.zero { 0 } else { b'\n' });
}

/// Reports a file that could not be read: `program: name: reason`.
pub fn unreadable<S: System>(printer: &mut Printer, system: &mut S, name: &[u8], error: Errno) {
    printer.fail_with(system, 1, &[&quoting::before_colon(name)], error);
}
