//! Tests that need no VM: the policy and what is remembered.

mod memory;
mod policy;
