//! What a listing shows, in which order and form.

use crate::common::numbers::Scale;
use crate::common::quoting;
use crate::common::system::{Metadata, Time};
use alloc::vec::Vec;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// Names that begin with a dot are not shown.
    Dotted,
    /// `.` and `..` are not shown.
    NotDots,
    All,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Literal,
    Escaped,
    Quoted,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Indicator {
    Nothing,
    Slash,
    FileType,
    Classify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    Never,
    /// Which standard output never is.
    OnTerminals,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Name,
    Size,
    Time,
    Extension,
    AsFound,
    Version,
    Width,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    Modified,
    Changed,
    Accessed,
    Born,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dereference {
    Never,
    /// Links on the command line that lead to directories.
    ArgumentsToDirectories,
    /// All links on the command line.
    Arguments,
    Always,
}

/// `strftime` formats for files older than half a year (or of the future) and for recent ones.
pub type TimeFormats = [Vec<u8>; 2];

const LOCALE: [&[u8]; 2] = [b"%b %e  %Y", b"%b %e %H:%M"];
const LONG_ISO: [&[u8]; 2] = [b"%Y-%m-%d %H:%M"; 2];
const ISO: [&[u8]; 2] = [b"%Y-%m-%d ", b"%m-%d %H:%M"];
const FULL_ISO: [&[u8]; 2] = [b"%Y-%m-%d %H:%M:%S.%N %z"; 2];

pub static WHENS: [(&str, When); 9] = [
    ("always", When::Always),
    ("yes", When::Always),
    ("force", When::Always),
    ("never", When::Never),
    ("no", When::Never),
    ("none", When::Never),
    ("auto", When::OnTerminals),
    ("tty", When::OnTerminals),
    ("if-tty", When::OnTerminals),
];
pub static INDICATORS: [(&str, Indicator); 4] = [
    ("none", Indicator::Nothing),
    ("slash", Indicator::Slash),
    ("file-type", Indicator::FileType),
    ("classify", Indicator::Classify),
];
pub static ORDERS: [(&str, Order); 6] = [
    ("none", Order::AsFound),
    ("time", Order::Time),
    ("size", Order::Size),
    ("extension", Order::Extension),
    ("version", Order::Version),
    ("width", Order::Width),
];
pub static STAMPS: [(&str, Stamp); 7] = [
    ("atime", Stamp::Accessed),
    ("access", Stamp::Accessed),
    ("use", Stamp::Accessed),
    ("ctime", Stamp::Changed),
    ("status", Stamp::Changed),
    ("birth", Stamp::Born),
    ("creation", Stamp::Born),
];

pub struct Settings {
    pub hidden: Hidden,
    pub ignore_backups: bool,
    pub directories_themselves: bool,
    pub recursive: bool,
    pub dereference: Dereference,
    pub long: bool,
    pub owner: bool,
    pub group: bool,
    pub numeric: bool,
    pub inode: bool,
    pub blocks: bool,
    pub block_scale: Scale,
    pub size_scale: Scale,
    pub look: Look,
    pub question_marks: bool,
    pub indicator: Indicator,
    pub order: Order,
    pub reverse: bool,
    pub directories_first: bool,
    pub stamp: Stamp,
    pub time_formats: TimeFormats,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hidden: Hidden::Dotted,
            ignore_backups: false,
            directories_themselves: false,
            recursive: false,
            dereference: Dereference::Never,
            long: false,
            owner: true,
            group: true,
            numeric: false,
            inode: false,
            blocks: false,
            block_scale: Scale::Unit(1024),
            size_scale: Scale::Unit(1),
            look: Look::Literal,
            question_marks: false,
            indicator: Indicator::Nothing,
            order: Order::Name,
            reverse: false,
            directories_first: false,
            stamp: Stamp::Modified,
            time_formats: owned(LOCALE),
        }
    }
}

