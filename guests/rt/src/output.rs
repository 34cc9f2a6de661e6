//! Standard output of a program that holds the hypercall `output` itself, with no console in between.

use crate::{abi, hypercall};
use core::fmt::{self, Write};

/// Standard output, from its beginning: a program started again after a fault repeats what it wrote, and nothing
/// appears twice.
#[derive(Default)]
pub struct Output {
    position: u64,
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.position = hypercall::output(abi::STREAM_STDOUT, 0, text.as_bytes(), self.position).map_err(|_| fmt::Error)?;
        Ok(())
    }
}
