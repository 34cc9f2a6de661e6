//! The way into a program: `component!` and `program!`, and what is done before its first function runs.

use crate::hypercall;
use crate::info::{self, RegionKind};
use crate::platform;
use crate::telemetry;
use alloc::vec::Vec;

/// Makes a component: `component! { fresh: f, restart: g, update: h }`, three functions `fn()` that serve for
/// ever. Which one runs says why the instance was started: they are functions, not flags.
#[macro_export]
macro_rules! component {
    { fresh: $fresh:path, restart: $restart:path, update: $update:path $(,)? } => {
        $crate::entry!();

        #[doc(hidden)]
        #[no_mangle]
        pub extern "C" fn r3s3_start() -> ! {
            $crate::start::begin();
            match $crate::info::start() {
                $crate::info::Start::Fresh => $fresh(),
                $crate::info::Start::Restart => $restart(),
                $crate::info::Start::Update => $update(),
            }
            // A component that returns ends with the fault `exited`.
            $crate::exit(0)
        }
    };
}

/// Makes a program: `program!(main)` with `fn main(arguments: rt::Args) -> i32`, its exit status.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        $crate::entry!();

        #[doc(hidden)]
        #[no_mangle]
        pub extern "C" fn r3s3_start() -> ! {
            $crate::start::begin();
            let status: i32 = $main($crate::Args::of_this_program());
            $crate::exit(status)
        }
    };
}

/// The first instruction. RDI holds the address of the info pages and RSP the top of the stack; the frame
/// pointer is cleared to end back traces.
#[doc(hidden)]
#[macro_export]
macro_rules! entry {
    () => {
        core::arch::global_asm!(
            ".section .text.start, \"ax\", @progbits",
            ".globl _start",
            ".type _start, @function",
            "_start:",
            "xor ebp, ebp",
            "cld",
            "and rsp, -16",
            "call r3s3_start",
            "ud2",
            ".size _start, . - _start",
            ".text",
        );
    };
}

/// What every program needs before its own code runs: the heap, and a look at the info pages. Everything before
/// `start` is done by a spare that does not know yet when, or whether, it will be needed.
#[doc(hidden)]
pub fn begin() {
    #[cfg(not(host_test))]
    {
        let (base, size) = info::heap();
        // SAFETY: the first thing a program does, with the memory the hypervisor set aside for it.
        unsafe { crate::heap::initialise(base, size) };
        if info::start() != info::Start::Fresh {
            crate::warm::touch_all();
        }
    }
    hypercall::start();
    let tsc = platform::ticks();
    info::check();
    telemetry::record_start(tsc);
}

/// A program's arguments, argument 0 being its name. In the region they are bytes, each ended by a NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args(Vec<Vec<u8>>);

impl Args {
    /// The arguments this program was started with; none without an `arguments` region.
    pub fn of_this_program() -> Args {
        let mut bytes = Vec::new();
        if let Some(memory) = info::region(RegionKind::Arguments, None).and_then(|r| r.memory().ok()) {
            bytes.resize(memory.len(), 0);
            let _ = memory.copy_out(0, &mut bytes);
        }
        Args::parse(&bytes)
    }

    /// NUL-terminated strings, one after the other; a missing last NUL is forgiven.
    pub fn parse(bytes: &[u8]) -> Args {
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        if bytes.is_empty() {
            return Args(Vec::new());
        }
        Args(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).map(Vec::as_slice)
    }

    /// All of them, the program's name included.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}
