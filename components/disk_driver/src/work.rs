//! What a disk is asked to do, and how it ends: what drivers of any kind of disk have in common.

/// Where the device finds the data of a request: bus address and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Data {
    pub address: u64,
    pub bytes: u32,
}

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    Read(Data),
    Write(Data),
    Flush,
    Discard { sectors: u32 },
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Failed,
    Unsupported,
}

/// A request that has ended, with what `submit` was given to remember.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion<T> {
    pub outcome: Outcome,
    pub token: T,
}
