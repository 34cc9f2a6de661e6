//! `log!` and the last words of a program that panics.

use crate::abi;
use crate::hypercall;
use core::fmt::{self, Write};

/// How important a line of the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Error = abi::LOG_LEVEL_ERROR as isize,
    Warning = abi::LOG_LEVEL_WARNING as isize,
    Info = abi::LOG_LEVEL_INFO as isize,
    Debug = abi::LOG_LEVEL_DEBUG as isize,
}

/// Writes a line to the structured log: `log!(info, "{} blocks", n)`; levels error, warning, info, debug.
#[macro_export]
macro_rules! log {
    (error, $($arguments:tt)*) => { $crate::log::write($crate::Level::Error, format_args!($($arguments)*)) };
    (warning, $($arguments:tt)*) => { $crate::log::write($crate::Level::Warning, format_args!($($arguments)*)) };
    (info, $($arguments:tt)*) => { $crate::log::write($crate::Level::Info, format_args!($($arguments)*)) };
    (debug, $($arguments:tt)*) => { $crate::log::write($crate::Level::Debug, format_args!($($arguments)*)) };
}

/// Text of limited length, on the stack: a program without memory can still say so.
pub struct Line {
    bytes: [u8; abi::LOG_MAX],
    length: usize,
}

impl Line {
    pub fn new() -> Line {
        Line { bytes: [0; abi::LOG_MAX], length: 0 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Write for Line {
    /// Appends what fits and drops the rest.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let length = text.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

/// What `log!` calls.
pub fn write(level: Level, arguments: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(arguments);
    hypercall::log(level as u32, line.as_bytes());
}

/// How the message of a failed allocation begins; it is reported with "out of memory: " in front, by which
/// the hypervisor tells the fault `memory` from other panics.
const OUT_OF_MEMORY: &str = "memory allocation ";

/// The message in what `PanicInfo` prints. Up to Rust 1.72 that is "panicked at 'MESSAGE', FILE:LINE:COLUMN",
/// later "panicked at FILE:LINE:COLUMN:\nMESSAGE"; its parts are not all to be had in every version.
pub fn panic_message(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix("panicked at '") {
        return rest.rfind("', ").map_or(rest, |end| &rest[..end]);
    }
    text.find('\n').map_or(text, |end| &text[end + 1..])
}

/// "MESSAGE, at FILE:LINE".
pub fn last_words(text: &str, place: Option<(&str, u32)>) -> Line {
    let mut line = Line::new();
    let message = panic_message(text);
    if message.starts_with(OUT_OF_MEMORY) {
        let _ = line.write_str("out of memory: ");
    }
    let _ = line.write_str(message);
    if let Some((file, number)) = place {
        let _ = write!(line, ", at {}:{}", file, number);
    }
    line
}

#[cfg(not(host_test))]
#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    let mut text = Line::new();
    let _ = write!(text, "{}", information);
    let text = core::str::from_utf8(text.as_bytes()).unwrap_or("(a message that is no text)");
    let place = information.location().map(|place| (place.file(), place.line()));
    hypercall::panic(last_words(text, place).as_bytes())
}

/// The precompiled parts of `alloc` (those behind `format!`, for one) were made for unwinding and name this. A
/// panic here never unwinds, so nothing ever calls it.
#[cfg(not(host_test))]
#[doc(hidden)]
#[no_mangle]
pub extern "C" fn _Unwind_Resume() -> ! {
    hypercall::panic(b"unwinding, which does not exist here")
}
