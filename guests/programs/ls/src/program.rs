//! `ls [OPTION]... [FILE]...`: lists directories, in the C locale, to something that is no terminal.

use crate::common::options::{choice, parse, Choice, Parsed, Takes};
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::system::System;
use alloc::vec::Vec;

#[path = "listing.rs"]
mod listing;
#[path = "long.rs"]
mod long;
#[path = "settings.rs"]
mod settings;
#[path = "versions.rs"]
mod versions;

use settings::{Dereference, Hidden, Indicator, Look, Order, Settings, Stamp, When};

const NAME: &str = "ls";

/// A problem with something named on the command line.
pub const SERIOUS: i32 = 2;
/// A problem with something found in a directory.
pub const MINOR: i32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    All,
    AlmostAll,
    Escape,
    IgnoreBackups,
    ChangeTime,
    Directory,
    Unsorted,
    Raw,
    Classify,
    FileType,
    FullTime,
    LongWithoutOwner,
    DirectoriesFirst,
    NoGroup,
    Human,
    HumanThousands,
    DereferenceArguments,
    DereferenceToDirectory,
    IndicatorStyle,
    Inode,
    Kibibytes,
    Long,
    Dereference,
    Numeric,
    Literal,
    LongWithoutGroup,
    Slash,
    Question,
    ShowControl,
    Quote,
    Reverse,
    Recursive,
    Blocks,
    BySize,
    Sort,
    Time,
    TimeStyle,
    ByTime,
    AccessTime,
    ByExtension,
    ByVersion,
    OnePerLine,
    Help,
    Version,
}

static CHOICES: [Choice<Meaning>; 45] = [
    choice(b'a', "all", Takes::Nothing, Meaning::All),
    choice(b'b', "escape", Takes::Nothing, Meaning::Escape),
    choice(b'd', "directory", Takes::Nothing, Meaning::Directory),
    choice(0, "full-time", Takes::Nothing, Meaning::FullTime),
    choice(0, "group-directories-first", Takes::Nothing, Meaning::DirectoriesFirst),
    choice(b'h', "human-readable", Takes::Nothing, Meaning::Human),
    choice(b'i', "inode", Takes::Nothing, Meaning::Inode),
    choice(b'k', "kibibytes", Takes::Nothing, Meaning::Kibibytes),
    choice(b'n', "numeric-uid-gid", Takes::Nothing, Meaning::Numeric),
    choice(b'G', "no-group", Takes::Nothing, Meaning::NoGroup),
    choice(b'q', "hide-control-chars", Takes::Nothing, Meaning::Question),
    choice(b'r', "reverse", Takes::Nothing, Meaning::Reverse),
    choice(b's', "size", Takes::Nothing, Meaning::Blocks),
    choice(b'A', "almost-all", Takes::Nothing, Meaning::AlmostAll),
    choice(b'B', "ignore-backups", Takes::Nothing, Meaning::IgnoreBackups),
    choice(b'F', "", Takes::Nothing, Meaning::Classify),
    choice(0, "classify", Takes::MaybeArgument, Meaning::Classify),
    choice(0, "file-type", Takes::Nothing, Meaning::FileType),
    choice(0, "si", Takes::Nothing, Meaning::HumanThousands),
    choice(b'H', "dereference-command-line", Takes::Nothing, Meaning::DereferenceArguments),
    choice(0, "dereference-command-line-symlink-to-dir", Takes::Nothing, Meaning::DereferenceToDirectory),
    choice(0, "indicator-style", Takes::Argument, Meaning::IndicatorStyle),
    choice(b'L', "dereference", Takes::Nothing, Meaning::Dereference),
    choice(b'N', "literal", Takes::Nothing, Meaning::Literal),
    choice(b'Q', "quote-name", Takes::Nothing, Meaning::Quote),
    choice(b'R', "recursive", Takes::Nothing, Meaning::Recursive),
    choice(0, "show-control-chars", Takes::Nothing, Meaning::ShowControl),
    choice(0, "sort", Takes::Argument, Meaning::Sort),
    choice(0, "time", Takes::Argument, Meaning::Time),
    choice(0, "time-style", Takes::Argument, Meaning::TimeStyle),
    choice(b'c', "", Takes::Nothing, Meaning::ChangeTime),
    choice(b'f', "", Takes::Nothing, Meaning::Raw),
    choice(b'g', "", Takes::Nothing, Meaning::LongWithoutOwner),
    choice(b'l', "", Takes::Nothing, Meaning::Long),
    choice(b'o', "", Takes::Nothing, Meaning::LongWithoutGroup),
    choice(b'p', "", Takes::Nothing, Meaning::Slash),
    choice(b't', "", Takes::Nothing, Meaning::ByTime),
    choice(b'u', "", Takes::Nothing, Meaning::AccessTime),
    choice(b'S', "", Takes::Nothing, Meaning::BySize),
    choice(b'U', "", Takes::Nothing, Meaning::Unsorted),
    choice(b'v', "", Takes::Nothing, Meaning::ByVersion),
    choice(b'X', "", Takes::Nothing, Meaning::ByExtension),
    choice(b'1', "", Takes::Nothing, Meaning::OnePerLine),
    choice(0, "help", Takes::Nothing, Meaning::Help),
    choice(0, "version", Takes::Nothing, Meaning::Version),
];

