//! One end of a channel: where it is, what the status page says about it, how it is reopened.
//!
//! Life of an end, as the status page tells it: open -> (peer dies) dead -> (new rings wait) reopen ->
//! `reconnect` -> open with a new epoch. `gone` is final.

use crate::abi::{self, ChannelEntry};
use crate::error::Error;
use crate::hypercall;
use crate::info::{self, Role};
use crate::platform;
use crate::shared::Shared;
use core::ptr;

/// A protocol: what both ends must agree on. Generated ones are in crate `protocols`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: &'static str,
    pub number: u16,
    pub version: u16,
}

/// State of a channel end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Unused,
    /// Usable.
    Open,
    /// The peer is dead, or we broke the connection off; deadlines stand still.
    Dead,
    /// New rings wait for `reconnect`.
    Reopen,
    /// The peer will not come back.
    Gone,
}

/// How a peer broke the protocol: the reason given with a complaint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// An index that runs ahead of what fits in the ring.
    Index = abi::COMPLAINT_INDEX as isize,
    /// A slot with another epoch than the channel's.
    Epoch = abi::COMPLAINT_EPOCH as isize,
    /// A request whose data buffer is in use, or a reply to nothing.
    Tag = abi::COMPLAINT_TAG as isize,
    /// A data buffer the channel does not have.
    Buffer = abi::COMPLAINT_BUFFER as isize,
    /// A reply to another operation than the one requested.
    Operation = abi::COMPLAINT_OPERATION as isize,
    /// More bytes than a data buffer has.
    Length = abi::COMPLAINT_LENGTH as isize,
    /// A reply whose status is positive.
    Status = abi::COMPLAINT_STATUS as isize,
}

/// One end of a channel.
pub struct Channel {
    index: u32,
    entry: ChannelEntry,
    memory: Shared,
    /// We complained: the rings are not looked at again, whatever the status page says, until `reopen`.
    broken: bool,
    /// A `reopen` of this epoch was refused; asking again would only be refused again.
    refused: Option<u32>,
}

impl Channel {
    /// The end with this index. `PROTOCOL` if its entry speaks of another protocol or makes no sense.
    pub fn attach(index: u32, role: Role, protocol: &Protocol) -> Result<Channel, Error> {
        let found = info::channel(index).ok_or(Error::NOENT)?;
        let wanted = u32::from(protocol.number) << 16 | u32::from(protocol.version);
        if found.role() != Some(role) || found.entry.protocol != wanted || !is_sound(&found.entry) {
            return Err(Error::PROTOCOL);
        }
        // SAFETY: the hypervisor keeps the channel's rings mapped at this address; only a reconnect exchanges them.
        let memory = unsafe { Shared::new(found.entry.address as usize as *mut u8, found.entry.size as usize) };
        Ok(Channel { index, entry: found.entry, memory, broken: false, refused: None })
    }

    pub fn index(&self) -> u32 {
        self.index
    }

    pub fn epoch(&self) -> u32 {
        self.entry.epoch
    }

    /// Request slots, a power of two.
    pub fn slots(&self) -> u32 {
        self.entry.slots
    }

    /// Bytes of one data buffer.
    pub fn slot_data(&self) -> usize {
        self.entry.slot_data as usize
    }

    pub fn memory(&self) -> Shared {
        self.memory
    }

    /// The data buffer of a tag whose buffer number has been checked; panics for one that has not.
    pub fn buffer(&self, number: usize) -> Shared {
        assert!(number < self.slots() as usize);
        let offset = self.entry.data_offset as usize + number * self.slot_data();
        self.memory.part(offset, self.slot_data()).expect("`is_sound` has checked that all buffers fit")
    }

    /// Is operation `op` allowed on this channel?
    pub fn allows(&self, op: u16) -> bool {
        op < 64 && self.entry.operations >> op & 1 == 1
    }

    /// Milliseconds a request may take; 0: any time.
    pub fn deadline_ms(&self) -> u32 {
        self.entry.deadline_ms
    }

    /// Do unanswered idempotent requests outlive the peer?
    pub fn replays(&self) -> bool {
        self.entry.on_restart != abi::ON_RESTART_FAIL
    }

    /// What the status page says, seen from the epoch of the rings that are mapped.
    pub fn state(&self) -> State {
        let entry = platform::status_page() + self.index as usize * abi::STATUS_ENTRY_SIZE;
        // SAFETY: the status page is mapped for the VM's life and has an entry for every channel.
        let (state, epoch) =
            unsafe { (ptr::read_volatile(entry as *const u32), ptr::read_volatile((entry + 4) as *const u32)) };
        match state {
            abi::CHANNEL_STATE_OPEN if epoch == self.entry.epoch && !self.broken => State::Open,
            // Open in another epoch: between two writes of the hypervisor, or broken off. Neither is usable.
            abi::CHANNEL_STATE_OPEN | abi::CHANNEL_STATE_DEAD => State::Dead,
            abi::CHANNEL_STATE_REOPEN if self.refused == Some(epoch) => State::Dead,
            abi::CHANNEL_STATE_REOPEN => State::Reopen,
            abi::CHANNEL_STATE_GONE => State::Gone,
            _ => State::Unused,
        }
    }

    /// Exchanges the rings for those of the new epoch, in state `reopen`. The old ones are gone afterwards.
    pub fn reconnect(&mut self) -> Result<(), Error> {
        let entry = platform::status_page() + self.index as usize * abi::STATUS_ENTRY_SIZE;
        // SAFETY: as in `state`.
        let offered = unsafe { ptr::read_volatile((entry + 4) as *const u32) };
        let epoch = match hypercall::reconnect(self.index) {
            Ok(epoch) => epoch,
            Err(error) => {
                // `again`: the offer was withdrawn at the very moment it was taken.
                self.refused = Some(offered).filter(|_| error != Error::AGAIN);
                return Err(error);
            }
        };
        // The entry may name a new peer with other rights; the rings' shape belongs to the policy and stays.
        let entry = info::channel(self.index).map_or(self.entry, |found| found.entry);
        let shape = |e: &ChannelEntry| (e.address, e.size, e.slots, e.slot_data, e.data_offset);
        assert!(shape(&entry) == shape(&self.entry), "channel {} has changed its shape", self.index);
        self.entry = ChannelEntry { epoch, ..entry };
        self.broken = false;
        Ok(())
    }

    /// Breaks the connection off and says why; nothing of the old rings counts any more.
    pub fn complain(&mut self, violation: Violation) {
        if !self.broken {
            self.broken = true;
            hypercall::complain(self.index, violation as u32);
        }
    }

    /// Wakes the peer.
    pub fn ring(&self) {
        crate::telemetry::add(crate::telemetry::DOORBELLS, 1);
        hypercall::doorbell(self.entry.doorbell);
    }
}

/// Do the numbers of an entry describe rings and data buffers that lie within the channel's memory?
fn is_sound(entry: &ChannelEntry) -> bool {
    let slots = u64::from(entry.slots);
    let rings = abi::CHANNEL_REQUESTS as u64 + 2 * slots * abi::Slot::SIZE as u64;
    entry.slots.is_power_of_two()
        && entry.slots as usize <= abi::CHANNEL_SLOTS_MAX
        && entry.slot_data as usize <= abi::SLOT_DATA_MAX
        && u64::from(entry.data_offset) >= rings
        && u64::from(entry.data_offset) + slots * u64::from(entry.slot_data) <= entry.size
        && entry.address != 0
        && entry.address % abi::PAGE_SIZE as u64 == 0
}
