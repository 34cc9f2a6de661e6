//! The guest runtime: what a program needs inside a VM that has no kernel. See guests/rt/README.md.
//!
//! With `--cfg host_test` the crate is built for the development host: no entry point, no panic handler, no
//! allocator, and `platform` is a fake that a test holds in its hands.

#![no_std]
#![cfg_attr(old_alloc, feature(alloc_error_handler))]

#[doc(hidden)]
pub extern crate alloc;
#[cfg(host_test)]
extern crate std;

pub mod abi;
pub mod channel;
pub mod client;
pub mod device;
pub mod error;
#[cfg(host_test)]
pub mod fake;
pub mod heap;
pub mod hypercall;
pub mod info;
pub mod kill_point;
pub mod log;
#[doc(hidden)]
pub mod mem;
pub mod output;
mod platform;
pub mod replay;
pub mod request;
pub mod ring;
pub mod server;
pub mod session;
pub mod shared;
pub mod start;
pub mod state;
pub mod telemetry;
pub mod time;
pub mod wait;
#[cfg(not(host_test))]
mod warm;

pub use channel::{Channel, Protocol, State};
pub use client::Client;
pub use device::Device;
pub use error::Error;
pub use hypercall::{exit, ready};
pub use log::Level;
pub use output::Output;
pub use request::{Completion, Operation, Reply, Tag};
pub use server::{Answer, Call, ClientId, ServerPort, Ticket};
pub use shared::Shared;
pub use start::Args;
pub use wait::{wait, Source, Woken};
