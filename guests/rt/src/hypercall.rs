//! One function per hypercall. A call the manifest does not allow ends the VM with `denied_hypercall`.

use crate::abi;
use crate::error::Error;
use crate::platform;

pub use crate::platform::doorbell;

/// Any hypercall, for code that has a reason to make a wrong one. Returns RAX and RDX.
///
/// # Safety
/// As for the call that `number` names: addresses among the arguments must belong to the caller.
pub unsafe fn raw(number: u64, arguments: [u64; 6]) -> (i64, u64) {
    platform::hypercall(number, arguments)
}

fn call(number: u64, arguments: [u64; 6]) -> Result<u64, Error> {
    // SAFETY: private; the callers below pass numbers, or addresses of slices they hold.
    let (result, second) = unsafe { platform::hypercall(number, arguments) };
    if result < 0 {
        Err(Error::from_number(i32::try_from(result).unwrap_or(abi::ERROR_INVAL)))
    } else {
        Ok(second)
    }
}

/// Waits for the adoption of a warm spare; returns at once in an instance that has been told to run.
pub fn start() {
    let _ = call(abi::HYPERCALL_START, [0; 6]);
}

/// Rests, as a live update has asked, with every request answered; returns if that is called off.
pub fn quiesce() {
    let _ = call(abi::HYPERCALL_QUIESCE, [0; 6]);
}

/// Initialisation is over; the service loop begins.
pub fn ready() {
    let _ = call(abi::HYPERCALL_READY, [0; 6]);
}

/// Sleeps until a doorbell, an interrupt or the time-out (None: for ever). True if something woke it.
/// Use `wait::wait`, which tells the peers first.
pub fn wait(timeout_ns: Option<u64>) -> bool {
    wait_rested(timeout_ns, 0)
}

/// The same after a rest of `rest_ns` (10 ms at most) that nothing interrupts.
pub fn wait_rested(timeout_ns: Option<u64>, rest_ns: u64) -> bool {
    // SAFETY: no addresses.
    let (result, _) = unsafe { raw(abi::HYPERCALL_WAIT, [timeout_ns.unwrap_or(u64::MAX), rest_ns, 0, 0, 0, 0]) };
    result == 0
}

/// Appends `text` (at most LOG_MAX bytes, the rest is cut) to the structured log.
pub fn log(level: u32, text: &[u8]) {
    let length = text.len().min(abi::LOG_MAX);
    let _ = call(abi::HYPERCALL_LOG, [u64::from(level), text.as_ptr() as u64, length as u64, 0, 0, 0]);
}

/// Dies with a message.
pub fn panic(text: &[u8]) -> ! {
    let length = text.len().min(abi::LOG_MAX);
    let _ = call(abi::HYPERCALL_PANIC, [text.as_ptr() as u64, length as u64, 0, 0, 0, 0]);
    never()
}

/// Ends a program with an exit status. A component that ends so has the fault `exited`.
pub fn exit(status: i32) -> ! {
    // The status travels as a 32-bit number: no sign extension.
    let _ = call(abi::HYPERCALL_EXIT, [u64::from(status as u32), 0, 0, 0, 0, 0]);
    never()
}

/// After a call that does not return.
fn never() -> ! {
    #[cfg(host_test)]
    core::panic!("a hypercall that ends the VM returned");
    #[cfg(not(host_test))]
    loop {
        wait(None);
    }
}

/// Maps the new rings (and pool) of a channel in state `reopen`; returns its epoch.
pub fn reconnect(channel: u32) -> Result<u32, Error> {
    call(abi::HYPERCALL_RECONNECT, [u64::from(channel), 0, 0, 0, 0, 0]).map(|epoch| epoch as u32)
}

/// Bytes (at most OUTPUT_MAX) of the system's standard output (`stream` STREAM_STDOUT) or error at an absolute
/// position, which the hypervisor counts for each stream and `writer` (a number below 65536 of the caller's
/// choice); a repeat is harmless, a gap is `INVAL`. Returns the position reached.
pub fn output(stream: u32, writer: u32, bytes: &[u8], position: u64) -> Result<u64, Error> {
    let target = u64::from(writer & 0xffff) << 8 | u64::from(stream & 0xff);
    call(abi::HYPERCALL_OUTPUT, [target, bytes.as_ptr() as u64, bytes.len() as u64, position, 0, 0])
}

/// Lends grant object `object` (its place among `info::grant_objects`) to the peer of `channel`; returns the grant.
pub fn grant(object: u32, channel: u32, rights: u32) -> Result<u64, Error> {
    call(abi::HYPERCALL_GRANT, [u64::from(object), u64::from(channel), u64::from(rights), 0, 0, 0])
}

/// Takes a grant back: when it returns nobody can reach the memory.
pub fn revoke(grant: u64) -> Result<(), Error> {
    call(abi::HYPERCALL_REVOKE, [grant, 0, 0, 0, 0, 0]).map(drop)
}

/// Maps a grant of the peer of `channel`; returns its address.
pub fn map_grant(grant: u64, channel: u32) -> Result<u64, Error> {
    call(abi::HYPERCALL_MAP_GRANT, [grant, u64::from(channel), 0, 0, 0, 0])
}

/// Gives a mapped grant back.
pub fn unmap_grant(grant: u64, channel: u32) -> Result<(), Error> {
    call(abi::HYPERCALL_UNMAP_GRANT, [grant, u64::from(channel), 0, 0, 0, 0]).map(drop)
}

/// Copies out of a grant of the peer of `channel`.
pub fn copy_from_grant(grant: u64, channel: u32, offset: u64, into: &mut [u8]) -> Result<(), Error> {
    let (address, length) = (into.as_mut_ptr() as u64, into.len() as u64);
    call(abi::HYPERCALL_COPY_FROM_GRANT, [grant, u64::from(channel), offset, address, length, 0]).map(drop)
}

/// Copies into a grant of the peer of `channel`.
pub fn copy_to_grant(grant: u64, channel: u32, offset: u64, from: &[u8]) -> Result<(), Error> {
    let (address, length) = (from.as_ptr() as u64, from.len() as u64);
    call(abi::HYPERCALL_COPY_TO_GRANT, [grant, u64::from(channel), offset, address, length, 0]).map(drop)
}

/// Opens the device's DMA window on a grant of the peer of `channel`; returns the I/O address.
pub fn dma_open(grant: u64, channel: u32) -> Result<u64, Error> {
    call(abi::HYPERCALL_DMA_OPEN, [grant, u64::from(channel), 0, 0, 0, 0])
}

/// Closes it: when it returns the device cannot reach the memory.
pub fn dma_close(grant: u64, channel: u32) -> Result<(), Error> {
    call(abi::HYPERCALL_DMA_CLOSE, [grant, u64::from(channel), 0, 0, 0, 0]).map(drop)
}

/// Closes the own connection to a peer that breaks the protocol; `reason` is a `channel::Violation`.
pub fn complain(channel: u32, reason: u32) {
    let _ = call(abi::HYPERCALL_COMPLAIN, [u64::from(channel), u64::from(reason), 0, 0, 0, 0]);
}
