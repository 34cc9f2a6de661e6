//! The disk below the cache: the client end of blk@1, and the memory it reads into.
//!
//! Default: a pool lent once per connection, of which the driver handles offsets. Strict mode (the manifest
//! has grant objects instead): an object is lent for each request and taken back before its bytes are looked
//! at. Either way the bytes are the driver's to spoil; the cache checks them.

use crate::blocks::BLOCK;
use crate::cache::{Disk, Outcome, EXTENT};
use protocols::blk::{self, ReadArgs, ReadGrantArgs};
use rt::alloc::vec::Vec;
use rt::info;
use rt::time::{ms_to_ticks, ticks};
use rt::{abi, hypercall, log, Error, Shared, Tag};

const SECTOR: u64 = 512;
/// More buffers would gain nothing: the channel and the device have their own depth.
const BUFFERS_MAX: usize = 64;
const NO_BUFFER: u8 = u8::MAX;
/// Reason given with the complaint about a driver that does not answer; not one of rt's violations.
const REASON_SILENT: u32 = 100;
const RETRY_MS: u64 = 100;

/// One piece of I/O memory.
#[derive(Clone, Copy)]
enum State {
    Free,
    /// A request under way: how many bytes it is to bring, and the grant (strict mode; else 0).
    Busy { bytes: u32, grant: u64, epoch: u32 },
    /// Its request was given up, but the device may still write here: not used again with this driver.
    Lost { epoch: u32 },
}

struct Unit {
    memory: Shared,
    state: State,
}

pub struct BlockDevice {
    pub client: blk::Client,
    units: Vec<Unit>,
    strict: bool,
    unit_of: Vec<u8>,       // by the cache's buffer number
    buffer_of: [u8; 256],   // by the channel's slot
}

impl BlockDevice {
    /// The disk behind interface `interface`. Panics if the manifest gives no I/O memory for it.
    pub fn open(interface: &str) -> BlockDevice {
        let client = blk::Client::connect(interface).expect("interface blk in the manifest");
        let pieces: Vec<Shared> = match info::pool_of(client.channel()) {
            Some(pool) => {
                let memory = pool.memory().expect("the pool is mapped");
                let piece = |index| memory.part(index * EXTENT, EXTENT).expect("in the pool");
                (0..pool.size() / EXTENT).map(piece).collect()
            }
            None => info::grant_objects().map(|object| object.memory().expect("grant objects are mapped")).collect(),
        };
        assert!(!pieces.is_empty(), "no I/O memory: [pool.blk] or [grants.blk] is missing in the manifest");
        assert!(pieces.iter().all(|piece| piece.len() >= EXTENT), "I/O buffers must have 128 KiB");
        let strict = info::pool_of(client.channel()).is_none();
        let free = |memory| Unit { memory, state: State::Free };
        let units: Vec<Unit> = pieces.into_iter().take(BUFFERS_MAX).map(free).collect();
        let unit_of = units.iter().map(|_| NO_BUFFER).collect();
        BlockDevice { client, units, strict, unit_of, buffer_of: [NO_BUFFER; 256] }
    }

    /// How many buffers the cache may count on.
    pub fn buffers(&self) -> usize {
        self.units.len().min(self.client.capacity())
    }

    /// Reads under way.
    pub fn in_flight(&self) -> usize {
        self.units.iter().filter(|unit| matches!(unit.state, State::Busy { .. })).count()
    }

    /// The next read that has ended: the cache's buffer, and how. Its bytes must be copied before the next call.
    pub fn ended(&mut self) -> Option<(usize, Outcome)> {
        let completion = self.client.poll()?;
        let buffer = usize::from(core::mem::replace(&mut self.buffer_of[slot_of(completion.tag)], NO_BUFFER));
        let result = completion.result;
        self.client.release(completion);
        // Another request than a read (`info`) is never under way once the service runs.
        let unit = usize::from(*self.unit_of.get(buffer)?);
        let (bytes, grant, epoch) = match self.units[unit].state {
            State::Busy { bytes, grant, epoch } => (bytes, grant, epoch),
            _ => return None,
        };
        let replaced = epoch != self.client.epoch();
        if self.strict {
            // When this returns nobody else can reach the memory. It fails if the grant ended with the driver.
            let _ = hypercall::revoke(grant);
        }
        self.units[unit].state = State::Free;
        let outcome = match result {
            // Both read operations return the bytes read in the first argument.
            Ok(reply) if reply.args[0] as u32 == bytes => Outcome::Arrived,
            // The new driver was sent the grant that only the old one could use.
            Err(_) if self.strict && replaced => Outcome::Undone,
            Err(Error::TIMEOUT) => {
                self.give_up(unit);
                Outcome::Failed
            }
            Ok(_) | Err(_) => Outcome::Failed,
        };
        Some((buffer, outcome))
    }

