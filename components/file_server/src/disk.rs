//! The disk below the cache: the client end of blk@1, and the memory it reads into.
//!
//! Default: a pool lent once per connection, of which the driver handles offsets. Its bytes are the driver's to
//! spoil at any time: the cache copies and checks them. Strict mode (the manifest has grant objects instead): the
//! objects are the cache's own frames. One is lent for a read and taken back when that has ended, however it has
//! ended; only then does the cache look at it.

use crate::blocks::BLOCK;
use crate::cache::{Disk, Outcome, Store, EXTENT};
use crate::seal::SUMS;
use protocols::blk::{self, ReadArgs, ReadGrantArgs};
use rt::alloc::vec::Vec;
use rt::info;
use rt::time::{ms_to_ticks, ticks};
use rt::{abi, hypercall, kill_point, log, Error, Shared, Tag};

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
    unit_bytes: usize,
    unit_of: Vec<u8>,       // by the cache's buffer number; in strict mode they are the same
    buffer_of: [u8; 256],   // by the channel's slot
}

impl BlockDevice {
    /// The disk behind interface `interface`. Panics if the manifest gives no I/O memory for it.
    pub fn open(interface: &str) -> BlockDevice {
        let client = blk::Client::connect(interface).expect("interface blk in the manifest");
        let pool = info::pool_of(client.channel());
        let strict = pool.is_none();
        let pieces: Vec<Shared> = match pool {
            Some(pool) => {
                let memory = pool.memory().expect("the pool is mapped");
                let piece = |index| memory.part(index * EXTENT, EXTENT).expect("in the pool");
                (0..pool.size() / EXTENT).map(piece).collect()
            }
            None => info::grant_objects().map(|object| object.memory().expect("grant objects are mapped")).collect(),
        };
        let unit_bytes = pieces.iter().map(|piece| piece.len()).min().unwrap_or(0);
        assert!(unit_bytes > 0, "no I/O memory: [pool.blk] or [grants.blk] is missing in the manifest");
        assert!(unit_bytes >= EXTENT, "I/O buffers must have 128 KiB");
        let free = |memory| Unit { memory, state: State::Free };
        let units: Vec<Unit> = pieces.into_iter().take(BUFFERS_MAX).map(free).collect();
        let unit_of = (0..units.len() as u8).collect();
        BlockDevice { client, units, strict, unit_bytes, unit_of, buffer_of: [NO_BUFFER; 256] }
    }

    /// The size of the disk in bytes; waits for a driver to tell it.
    pub fn size(&mut self) -> Result<u64, Error> {
        let disk = self.client.info()?;
        self.unit_bytes = self.unit_bytes.min(disk.max_bytes as usize);
        Ok(disk.sectors * SECTOR)
    }

    /// The most bytes that one read brings.
    pub fn unit_bytes(&self) -> usize {
        self.unit_bytes
    }

    /// The same as the version before has found it.
    pub fn is_known(&mut self, unit_bytes: usize) {
        self.unit_bytes = self.unit_bytes.min(unit_bytes);
    }

    /// Where the cache is to keep what it reads, `heap` bytes being left for it, if it is to be of use.
    pub fn store(&self, heap: usize) -> Store {
        if self.strict {
            let most = (self.unit_bytes / BLOCK).min(SUMS as usize);
            assert!(most > 0, "the disk reads less than a block at a time");
            let buffers = self.units.iter().map(|unit| unit.memory.address() as *const u8).collect();
            return Store::InPlace { buffers, blocks: 1 << (usize::BITS - 1 - most.leading_zeros()) };
        }
        Store::Copied { frames: heap / EXTENT, buffers: self.units.len().min(self.client.capacity()) }
    }

    /// Reads under way.
    pub fn in_flight(&self) -> usize {
        self.units.iter().filter(|unit| matches!(unit.state, State::Busy { .. })).count()
    }

    /// The next read that has ended: the cache's buffer, and how. Without strict mode its bytes must be copied
    /// before the next call; in strict mode nobody else can reach them from now on until the next read into it.
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
        kill_point!("files.before_copy");
        if self.strict {
            take_back(grant);
        }
        self.units[unit].state = State::Free;
        let outcome = match result {
            // Both read operations return the bytes read in the first argument.
            Ok(reply) if reply.args[0] as u32 == bytes => Outcome::Arrived,
            // The new driver could not use what was lent while there was the old one.
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

    fn free_unit(&mut self, buffer: usize) -> Option<usize> {
        if self.strict {
            return Some(buffer);
        }
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
            // No driver: perhaps soon.
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
        debug_assert!(position % BLOCK as u64 == 0);
        let unit = match self.free_unit(buffer) {
            Some(unit) if self.client.has_room() => unit,
            _ => return false,
        };
        let (sector, bytes) = (position / SECTOR, bytes as u32);
        let (submitted, grant) = if self.strict {
            let grant = lend(unit, self.client.channel());
            (self.client.submit_read_grant(&ReadGrantArgs { sector, grant, bytes }), grant)
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
                    take_back(grant);
                }
                false
            }
        }
    }

    fn memory(&self, buffer: usize) -> *const u8 {
        self.units[usize::from(self.unit_of[buffer])].memory.address()
    }
}

/// Lend a grant object to the driver, for one read.
fn lend(object: usize, channel: u32) -> u64 {
    match hypercall::grant(object as u32, channel, abi::GRANT_RIGHTS_READ | abi::GRANT_RIGHTS_WRITE) {
        Ok(grant) => grant,
        Err(error) => panic!("grant object {} cannot be lent: {}; offer = \"rw\" in the manifest?", object, error),
    }
}

/// When this returns nobody else can reach the object. Where that is not certain this instance ends: its successor
/// has other objects, and nobody ever looks at this one again.
fn take_back(grant: u64) {
    if let Err(error) = hypercall::revoke(grant) {
        panic!("memory lent for a read cannot be taken back: {}", error);
    }
}

fn slot_of(tag: Tag) -> usize {
    (tag.0 & 0xff) as usize
}
