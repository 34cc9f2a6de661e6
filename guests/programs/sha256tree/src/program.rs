//! `sha256tree DIRECTORY...`: one `sha256sum` line for every regular file below the directories,
//! in the bytewise order of their absolute paths.

use crate::common::digests::{self, Digests, LineStyle};
use crate::common::options::{choice, parse, Choice, Takes};
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::reading::Next;
use crate::common::sha256::DIGEST_BYTES;
use crate::common::system::{Errno, System};
use crate::common::walk::{absolute, Step, Walk};

const NAME: &str = "sha256tree";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Help,
    Version,
}

static CHOICES: [Choice<Meaning>; 2] =
    [choice(0, "help", Takes::Nothing, Meaning::Help), choice(0, "version", Takes::Nothing, Meaning::Version)];

const USAGE: &[u8] = b"Usage: sha256tree DIRECTORY...
Prints the SHA-256 digest and the path of every regular file below the directories.
";

/// Runs the program on the arguments after its name; returns its exit status.
pub fn run<S: System>(system: &mut S, arguments: &[&[u8]]) -> i32 {
    let mut printer = Printer::new(NAME);
    let parsed = match parse(&CHOICES, arguments) {
        Ok(parsed) => parsed,
        Err(message) => return printer.misuse(system, 1, &message),
    };
    if let Some((meaning, _)) = parsed.options.first() {
        let text: &[u8] = if *meaning == Meaning::Help { USAGE } else { b"sha256tree (R3S3)\n" };
        printer.buffer().extend_from_slice(text);
        return printer.finish(system);
    }
    if parsed.operands.is_empty() {
        return printer.misuse(system, 1, b"missing operand");
    }
    for start in parsed.operands {
        let walk = Walk::new(system, &absolute(start));
        digests::compute(system, &mut Tree { printer: &mut printer, walk });
    }
    printer.finish(system)
}

struct Tree<'p> {
    printer: &'p mut Printer,
    walk: Walk,
}

impl<'p, S: System> Digests<S> for Tree<'p> {
    fn next(&mut self, system: &mut S) -> Next {
        loop {
            match self.walk.next(system) {
                Some(Step::File(path)) => return Next::File(path),
                Some(Step::Unreadable(path, error)) => {
                    self.printer.fail_with(system, 1, &[&quoting::before_colon(&path)], error);
                }
                None => return Next::End,
            }
        }
    }

    fn digest(&mut self, system: &mut S, path: &[u8], digest: Result<[u8; DIGEST_BYTES], Errno>) -> bool {
        match digest {
            Ok(digest) => {
                digests::line(self.printer.buffer(), LineStyle::USUAL, path, &digest);
                self.printer.pass_on(system);
            }
            Err(error) => digests::unreadable(self.printer, system, path, error),
        }
        !self.printer.output_lost()
    }
}