    /// A driver that answers others but not this one: the memory is left to it, and too much of that ends the
    /// connection, which brings a new pool.
    fn give_up(&mut self, unit: usize) {
        if self.strict {
            return; // the grant has been taken back
        }
        let epoch = self.client.epoch();
        self.units[unit].state = State::Lost { epoch };
        let lost = self.units.iter().filter(|unit| matches!(unit.state, State::Lost { .. })).count();
        let all = self.units.len();
        log!(warning, "the disk has not answered a read in time, {} of {} buffers are lost to it", lost, all);
        if lost * 2 >= all {
            hypercall::complain(self.client.channel(), REASON_SILENT);
        }
    }

    fn free_unit(&mut self) -> Option<usize> {
        let epoch = self.client.epoch();
        self.units.iter().position(|unit| match unit.state {
            State::Free => true,
            State::Busy { .. } => false,
            State::Lost { epoch: then } => then != epoch,
        })
    }

    /// Read and wait, for the time before the service runs. `into`: whole blocks.
    pub fn read_now(&mut self, position: u64, into: &mut [u8]) -> Result<(), &'static str> {
        for (index, piece) in into.chunks_mut(EXTENT).enumerate() {
            let at = position + (index * EXTENT) as u64;
            for attempt in 0.. {
                match self.read_piece(at, piece) {
                    Ok(()) => break,
                    Err(_) if attempt < 3 => {}
                    Err(_) => return Err("cannot be read: the disk reports errors"),
                }
            }
        }
        Ok(())
    }

    fn read_piece(&mut self, position: u64, into: &mut [u8]) -> Result<(), Error> {
        if !self.read(0, position, into.len()) {
            // No driver, or (strict mode) none that could be lent memory: perhaps soon.
            rt::wait(&mut [&mut *self.client], Some(ticks() + ms_to_ticks(RETRY_MS)));
            return Err(Error::IO);
        }
        loop {
            match self.ended() {
                Some((_, Outcome::Arrived)) => {
                    return self.units[usize::from(self.unit_of[0])].memory.copy_out(0, into);
                }
                Some(_) => return Err(Error::IO),
                None => {
                    rt::wait(&mut [&mut *self.client], None);
                }
            }
        }
    }
}

impl Disk for BlockDevice {
    fn read(&mut self, buffer: usize, position: u64, bytes: usize) -> bool {
        debug_assert!(position % BLOCK as u64 == 0 && bytes <= EXTENT);
        let unit = match self.free_unit() {
            Some(unit) if self.client.has_room() => unit,
            _ => return false,
        };
        let (sector, bytes) = (position / SECTOR, bytes as u32);
        let (submitted, grant) = if self.strict {
            let channel = self.client.channel();
            match hypercall::grant(unit as u32, channel, abi::GRANT_RIGHTS_READ | abi::GRANT_RIGHTS_WRITE) {
                Ok(grant) => (self.client.submit_read_grant(&ReadGrantArgs { sector, grant, bytes }), grant),
                // No driver to lend it to: `run` tries again when there is one.
                Err(_) => return false,
            }
        } else {
            let pool_offset = (unit * EXTENT) as u64;
            (self.client.submit_read(&ReadArgs { sector, pool_offset, bytes }), 0)
        };
        match submitted {
            Ok(tag) => {
                self.units[unit].state = State::Busy { bytes, grant, epoch: self.client.epoch() };
                self.unit_of[buffer] = unit as u8;
                self.buffer_of[slot_of(tag)] = buffer as u8;
                true
            }
            Err(_) => {
                if self.strict {
                    let _ = hypercall::revoke(grant);
                }
                false
            }
        }
    }

    fn memory(&self, buffer: usize) -> *const u8 {
        self.units[usize::from(self.unit_of[buffer])].memory.address()
    }
}

fn slot_of(tag: Tag) -> usize {
    (tag.0 & 0xff) as usize
}
