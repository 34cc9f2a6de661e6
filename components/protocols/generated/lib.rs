//! Generated from components/protocols/*.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! The protocols between components: one module each.

#![no_std]

pub mod audio;
pub mod blk;
pub mod count;
pub mod edu;
pub mod fs;
pub mod log;
pub mod store;
pub mod supervise;
