//! `cat [OPTION]... [FILE]...`: copies files to standard output, marked up if asked.

use crate::common::numbers;
use crate::common::options::{choice, parse, Choice, Takes};
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::reading::{read_files, Consumer, Next};
use crate::common::system::{Errno, System};
use alloc::vec::Vec;

const NAME: &str = "cat";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    ShowAll,
    NumberNonblank,
    ShowEndsAndOdd,
    ShowEnds,
    Number,
    Squeeze,
    ShowTabsAndOdd,
    ShowTabs,
    Ignored,
    ShowOdd,
    Help,
    Version,
}

static CHOICES: [Choice<Meaning>; 12] = [
    choice(b'b', "number-nonblank", Takes::Nothing, Meaning::NumberNonblank),
    choice(b'n', "number", Takes::Nothing, Meaning::Number),
    choice(b's', "squeeze-blank", Takes::Nothing, Meaning::Squeeze),
    choice(b'v', "show-nonprinting", Takes::Nothing, Meaning::ShowOdd),
    choice(b'E', "show-ends", Takes::Nothing, Meaning::ShowEnds),
    choice(b'T', "show-tabs", Takes::Nothing, Meaning::ShowTabs),
    choice(b'A', "show-all", Takes::Nothing, Meaning::ShowAll),
    choice(b'e', "", Takes::Nothing, Meaning::ShowEndsAndOdd),
    choice(b't', "", Takes::Nothing, Meaning::ShowTabsAndOdd),
    choice(b'u', "", Takes::Nothing, Meaning::Ignored),
    choice(0, "help", Takes::Nothing, Meaning::Help),
    choice(0, "version", Takes::Nothing, Meaning::Version),
];

const USAGE: &[u8] = b"Usage: cat [OPTION]... [FILE]...
Copies files to standard output, one after the other.

  -n, --number             numbers all lines
  -b, --number-nonblank    numbers the lines that are not empty
  -s, --squeeze-blank      one empty line for several
  -v, --show-nonprinting   ^ and M- for bytes that cannot be seen
  -E, --show-ends          $ at the end of each line
  -T, --show-tabs          ^I for tabs
  -A, --show-all           the same as -vET;  -e is -vE;  -t is -vT
";

/// What is added to the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Markup {
    number: bool,
    number_nonblank: bool,
    squeeze: bool,
    odd: bool,
    ends: bool,
    tabs: bool,
}

/// Runs the program on the arguments after its name; returns its exit status.
pub fn run<S: System>(system: &mut S, arguments: &[&[u8]]) -> i32 {
    let mut printer = Printer::new(NAME);
    let parsed = match parse(&CHOICES, arguments) {
        Ok(parsed) => parsed,
        Err(message) => return printer.misuse(system, 1, &message),
    };
    let mut markup = Markup::default();
    for (meaning, _) in &parsed.options {
        match meaning {
            Meaning::ShowAll => markup = Markup { odd: true, ends: true, tabs: true, ..markup },
            Meaning::ShowEndsAndOdd => markup = Markup { odd: true, ends: true, ..markup },
            Meaning::ShowTabsAndOdd => markup = Markup { odd: true, tabs: true, ..markup },
            Meaning::NumberNonblank => markup.number_nonblank = true,
            Meaning::Number => markup.number = true,
            Meaning::Squeeze => markup.squeeze = true,
            Meaning::ShowOdd => markup.odd = true,
            Meaning::ShowEnds => markup.ends = true,
            Meaning::ShowTabs => markup.tabs = true,
            Meaning::Ignored => {}
            Meaning::Help | Meaning::Version => {
                let text: &[u8] = if *meaning == Meaning::Help { USAGE } else { b"cat (R3S3)\n" };
                printer.buffer().extend_from_slice(text);
                return printer.finish(system);
            }
        }
    }
    let operands: &[&[u8]] = if parsed.operands.is_empty() { &[b"-"] } else { &parsed.operands };
    let lines = Lines { markup, number: 0, at_start: true, empty_lines: 0, pending_return: false };
    let mut copying = Copying { printer: &mut printer, rest: operands.iter(), lines };
    read_files(system, &mut copying);
    if copying.lines.pending_return {
        printer.buffer().push(b'\r');
    }
    printer.finish(system)
}

struct Copying<'p, 'a> {
    printer: &'p mut Printer,
    rest: core::slice::Iter<'a, &'a [u8]>,
    lines: Lines,
}

impl<'p, 'a, S: System> Consumer<S> for Copying<'p, 'a> {
    fn next(&mut self, _: &mut S) -> Next {
        match self.rest.next() {
            Some(&b"-") => Next::Nothing(b"-".to_vec()),
            Some(name) => Next::File(name.to_vec()),
            None => Next::End,
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        if self.lines.markup == Markup::default() {
            self.printer.buffer().extend_from_slice(bytes);
        } else {
            self.lines.mark_up(bytes, self.printer.buffer());
        }
    }

    fn after_data(&mut self, system: &mut S) -> bool {
        self.printer.pass_on(system);
        !self.printer.output_lost()
    }

    fn finished(&mut self, system: &mut S, path: &[u8], result: Result<(), Errno>) {
        if let Err(error) = result {
            self.printer.fail_with(system, 1, &[&quoting::before_colon(path)], error);
        }
    }
}

/// Where in the lines of all files together the copy has got to.
struct Lines {
    markup: Markup,
    /// Of the last numbered line.
    number: u64,
    at_start: bool,
    /// Empty lines just before this place, at most 2.
    empty_lines: u32,
    /// With `-E`: a carriage return is held back until the byte after it, in the next file
    /// perhaps, tells whether it belongs to the end of a line.
    pending_return: bool,
}

impl Lines {
    fn mark_up(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        for &byte in bytes {
            if byte == b'\n' {
                self.line_end(output);
                continue;
            }
            if self.at_start {
                if self.markup.number || self.markup.number_nonblank {
                    self.print_number(output);
                }
                self.at_start = false;
                self.empty_lines = 0;
            }
            if self.pending_return {
                output.push(b'\r');
                self.pending_return = false;
            }
            self.show(byte, output);
        }
    }

    fn line_end(&mut self, output: &mut Vec<u8>) {
        if self.at_start {
            self.empty_lines = (self.empty_lines + 1).min(2);
            if self.markup.squeeze && self.empty_lines == 2 {
                return;
            }
            if self.markup.number && !self.markup.number_nonblank {
                self.print_number(output);
            }
        }
        if self.pending_return {
            output.extend_from_slice(b"^M");
            self.pending_return = false;
        }
        if self.markup.ends {
            output.push(b'$');
        }
        output.push(b'\n');
        self.at_start = true;
    }

    fn show(&mut self, byte: u8, output: &mut Vec<u8>) {
        match byte {
            b'\t' if self.markup.tabs => output.extend_from_slice(b"^I"),
            b'\t' => output.push(byte),
            b'\r' if self.markup.ends && !self.markup.odd => self.pending_return = true,
            _ if !self.markup.odd => output.push(byte),
            _ => {
                let low = byte & 0x7f;
                if byte >= 0x80 {
                    output.extend_from_slice(b"M-");
                }
                match low {
                    0x00..=0x1f => output.extend_from_slice(&[b'^', low + 64]),
                    0x7f => output.extend_from_slice(b"^?"),
                    _ => output.push(low),
                }
            }
        }
    }

    fn print_number(&mut self, output: &mut Vec<u8>) {
        self.number += 1;
        numbers::right_aligned(output, &numbers::decimal_text(self.number), 6);
        output.push(b'\t');
    }
}
