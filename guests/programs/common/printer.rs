//! A program's output, diagnostics and exit status.

use super::errors;
use super::numbers;
use super::system::{Errno, Stream, System};
use alloc::vec::Vec;

/// Output is handed on in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Standard output (buffered), standard error (not buffered) and the status a program will end with.
pub struct Printer {
    program: &'static str,
    buffer: Vec<u8>,
    status: i32,
    output_lost: bool,
}

impl Printer {
    pub fn new(program: &'static str) -> Self {
        Printer { program, buffer: Vec::new(), status: 0, output_lost: false }
    }

    /// What was printed and not yet handed on: append to it, then call `pass_on`.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Hands on what has become large enough.
    pub fn pass_on<S: System>(&mut self, system: &mut S) {
        if self.buffer.len() >= PIECE_BYTES {
            self.flush(system);
        }
    }

    /// Hands everything on.
    pub fn flush<S: System>(&mut self, system: &mut S) {
        if self.buffer.is_empty() {
            return;
        }
        let lost = system.write(Stream::Output, &self.buffer).is_err();
        self.output_lost |= lost;
        self.buffer.clear();
    }

    /// Nobody reads the output any more: there is no reason to go on.
    pub fn output_lost(&self) -> bool {
        self.output_lost
    }

    /// Prints `program: message` to standard error and remembers the status, the worst one wins.
    pub fn fail<S: System>(&mut self, system: &mut S, status: i32, message: &[&[u8]]) {
        self.note(system, message);
        self.set_status(status);
    }

    /// Remembers a status, the worst one wins.
    pub fn set_status(&mut self, status: i32) {
        self.status = self.status.max(status);
    }

    /// As `fail`, with the text of an error number at the end.
    pub fn fail_with<S: System>(&mut self, system: &mut S, status: i32, message: &[&[u8]], error: Errno) {
        let mut parts = message.to_vec();
        parts.push(b": ");
        let text = error_text(error);
        parts.push(&text);
        self.fail(system, status, &parts);
    }

    /// Prints `program: message` to standard error.
    pub fn note<S: System>(&mut self, system: &mut S, message: &[&[u8]]) {
        let mut line = self.program.as_bytes().to_vec();
        line.extend_from_slice(b": ");
        line.extend_from_slice(&message.concat());
        line.push(b'\n');
        // Whoever cannot be told of an error cannot be told that either; the status says it.
        let _ = system.write(Stream::Error, &line);
    }

    /// A command line that cannot be understood: the message and where to find help.
    pub fn misuse<S: System>(&mut self, system: &mut S, status: i32, message: &[u8]) -> i32 {
        if !message.is_empty() {
            self.fail(system, status, &[message]);
        }
        let hint = [b"Try '", self.program.as_bytes(), b" --help' for more information.\n"].concat();
        let _ = system.write(Stream::Error, &hint);
        self.status = self.status.max(status);
        self.finish(system)
    }

    /// Hands on what is left and returns the status to exit with.
    pub fn finish<S: System>(&mut self, system: &mut S) -> i32 {
        self.flush(system);
        if self.output_lost {
            self.fail(system, 1, &[b"write error"]);
        }
        self.status
    }

    /// The status so far.
    pub fn status(&self) -> i32 {
        self.status
    }
}

/// The text of an error number, known or not.
pub fn error_text(error: Errno) -> Vec<u8> {
    match errors::text(error) {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let mut text = b"Unknown error ".to_vec();
            numbers::signed(&mut text, i64::from(error.0));
            text
        }
    }
}
