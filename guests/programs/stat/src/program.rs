//! `stat [OPTION]... FILE...`: what the file system knows about files.

use crate::common::accounts::Accounts;
use crate::common::options::{choice, parse, Choice, Takes};
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::system::{Kind, System};
use alloc::vec::Vec;

#[path = "directives.rs"]
mod directives;

use directives::{Names, Report};

const NAME: &str = "stat";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Dereference,
    Format,
    Printf,
    Terse,
    Help,
    Version,
}

static CHOICES: [Choice<Meaning>; 6] = [
    choice(b'L', "dereference", Takes::Nothing, Meaning::Dereference),
    choice(b'c', "format", Takes::Argument, Meaning::Format),
    choice(0, "printf", Takes::Argument, Meaning::Printf),
    choice(b't', "terse", Takes::Nothing, Meaning::Terse),
    choice(0, "help", Takes::Nothing, Meaning::Help),
    choice(0, "version", Takes::Nothing, Meaning::Version),
];

const USAGE: &[u8] = b"Usage: stat [OPTION]... FILE...
Displays what the file system knows about files.

  -L, --dereference     follows symbolic links
  -c, --format=FORMAT   prints FORMAT and a newline for each file
      --printf=FORMAT   the same without newline, with escapes such as \\n
  -t, --terse           one line per file

Directives: %a %A mode, %b %B blocks and their size, %d %D %Hd %Ld device, %f raw mode, %F kind, %g %G group,
%h links, %i inode, %m mount point, %n %N name, %o best size of a read, %r %R %Hr %Lr %t %T special device,
%s size, %u %U user, %w %W birth, %x %X access, %y %Y modification, %z %Z change.
";

const TERSE: &[u8] = b"%n %s %b %f %u %g %D %i %h %t %T %X %Y %Z %W %o\n";

/// The default format for ordinary files.
const USUAL: &[u8] = b"  File: %N\n  Size: %-10s\tBlocks: %-10b IO Block: %-6o %F
Device: %Hd,%Ld\tInode: %-10i  Links: %h
Access: (%04a/%10.10A)  Uid: (%5u/%8U)   Gid: (%5g/%8G)
Access: %x\nModify: %y\nChange: %z\n Birth: %w\n";

/// The same for special files.
const SPECIAL: &[u8] = b"  File: %N\n  Size: %-10s\tBlocks: %-10b IO Block: %-6o %F
Device: %Hd,%Ld\tInode: %-10i  Links: %-5h Device type: %Hr,%Lr
Access: (%04a/%10.10A)  Uid: (%5u/%8U)   Gid: (%5g/%8G)
Access: %x\nModify: %y\nChange: %z\n Birth: %w\n";

/// A user's own format, with or without escapes and a newline at the end.
struct Format<'a> {
    text: &'a [u8],
    escapes: bool,
}

/// Runs the program on the arguments after its name; returns its exit status.
pub fn run<S: System>(system: &mut S, arguments: &[&[u8]]) -> i32 {
    let mut printer = Printer::new(NAME);
    let parsed = match parse(&CHOICES, arguments) {
        Ok(parsed) => parsed,
        Err(message) => return printer.misuse(system, 1, &message),
    };
    let mut follow = false;
    let mut terse = false;
    let mut format = None;
    for (meaning, argument) in &parsed.options {
        match meaning {
            Meaning::Dereference => follow = true,
            Meaning::Format => format = argument.map(|text| Format { text, escapes: false }),
            Meaning::Printf => format = argument.map(|text| Format { text, escapes: true }),
            Meaning::Terse => terse = true,
            Meaning::Help | Meaning::Version => {
                let text: &[u8] = if *meaning == Meaning::Help { USAGE } else { b"stat (R3S3)\n" };
                printer.buffer().extend_from_slice(text);
                return printer.finish(system);
            }
        }
    }
    if parsed.operands.is_empty() {
        return printer.misuse(system, 1, b"missing operand");
    }
    let mut names = Names { users: Accounts::users(), groups: Accounts::groups() };
    for operand in parsed.operands {
        if !report(&mut printer, system, operand, follow, terse, format.as_ref(), &mut names) {
            break;
        }
    }
    printer.finish(system)
}

/// Prints one file. False: the format cannot be understood, there is no sense in going on.
fn report<S: System>(
    printer: &mut Printer,
    system: &mut S,
    path: &[u8],
    follow: bool,
    terse: bool,
    format: Option<&Format<'_>>,
    names: &mut Names,
) -> bool {
    if path == b"-" {
        printer.fail(system, 1, &[b"cannot stat standard input: Bad file descriptor"]);
        return true;
    }
    let metadata = match system.stat(path, follow) {
        Ok(metadata) => metadata,
        Err(error) => {
            printer.fail_with(system, 1, &[b"cannot statx ", &quoting::shell_always(path)], error);
            return true;
        }
    };
    // Only a format that asks for the name without further ado gets it in quotes.
    let quoted = format.map_or(false, |format| format.text.windows(2).any(|pair| pair == b"%N"));
    let mut report = Report { path, metadata: &metadata, quoted, output: Vec::new() };
    let understood = match format {
        Some(format) => {
            let understood = report.expand(printer, system, names, format.text, format.escapes);
            if understood && !format.escapes {
                report.output.push(b'\n');
            }
            understood
        }
        None => {
            let special = matches!(metadata.kind(), Kind::CharacterDevice | Kind::BlockDevice);
            let text = if terse {
                TERSE
            } else if special {
                SPECIAL
            } else {
                USUAL
            };
            report.expand(printer, system, names, text, false)
        }
    };
    let output = report.output;
    printer.buffer().extend_from_slice(&output);
    printer.pass_on(system);
    understood
}