const USAGE: &[u8] = b"Usage: ls [OPTION]... [FILE]...
Lists files and what directories contain, the root of the image by default.

What:     -a, --all  -A, --almost-all  -B, --ignore-backups  -d, --directory  -R, --recursive
Links:    -H  -L, --dereference
Details:  -l  -g  -o  -n, --numeric-uid-gid  -G, --no-group  -i, --inode  -s, --size  -1
Sizes:    -h, --human-readable  --si  -k, --kibibytes
Names:    -b, --escape  -N, --literal  -q, --hide-control-chars  -Q, --quote-name
          -F, --classify  --file-type  -p  --indicator-style=WORD
Order:    -S  -t  -U  -X  -v  -f  -r, --reverse  --sort=WORD  --group-directories-first
Times:    -c  -u  --time=WORD  --time-style=STYLE  --full-time
";

/// Runs the program on the arguments after its name; returns its exit status.
pub fn run<S: System>(system: &mut S, arguments: &[&[u8]]) -> i32 {
    let mut printer = Printer::new(NAME);
    let parsed = match parse(&CHOICES, arguments) {
        Ok(parsed) => parsed,
        Err(message) => return printer.misuse(system, SERIOUS, &message),
    };
    let special = parsed.options.iter().find(|(meaning, _)| matches!(meaning, Meaning::Help | Meaning::Version));
    if let Some((meaning, _)) = special {
        let text: &[u8] = if *meaning == Meaning::Help { USAGE } else { b"ls (R3S3)\n" };
        printer.buffer().extend_from_slice(text);
        return printer.finish(system);
    }
    let settings = match understand(&parsed) {
        Ok(settings) => settings,
        Err((status, message)) => return printer.misuse(system, status, &message),
    };
    listing::list(&mut printer, system, &settings, &parsed.operands);
    printer.finish(system)
}

/// A message without the program's name, and the status to end with.
type Misuse = (i32, Vec<u8>);

