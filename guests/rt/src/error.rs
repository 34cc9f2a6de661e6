//! `Error`: the negative numbers of the ABI, as results of hypercalls and replies.

use crate::abi;
use core::fmt;

/// A failed hypercall or request: one of the ABI's error numbers, always negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(i32);

macro_rules! errors {
    ($($name:ident = $number:ident $text:literal),* $(,)?) => {
        impl Error {
            $(pub const $name: Error = Error(abi::$number);)*

            /// The name of the number in abi.toml; "unknown error" for one that is not there.
            pub fn name(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                    _ => "unknown error",
                }
            }
        }
    };
}

errors! {
    PERM = ERROR_PERM "perm",
    NOENT = ERROR_NOENT "noent",
    IO = ERROR_IO "io",
    TOOBIG = ERROR_TOOBIG "toobig",
    BADF = ERROR_BADF "badf",
    AGAIN = ERROR_AGAIN "again",
    NOMEM = ERROR_NOMEM "nomem",
    ACCESS = ERROR_ACCESS "access",
    BUSY = ERROR_BUSY "busy",
    EXIST = ERROR_EXIST "exist",
    NOTDIR = ERROR_NOTDIR "notdir",
    ISDIR = ERROR_ISDIR "isdir",
    INVAL = ERROR_INVAL "inval",
    NOSPC = ERROR_NOSPC "nospc",
    ROFS = ERROR_ROFS "rofs",
    RANGE = ERROR_RANGE "range",
    NAMETOOLONG = ERROR_NAMETOOLONG "nametoolong",
    NOSYS = ERROR_NOSYS "nosys",
    LOOP = ERROR_LOOP "loop",
    OVERFLOW = ERROR_OVERFLOW "overflow",
    TIMEOUT = ERROR_TIMEOUT "timeout",
    STALE = ERROR_STALE "stale",
    CANCELED = ERROR_CANCELED "canceled",
    DEAD = ERROR_DEAD "dead",
    CORRUPT = ERROR_CORRUPT "corrupt",
    GAP = ERROR_GAP "gap",
    PROTOCOL = ERROR_PROTOCOL "protocol",
    QUARANTINED = ERROR_QUARANTINED "quarantined",
}

impl Error {
    /// The error with this number; a number that is no error (0 or positive) becomes `PROTOCOL`.
    pub const fn from_number(number: i32) -> Error {
        if number < 0 {
            Error(number)
        } else {
            Error::PROTOCOL
        }
    }

    /// The negative number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