impl Settings {
    /// Sizes for people: powers of 1024 or of 1000.
    pub fn human(&mut self, binary: bool) {
        let scale = if binary { Scale::Binary } else { Scale::Thousands };
        self.block_scale = scale;
        self.size_scale = scale;
    }

    /// Does every line need the file's metadata?
    pub fn needs_metadata(&self) -> bool {
        self.long || self.blocks || matches!(self.order, Order::Size | Order::Time)
    }

    /// Do lines or order depend on what kind of file it is?
    pub fn needs_kind(&self) -> bool {
        self.recursive || self.directories_first || self.indicator != Indicator::Nothing
    }

    /// Is a name in a directory passed over?
    pub fn ignores(&self, name: &[u8]) -> bool {
        let hidden = match self.hidden {
            Hidden::Dotted => name.starts_with(b"."),
            Hidden::NotDots => name == b"." || name == b"..",
            Hidden::All => false,
        };
        hidden || self.ignore_backups && name.ends_with(b"~")
    }

    /// A name in the form in which lines show it.
    pub fn shown(&self, name: &[u8]) -> Vec<u8> {
        match self.look {
            Look::Escaped => quoting::escaped(name),
            Look::Quoted => quoting::c_string(name),
            Look::Literal if self.question_marks => quoting::questioned(name),
            Look::Literal => name.to_vec(),
        }
    }

    /// The time that lines show and order goes by; birth may be unknown.
    pub fn time_of(&self, metadata: &Metadata) -> Option<Time> {
        match self.stamp {
            Stamp::Modified => Some(metadata.modified),
            Stamp::Changed => Some(metadata.changed),
            Stamp::Accessed => Some(metadata.accessed),
            Stamp::Born => metadata.born,
        }
    }
}

fn owned(formats: [&[u8]; 2]) -> TimeFormats {
    [formats[0].to_vec(), formats[1].to_vec()]
}

/// The formats of `--full-time`.
pub fn full_iso() -> TimeFormats {
    owned(FULL_ISO)
}

/// The formats of a `--time-style`. The error is a message.
pub fn time_formats(style: &[u8]) -> Result<TimeFormats, Vec<u8>> {
    if let Some(format) = style.strip_prefix(b"+") {
        let mut parts = format.splitn(2, |&byte| byte == b'\n');
        let old = parts.next().unwrap_or(b"");
        let recent = parts.next().unwrap_or(old);
        if recent.contains(&b'\n') {
            return Err([b"invalid time style format ", &quoting::argument(format)[..]].concat());
        }
        return Ok(owned([old, recent]));
    }
    // In this locale the prefix means that the style is not to be used.
    if style.starts_with(b"posix-") {
        return Ok(owned(LOCALE));
    }
    let styles: [(&[u8], [&[u8]; 2]); 4] =
        [(b"full-iso", FULL_ISO), (b"long-iso", LONG_ISO), (b"iso", ISO), (b"locale", LOCALE)];
    if let Some((_, formats)) = styles.iter().find(|(name, _)| *name == style) {
        return Ok(owned(*formats));
    }
    let mut matching = styles.iter().filter(|(name, _)| name.starts_with(style));
    let problem: &[u8] = match (matching.next(), matching.next()) {
        (Some((_, formats)), None) => return Ok(owned(*formats)),
        (None, _) => b"invalid",
        _ => b"ambiguous",
    };
    let mut message = [problem, b" argument ", &quoting::argument(style), b" for 'time style'"].concat();
    message.extend_from_slice(b"\nValid arguments are:");
    for name in [&b"[posix-]full-iso"[..], b"[posix-]long-iso", b"[posix-]iso", b"[posix-]locale"] {
        message.extend_from_slice(b"\n  - ");
        message.extend_from_slice(name);
    }
    message.extend_from_slice(b"\n  - +FORMAT (e.g., +%H:%M) for a 'date'-style format");
    Err(message)
}
