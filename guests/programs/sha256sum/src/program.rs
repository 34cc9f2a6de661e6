//! `sha256sum [OPTION]... [FILE]...`: prints or checks digests.

use crate::common::digests::{self, Digests, LineStyle};
use crate::common::options::{choice, parse, Choice, Takes};
use crate::common::printer::Printer;
use crate::common::reading::Next;
use crate::common::sha256::DIGEST_BYTES;
use crate::common::system::{Errno, System};

#[path = "check.rs"]
mod check;

const NAME: &str = "sha256sum";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Binary,
    Text,
    Tag,
    Zero,
    Check,
    IgnoreMissing,
    Quiet,
    Status,
    Strict,
    Warn,
    Help,
    Version,
}

static CHOICES: [Choice<Meaning>; 12] = [
    choice(b'b', "binary", Takes::Nothing, Meaning::Binary),
    choice(b'c', "check", Takes::Nothing, Meaning::Check),
    choice(0, "ignore-missing", Takes::Nothing, Meaning::IgnoreMissing),
    choice(0, "quiet", Takes::Nothing, Meaning::Quiet),
    choice(0, "status", Takes::Nothing, Meaning::Status),
    choice(b't', "text", Takes::Nothing, Meaning::Text),
    choice(b'w', "warn", Takes::Nothing, Meaning::Warn),
    choice(0, "strict", Takes::Nothing, Meaning::Strict),
    choice(0, "tag", Takes::Nothing, Meaning::Tag),
    choice(b'z', "zero", Takes::Nothing, Meaning::Zero),
    choice(0, "help", Takes::Nothing, Meaning::Help),
    choice(0, "version", Takes::Nothing, Meaning::Version),
];

const USAGE: &[u8] = b"Usage: sha256sum [OPTION]... [FILE]...
Prints SHA-256 digests of files, or checks them.

  -b, --binary          marks names with an asterisk
  -t, --text            does not (default)
      --tag             lines of the form SHA256 (name) = digest
  -z, --zero            ends lines with NUL and does not escape names
  -c, --check           reads digests from the files and checks them
      --ignore-missing  no complaint about listed files that do not exist
      --quiet           no OK for files that are as listed
      --status          no output, the exit status tells
      --strict          fails for lines that cannot be understood
  -w, --warn            names lines that cannot be understood
";

/// What checking prints and what it lets pass.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    ignore_missing: bool,
    quiet: bool,
    status_only: bool,
    strict: bool,
    warn: bool,
}

#[derive(Default)]
struct Settings {
    check: bool,
    tagged: bool,
    zero: bool,
    /// `Some(true)` for `-b`, `Some(false)` for `-t`.
    binary: Option<bool>,
    manner: Manner,
}

/// Runs the program on the arguments after its name; returns its exit status.
pub fn run<S: System>(system: &mut S, arguments: &[&[u8]]) -> i32 {
    let mut printer = Printer::new(NAME);
    let parsed = match parse(&CHOICES, arguments) {
        Ok(parsed) => parsed,
        Err(message) => return printer.misuse(system, 1, &message),
    };
    let mut settings = Settings::default();
    for (meaning, _) in &parsed.options {
        let manner = &mut settings.manner;
        match meaning {
            Meaning::Binary => settings.binary = Some(true),
            Meaning::Text => settings.binary = Some(false),
            Meaning::Tag => {
                settings.tagged = true;
                settings.binary = Some(true);
            }
            Meaning::Zero => settings.zero = true,
            Meaning::Check => settings.check = true,
            Meaning::IgnoreMissing => manner.ignore_missing = true,
            // The last one of these three counts.
            Meaning::Quiet => *manner = Manner { quiet: true, status_only: false, warn: false, ..*manner },
            Meaning::Status => *manner = Manner { quiet: false, status_only: true, warn: false, ..*manner },
            Meaning::Warn => *manner = Manner { quiet: false, status_only: false, warn: true, ..*manner },
            Meaning::Strict => manner.strict = true,
            Meaning::Help => return print_and_finish(printer, system, USAGE),
            Meaning::Version => return print_and_finish(printer, system, b"sha256sum (R3S3)\n"),
        }
    }
    if let Some(message) = contradiction(&settings) {
        return printer.misuse(system, 1, message.as_bytes());
    }
    let operands: &[&[u8]] = if parsed.operands.is_empty() { &[b"-"] } else { &parsed.operands };
    if settings.check {
        for list in operands {
            check::check(&mut printer, system, list, settings.manner);
        }
    } else {
        let style = LineStyle { tagged: settings.tagged, binary: settings.binary == Some(true), zero: settings.zero };
        digests::compute(system, &mut Print { printer: &mut printer, rest: operands.iter(), style });
    }
    printer.finish(system)
}

fn print_and_finish<S: System>(mut printer: Printer, system: &mut S, text: &[u8]) -> i32 {
    printer.buffer().extend_from_slice(text);
    printer.finish(system)
}

/// Options that do not go together.
fn contradiction(settings: &Settings) -> Option<&'static str> {
    let manner = &settings.manner;
    if settings.tagged && settings.binary == Some(false) {
        return Some("--tag does not support --text mode");
    }
    if settings.check {
        return if settings.zero {
            Some("the --zero option is not supported when verifying checksums")
        } else if settings.tagged {
            Some("the --tag option is meaningless when verifying checksums")
        } else if settings.binary.is_some() {
            Some("the --binary and --text options are meaningless when verifying checksums")
        } else {
            None
        };
    }
    let only_checking = [
        (manner.ignore_missing, "the --ignore-missing option is meaningful only when verifying checksums"),
        (manner.status_only, "the --status option is meaningful only when verifying checksums"),
        (manner.warn, "the --warn option is meaningful only when verifying checksums"),
        (manner.quiet, "the --quiet option is meaningful only when verifying checksums"),
        (manner.strict, "the --strict option is meaningful only when verifying checksums"),
    ];
    only_checking.iter().find(|(given, _)| *given).map(|(_, message)| *message)
}

struct Print<'p, 'a> {
    printer: &'p mut Printer,
    rest: core::slice::Iter<'a, &'a [u8]>,
    style: LineStyle,
}

impl<'p, 'a, S: System> Digests<S> for Print<'p, 'a> {
    fn next(&mut self, _: &mut S) -> Next {
        match self.rest.next() {
            Some(&b"-") => Next::Nothing(b"-".to_vec()),
            Some(name) => Next::File(name.to_vec()),
            None => Next::End,
        }
    }

    fn digest(&mut self, system: &mut S, path: &[u8], digest: Result<[u8; DIGEST_BYTES], Errno>) -> bool {
        match digest {
            Ok(digest) => {
                digests::line(self.printer.buffer(), self.style, path, &digest);
                self.printer.pass_on(system);
            }
            Err(error) => digests::unreadable(self.printer, system, path, error),
        }
        !self.printer.output_lost()
    }
}
