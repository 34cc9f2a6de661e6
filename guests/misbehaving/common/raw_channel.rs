//! A channel end without the rules: slots and indices as a criminal wants them.
#![allow(dead_code)]

use rt::abi::{self, Slot};
use rt::info::Role;
use rt::{Channel, Protocol, Shared, State};

/// Milliseconds that a peer has to take notice.
const PATIENCE_MS: u64 = 3000;

pub struct RawChannel {
    pub channel: Channel,
}

impl RawChannel {
    /// The end of this interface; panics if the manifest has none.
    pub fn open(protocol: &Protocol, interface: &str, role: Role) -> RawChannel {
        let found = rt::info::channel_named(interface, role).expect("the interface is in the manifest");
        RawChannel { channel: Channel::attach(found.index, role, protocol).expect("the protocol is right") }
    }

    pub fn memory(&self) -> Shared {
        self.channel.memory()
    }

    /// A request or reply as an honest peer would begin it.
    pub fn slot(&self, op: u16, tag: u32) -> Slot {
        let session = rt::info::instance() as u32;
        Slot { op, tag, epoch: self.channel.epoch(), session, ..Slot::default() }
    }

    /// Writes a request slot, without publishing it.
    pub fn write_request(&self, index: u32, slot: &Slot) {
        self.write(abi::CHANNEL_REQUESTS, index, slot);
    }

    /// Writes a reply slot, without publishing it.
    pub fn write_reply(&self, index: u32, slot: &Slot) {
        let replies = abi::CHANNEL_REQUESTS + self.channel.slots() as usize * Slot::SIZE;
        self.write(replies, index, slot);
    }

    fn write(&self, ring: usize, index: u32, slot: &Slot) {
        // SAFETY: Slot is 64 bytes of integers without padding.
        let bytes: [u8; Slot::SIZE] = unsafe { core::mem::transmute(*slot) };
        let offset = ring + (index % self.channel.slots()) as usize * Slot::SIZE;
        self.memory().copy_in(offset, &bytes).expect("a slot lies in the ring");
    }

    /// The request with this index, whatever it is.
    pub fn read_request(&self, index: u32) -> Slot {
        self.read(abi::CHANNEL_REQUESTS, index)
    }

    /// The reply with this index, whatever it is.
    pub fn read_reply(&self, index: u32) -> Slot {
        let replies = abi::CHANNEL_REQUESTS + self.channel.slots() as usize * Slot::SIZE;
        self.read(replies, index)
    }

    fn read(&self, ring: usize, index: u32) -> Slot {
        let mut bytes = [0; Slot::SIZE];
        let offset = ring + (index % self.channel.slots()) as usize * Slot::SIZE;
        self.memory().copy_out(offset, &mut bytes).expect("a slot lies in the ring");
        // SAFETY: as above.
        unsafe { core::mem::transmute(bytes) }
    }

    /// Sets the number of requests published and wakes the server.
    pub fn publish_requests(&self, tail: u32) {
        self.memory().store_release(abi::CHANNEL_REQUEST_TAIL, tail);
        self.channel.ring();
    }

    /// Sets the number of replies published and wakes the client.
    pub fn publish_replies(&self, tail: u32) {
        self.memory().store_release(abi::CHANNEL_REPLY_TAIL, tail);
        self.channel.ring();
    }

    /// Requests that the client has published.
    pub fn requests(&self) -> u32 {
        self.memory().load_acquire(abi::CHANNEL_REQUEST_TAIL)
    }

    /// Replies that the server has published.
    pub fn replies(&self) -> u32 {
        self.memory().load_acquire(abi::CHANNEL_REPLY_TAIL)
    }

    /// Waits until `done`, or patience ends. True: it was.
    pub fn wait_until(&self, done: impl Fn(&RawChannel) -> bool) -> bool {
        for _ in 0..PATIENCE_MS {
            if done(self) {
                return true;
            }
            // Doorbells and a look at the rings now and then: sleep flags are for the honest.
            rt::hypercall::wait(Some(1_000_000));
        }
        false
    }

    /// Waits until the peer has broken the connection off. True: it has.
    pub fn is_broken_off(&self) -> bool {
        self.wait_until(|raw| raw.channel.state() != State::Open)
    }
}

/// The exit status of a client that was found out, or was not. With `stay` as its first argument it keeps its
/// VM, for whoever wants to look at the system it has done this to.
pub fn verdict(arguments: &rt::Args, found_out: bool) -> i32 {
    while found_out && arguments.get(1) == Some(b"stay") {
        rt::hypercall::wait(None);
    }
    if found_out {
        0
    } else {
        99
    }
}
