//! What the programs share. A program includes this folder as a module; each uses a part of it.
#![allow(dead_code)]

pub mod accounts;
pub mod calendar;
pub mod digests;
pub mod errors;
pub mod modes;
pub mod numbers;
pub mod options;
pub mod printer;
pub mod quoting;
pub mod reading;
pub mod sha256;
pub mod sha256_instructions;
pub mod system;
pub mod walk;