/// What the options amount to.
fn understand(parsed: &Parsed<'_, Meaning>) -> Result<Settings, Misuse> {
    let mut settings = Settings::default();
    let mut order = None;
    let mut dereference = None;
    let mut time_chosen = false;
    for &(meaning, argument) in &parsed.options {
        let given = argument.unwrap_or(b"");
        match meaning {
            Meaning::All => settings.hidden = Hidden::All,
            Meaning::AlmostAll => settings.hidden = Hidden::NotDots,
            Meaning::IgnoreBackups => settings.ignore_backups = true,
            Meaning::Directory => settings.directories_themselves = true,
            Meaning::Recursive => settings.recursive = true,
            Meaning::Escape => settings.look = Look::Escaped,
            Meaning::Literal => settings.look = Look::Literal,
            Meaning::Quote => settings.look = Look::Quoted,
            Meaning::Question => settings.question_marks = true,
            Meaning::ShowControl => settings.question_marks = false,
            Meaning::Classify => {
                if one_of(argument.unwrap_or(b"always"), b"--classify", &settings::WHENS)? == When::Always {
                    settings.indicator = Indicator::Classify;
                }
            }
            Meaning::FileType => settings.indicator = Indicator::FileType,
            Meaning::Slash => settings.indicator = Indicator::Slash,
            Meaning::IndicatorStyle => {
                settings.indicator = one_of(given, b"--indicator-style", &settings::INDICATORS)?;
            }
            Meaning::Long => settings.long = true,
            Meaning::LongWithoutOwner => {
                settings.long = true;
                settings.owner = false;
            }
            Meaning::LongWithoutGroup => {
                settings.long = true;
                settings.group = false;
            }
            Meaning::NoGroup => settings.group = false,
            Meaning::Numeric => {
                settings.long = true;
                settings.numeric = true;
            }
            Meaning::FullTime => {
                settings.long = true;
                settings.time_formats = settings::full_iso();
            }
            // One per line is the only form but the long one; blocks are counted in KiB anyway.
            Meaning::OnePerLine | Meaning::Kibibytes => {}
            Meaning::Inode => settings.inode = true,
            Meaning::Blocks => settings.blocks = true,
            Meaning::Human => settings.human(true),
            Meaning::HumanThousands => settings.human(false),
            Meaning::Dereference => dereference = Some(Dereference::Always),
            Meaning::DereferenceArguments => dereference = Some(Dereference::Arguments),
            Meaning::DereferenceToDirectory => dereference = Some(Dereference::ArgumentsToDirectories),
            Meaning::Reverse => settings.reverse = true,
            Meaning::DirectoriesFirst => settings.directories_first = true,
            Meaning::BySize => order = Some(Order::Size),
            Meaning::ByTime => order = Some(Order::Time),
            Meaning::ByExtension => order = Some(Order::Extension),
            Meaning::ByVersion => order = Some(Order::Version),
            Meaning::Unsorted => order = Some(Order::AsFound),
            Meaning::Raw => {
                settings.hidden = Hidden::All;
                settings.long = false;
                settings.blocks = false;
                order = Some(Order::AsFound);
            }
            Meaning::Sort => order = Some(one_of(given, b"--sort", &settings::ORDERS)?),
            Meaning::Time => {
                settings.stamp = one_of(given, b"--time", &settings::STAMPS)?;
                time_chosen = true;
            }
            Meaning::ChangeTime => {
                settings.stamp = Stamp::Changed;
                time_chosen = true;
            }
            Meaning::AccessTime => {
                settings.stamp = Stamp::Accessed;
                time_chosen = true;
            }
            Meaning::TimeStyle => {
                let formats = settings::time_formats(given);
                settings.time_formats = formats.map_err(|message| (SERIOUS, message))?;
            }
            Meaning::Help | Meaning::Version => {}
        }
    }
    let usual_order = if time_chosen && !settings.long { Order::Time } else { Order::Name };
    settings.order = order.unwrap_or(usual_order);
    settings.dereference = dereference.unwrap_or(
        if settings.directories_themselves || settings.indicator == Indicator::Classify || settings.long {
            Dereference::Never
        } else {
            Dereference::ArgumentsToDirectories
        },
    );
    Ok(settings)
}

/// The value that a word, or an abbreviation of it, stands for; words of one value stand together.
fn one_of<T: Copy + PartialEq>(given: &[u8], option: &[u8], words: &[(&str, T)]) -> Result<T, Misuse> {
    if let Some((_, value)) = words.iter().find(|(word, _)| word.as_bytes() == given) {
        return Ok(*value);
    }
    let mut matching = words.iter().filter(|(word, _)| word.as_bytes().starts_with(given));
    let problem: &[u8] = match matching.next() {
        Some((_, value)) if matching.all(|(_, other)| other == value) => return Ok(*value),
        Some(_) => b"ambiguous",
        None => b"invalid",
    };
    let mut message =
        [problem, b" argument ", &quoting::argument(given), b" for ", &quoting::argument(option)].concat();
    message.extend_from_slice(b"\nValid arguments are:");
    for (index, (word, value)) in words.iter().enumerate() {
        let same = index > 0 && words[index - 1].1 == *value;
        message.extend_from_slice(if same { b", " } else { b"\n  - " });
        message.extend_from_slice(&quoting::argument(word.as_bytes()));
    }
    // Coreutils end with 1 here, and with 2 for every other mistake of this kind.
    Err((MINOR, message))
}
