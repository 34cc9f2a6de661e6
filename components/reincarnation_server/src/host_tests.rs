//! Tests that need no VM: the policy and what is remembered.

extern crate alloc;

mod memory;
mod policy;
