//! Texts of error numbers, as the C library words them.

use super::system::Errno;

/// The text of an error number; None for a number that has no name here.
pub fn text(error: Errno) -> Option<&'static str> {
    Some(match error.0 {
        1 => "Operation not permitted",
        2 => "No such file or directory",
        5 => "Input/output error",
        6 => "No such device or address",
        7 => "Argument list too long",
        9 => "Bad file descriptor",
        11 => "Resource temporarily unavailable",
        12 => "Cannot allocate memory",
        13 => "Permission denied",
        16 => "Device or resource busy",
        17 => "File exists",
        20 => "Not a directory",
        21 => "Is a directory",
        22 => "Invalid argument",
        24 => "Too many open files",
        27 => "File too large",
        28 => "No space left on device",
        30 => "Read-only file system",
        32 => "Broken pipe",
        34 => "Numerical result out of range",
        36 => "File name too long",
        38 => "Function not implemented",
        40 => "Too many levels of symbolic links",
        61 => "No data available",
        75 => "Value too large for defined data type",
        95 => "Operation not supported",
        110 => "Connection timed out",
        116 => "Stale file handle",
        117 => "Structure needs cleaning",
        125 => "Operation canceled",
        200 => "The server died",
        201 => "Data is corrupt",
        202 => "Events were lost",
        203 => "The server broke the protocol",
        _ => return None,
    })
}
