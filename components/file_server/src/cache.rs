//! The block cache: extents of the disk, read ahead of use and verified before anybody sees them.
//!
//! An extent is 32 blocks (128 KiB) of data, or of the checksum table, copied out of I/O memory and verified as it
//! is copied; or, where I/O memory is lent for each read and taken back, as many blocks as are lent together,
//! verified and kept where the device has put them. A data extent is only asked of the disk when the table extent
//! with its checksums is in the cache, and pins that until it has arrived. Data and table extents have frames of
//! their own. So no load ever waits for something that waits for it.

use crate::blocks::{u32_at, Block, Blocks, Failure, Stop, BLOCK};
use crate::crc32c::Checksum;
use crate::kill_point;
use crate::seal::{Seal, SUMS};
use alloc::alloc::{alloc, dealloc, Layout};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Blocks and bytes of an extent that is copied.
const EXTENT_BLOCKS: u64 = 32;
pub const EXTENT: usize = EXTENT_BLOCKS as usize * BLOCK;
/// Frames for the checksum table; each covers 128 MiB of data.
pub const TABLE_FRAMES: usize = 4;
/// The same where extents stay where they are, and are larger.
const TABLE_FRAMES_IN_PLACE: usize = 2;
const ATTEMPTS: u8 = 2;

/// Where extents are kept.
pub enum Store {
    /// In private memory, so many of data, copied there out of so many I/O buffers of 128 KiB.
    Copied { frames: usize, buffers: usize },
    /// Where the disk reads them to: I/O buffer n is frame n, at the n-th address, 8-byte aligned, of so many blocks
    /// (a power of two, 1,024 at most). When the disk says that a read has ended, nobody but the cache can reach
    /// its buffer any more, until the next read into it begins.
    InPlace { buffers: Vec<*const u8>, blocks: u64 },
}

/// The disk below. Buffers are numbered from 0; the cache never has two reads in one.
pub trait Disk {
    /// Begin to read whole blocks from byte `position` into a buffer. False: not now, ask again later.
    fn read(&mut self, buffer: usize, position: u64, bytes: usize) -> bool;
    /// Where the bytes of a buffer are that is to be copied. Valid, 8-byte aligned, EXTENT bytes long; its contents
    /// may change any time.
    fn memory(&self, buffer: usize) -> *const u8;
}

/// How a read ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Arrived,
    Failed,
    /// Through no fault of the disk: it is asked again, however often.
    Undone,
}

/// Blocks of data (number = block / blocks of an extent) or of the checksum table (counted from its start).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent(u64);

const TABLE: u64 = 1 << 63;
const NOTHING: u64 = u64::MAX;

impl Extent {
    fn is_table(self) -> bool {
        self.0 & TABLE != 0
    }

    fn number(self) -> u64 {
        self.0 & !TABLE
    }
}

/// What became of a request for an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    Ready,
    Coming,
    /// Every frame is being filled; ask again when one is.
    Full,
}

/// Something whoever waits for an extent must know. `block` is the first wrong block of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub extent: Extent,
    pub failure: Option<Failure>,
    pub block: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Empty,
    /// Queued for its checksums, a buffer, or the disk.
    Waiting,
    Reading,
    /// Ready, but those who wait for it have not had their turn: not evicted.
    Arrived,
    Ready,
}

struct Frame {
    state: State,
    /// Loads in flight that need this (table) frame.
    pins: u32,
    /// Clock of the last use; 0: used up, evict first.
    used: u64,
    attempts: u8,
    /// Read ahead and not used yet.
    ahead: bool,
}

/// Counters for the log and for tests.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    pub loads: u64, // extents that have come
    pub rereads: u64,
    pub wasted: u64, // read ahead, evicted before use
}

pub struct Cache {
    seal: Seal,
    roots: Vec<u32>,
    checksum: Checksum,
    extent_blocks: u64,
    in_place: bool,
    own: *mut u8,           // the frames' memory; null where they are the disk's
    places: Vec<*const u8>, // where each frame is
    data_frames: usize,
    keys: Vec<u64>, // what each frame holds; apart from `frames`, since it is searched all the time
    frames: Vec<Frame>,
    queue: VecDeque<u16>,    // waiting frames, in order
    buffers: Vec<u16>,       // the frame each busy I/O buffer is for
    free_buffers: Vec<u16>, // where extents are copied
    events: VecDeque<Event>,
    clock: u64,
    ahead: usize,
    pub counters: Counters,
}

const NO_FRAME: u16 = u16::MAX;

impl Cache {
    /// Nothing is allocated later.
    pub fn new(seal: Seal, roots: Vec<u32>, checksum: Checksum, store: Store) -> Cache {
        let in_place = matches!(store, Store::InPlace { .. });
        let (own, places, extent_blocks, table_frames, buffers) = match store {
            Store::Copied { frames, buffers } => {
                let count = frames + TABLE_FRAMES;
                // SAFETY: the size is not zero. Not zeroed, since touching it all would take 10 ms of every start: a
                // frame is only looked at when an extent has been copied into it.
                let own = unsafe { alloc(Cache::layout(count)) };
                assert!(!own.is_null(), "not enough memory for {} cache extents", count);
                let places: Vec<_> = (0..count).map(|frame| own.wrapping_add(frame * EXTENT) as *const u8).collect();
                (own, places, EXTENT_BLOCKS, TABLE_FRAMES, buffers)
            }
            Store::InPlace { buffers, blocks } => {
                assert!(SUMS % blocks == 0 && buffers.len() > TABLE_FRAMES_IN_PLACE, "too few or wrong I/O buffers");
                let count = buffers.len();
                (core::ptr::null_mut(), buffers, blocks, TABLE_FRAMES_IN_PLACE, count)
            }
        };
        let count = places.len();
        let empty = || Frame { state: State::Empty, pins: 0, used: 0, attempts: 0, ahead: false };
        let events = count + 1;
        Cache {
            seal,
            roots,
            checksum,
            extent_blocks,
            in_place,
            own,
            places,
            data_frames: count - table_frames,
            keys: core::iter::repeat(NOTHING).take(count).collect(),
            frames: (0..count).map(|_| empty()).collect(),
            queue: VecDeque::with_capacity(count + 1),
            buffers: core::iter::repeat(NO_FRAME).take(buffers).collect(),
            free_buffers: if in_place { Vec::new() } else { (0..buffers as u16).rev().collect() },
            events: VecDeque::with_capacity(events),
            clock: 1,
            ahead: 0,
            counters: Counters::default(),
        }
    }

    fn layout(frames: usize) -> Layout {
        Layout::from_size_align(frames * EXTENT, BLOCK).expect("cache size")
    }

    /// Tells this image from others: it depends on every byte.
    pub fn image(&self) -> u32 {
        self.seal.roots_checksum
    }

    /// The extent of a block of data.
    pub fn extent_of(&self, block: u64) -> Extent {
        Extent(block / self.extent_blocks)
    }

    /// Bytes of an extent; extent n of the data begins at n times so many.
    pub fn extent_bytes(&self) -> usize {
        self.extent_blocks as usize * BLOCK
    }

    /// Bytes of data that are kept.
    pub fn capacity(&self) -> usize {
        self.data_frames * self.extent_bytes()
    }

    /// Most extents that may be in the cache before anybody has used them.
    pub fn ahead_max(&self) -> usize {
        self.data_frames * 3 / 4
    }

    /// How many extents may be read ahead now: there is a buffer for each, and not too many are unused.
    pub fn room_ahead(&self) -> usize {
        let room = self.ahead_max().saturating_sub(self.ahead);
        if self.in_place {
            return room;
        }
        room.min(self.free_buffers.len().saturating_sub(self.queue.len()))
    }

    /// See to it that an extent comes. `ahead`: nobody waits for it yet, so it evicts nothing read ahead.
    pub fn want(&mut self, extent: Extent, ahead: bool) -> Want {
        if let Some(frame) = self.find(extent) {
            return if self.is_there(frame) { Want::Ready } else { Want::Coming };
        }
        let frame = match self.victim(extent, ahead) {
            Some(frame) => frame,
            None => return Want::Full,
        };
        self.use_up_ahead(frame, true);
        self.keys[frame] = extent.0;
        self.clock += 1;
        self.frames[frame] = Frame { state: State::Waiting, pins: 0, used: self.clock, attempts: 0, ahead };
        self.ahead += usize::from(ahead);
        self.queue.push_back(frame as u16);
        Want::Coming
    }

    /// The bytes of one data extent, if it is there, and mark it as used.
    pub fn bytes(&mut self, extent: Extent) -> Option<&[u8]> {
        let frame = self.find(extent)?;
        if !self.is_there(frame) {
            return None;
        }
        self.use_up_ahead(frame, false);
        self.clock += 1;
        self.frames[frame].used = self.clock;
        let bytes = self.blocks_in(extent) as usize * BLOCK;
        // SAFETY: `take` has verified so many bytes of a frame that is there, and nobody writes it until it is
        // evicted, which takes `&mut self`.
        Some(unsafe { core::slice::from_raw_parts(self.places[frame], bytes) })
    }

    /// A stream has read past this extent: nobody will want it soon.
    pub fn used_up(&mut self, extent: Extent) {
        if let Some(frame) = self.find(extent) {
            self.frames[frame].used = 0;
        }
    }

    /// Send to the disk whatever can go. Call it after `want` and `completed`.
    pub fn pump(&mut self, disk: &mut dyn Disk) {
        // A load may put the table extent it needs at the end of the queue: two rounds reach that too.
        for _ in 0..2 {
            for _ in 0..self.queue.len() {
                let frame = match self.queue.pop_front() {
                    Some(frame) => frame,
                    None => return,
                };
                if !self.start(usize::from(frame), disk) {
                    self.queue.push_back(frame);
                }
            }
        }
    }

    /// A read into `buffer` has ended. Returns false where that buffer was not in use.
    pub fn completed(&mut self, buffer: usize, outcome: Outcome, disk: &dyn Disk) -> bool {
        let frame = match self.buffers.get(buffer) {
            Some(&frame) if frame != NO_FRAME => usize::from(frame),
            _ => return false,
        };
        self.buffers[buffer] = NO_FRAME;
        if !self.in_place {
            self.free_buffers.push(buffer as u16);
        }
        let extent = Extent(self.keys[frame]);
        let verdict = match outcome {
            Outcome::Arrived if self.in_place => self.verify(frame, extent, None),
            Outcome::Arrived => self.verify(frame, extent, Some(disk.memory(buffer))),
            Outcome::Failed | Outcome::Undone => Err((Failure::Disk, None)),
        };
        self.unpin(extent);
        self.frames[frame].attempts += u8::from(outcome != Outcome::Undone);
        match verdict {
            Ok(()) => {
                self.frames[frame].state = State::Arrived;
                self.counters.loads += 1;
                self.events.push_back(Event { extent, failure: None, block: 0 });
            }
            Err(_) if self.frames[frame].attempts < ATTEMPTS => {
                self.counters.rereads += u64::from(outcome != Outcome::Undone);
                self.frames[frame].state = State::Waiting;
                self.queue.push_front(frame as u16);
            }
            Err((failure, block)) => self.fail(frame, failure, block.unwrap_or_else(|| self.first_block(extent))),
        }
        true
    }

    /// Those who waited for the extent of an event have had their turn.
    pub fn noticed(&mut self, extent: Extent) {
        if let Some(frame) = self.find(extent) {
            if self.frames[frame].state == State::Arrived {
                self.frames[frame].state = State::Ready;
            }
        }
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Submit one waiting frame; false if it must go on waiting.
    fn start(&mut self, frame: usize, disk: &mut dyn Disk) -> bool {
        let extent = Extent(self.keys[frame]);
        let table = match self.table_of(extent) {
            None => None,
            Some(needed) => match self.want(needed, false) {
                Want::Ready => self.find(needed),
                _ => return false,
            },
        };
        let buffer = match self.free_buffers.last() {
            _ if self.in_place => frame,
            Some(buffer) => usize::from(*buffer),
            None => return false,
        };
        let position = self.first_block(extent) * BLOCK as u64;
        if !disk.read(buffer, position, self.blocks_in(extent) as usize * BLOCK) {
            return false;
        }
        self.free_buffers.pop(); // in place there are none
        self.buffers[buffer] = frame as u16;
        self.frames[frame].state = State::Reading;
        if let Some(table) = table {
            self.clock += 1;
            self.frames[table].used = self.clock;
            self.frames[table].pins += 1;
        }
        true
    }

    /// Compare the checksums of an extent that has come, copied out of I/O memory if it is not in place.
    fn verify(&mut self, frame: usize, extent: Extent, from: Option<*const u8>) -> Result<(), (Failure, Option<u64>)> {
        let first = self.first_block(extent);
        let blocks = self.blocks_in(extent) as usize;
        let sums: *const u8 = match self.table_of(extent).and_then(|table| self.find(table)) {
            // A data extent never crosses a table block, since its number of blocks divides 1,024.
            Some(table) => {
                let block = extent.number() * self.extent_blocks / SUMS % self.extent_blocks;
                let index = extent.number() * self.extent_blocks % SUMS;
                self.places[table].wrapping_add(block as usize * BLOCK + index as usize * 4)
            }
            None => self.roots[(extent.number() * self.extent_blocks) as usize..].as_ptr() as *const u8,
        };
        let mut wrong = None;
        let compare = |block: usize, sum: u32| {
            kill_point!("files.before_checksum");
            // SAFETY: `sums` has a checksum for each block of the extent: a pinned, ready table frame holds
            // 1,024 in each block, and `roots` one for each block of the table. Both are little-endian u32s.
            let right = unsafe { u32_at(core::slice::from_raw_parts(sums.add(4 * block), 4), 0) };
            if sum != right && wrong.is_none() {
                wrong = Some(first + block as u64);
            }
        };
        let place = self.places[frame];
        match from {
            // SAFETY: `from` is a buffer of EXTENT bytes (contract of `Disk`), the frame is EXTENT bytes of our
            // own, in state `Reading`, so nobody has a reference into it. Both are aligned.
            Some(from) => unsafe { self.checksum.copy_blocks(from, place as *mut u8, blocks, compare) },
            // SAFETY: the read has ended, so nobody else can write the buffer (contract of `Store`), aligned and of
            // so many blocks.
            None => {
                let bytes = unsafe { core::slice::from_raw_parts(place, blocks * BLOCK) };
                self.checksum.of_blocks(bytes, compare)
            }
        }
        match wrong {
            None => Ok(()),
            Some(block) => Err((Failure::Corrupt, Some(block))),
        }
    }

    /// Give a load up, and with a table extent every load that waits for it.
    fn fail(&mut self, frame: usize, failure: Failure, block: u64) {
        let extent = Extent(self.keys[frame]);
        self.drop_frame(frame, failure, block);
        if !extent.is_table() {
            return;
        }
        for _ in 0..self.queue.len() {
            if let Some(waiting) = self.queue.pop_front() {
                if self.table_of(Extent(self.keys[usize::from(waiting)])) == Some(extent) {
                    self.drop_frame(usize::from(waiting), failure, block);
                } else {
                    self.queue.push_back(waiting);
                }
            }
        }
    }

    fn drop_frame(&mut self, frame: usize, failure: Failure, block: u64) {
        self.events.push_back(Event { extent: Extent(self.keys[frame]), failure: Some(failure), block });
        self.use_up_ahead(frame, false);
        self.keys[frame] = NOTHING;
        self.frames[frame].state = State::Empty;
    }

    fn unpin(&mut self, extent: Extent) {
        if let Some(table) = self.table_of(extent).and_then(|table| self.find(table)) {
            self.frames[table].pins -= 1;
        }
    }

    /// A frame to load `extent` into: an empty one, or the one unused for longest.
    fn victim(&self, extent: Extent, ahead: bool) -> Option<usize> {
        let range = if extent.is_table() { self.data_frames..self.frames.len() } else { 0..self.data_frames };
        let mut best = None;
        for index in range {
            let frame = &self.frames[index];
            // Lowest first: empty, then by age; what was read ahead only for somebody who waits.
            let rank = match frame.state {
                State::Empty => (false, 0),
                State::Ready if frame.pins == 0 && !(ahead && frame.ahead) => (frame.ahead, frame.used + 1),
                _ => continue,
            };
            if best.map_or(true, |(lowest, _)| rank < lowest) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn use_up_ahead(&mut self, frame: usize, evicted: bool) {
        if self.frames[frame].ahead {
            self.frames[frame].ahead = false;
            self.ahead -= 1;
            self.counters.wasted += u64::from(evicted);
        }
    }

    fn is_there(&self, frame: usize) -> bool {
        matches!(self.frames[frame].state, State::Arrived | State::Ready)
    }

    fn find(&self, extent: Extent) -> Option<usize> {
        self.keys.iter().position(|key| *key == extent.0)
    }

    /// The table extent with the checksums of a data extent.
    fn table_of(&self, extent: Extent) -> Option<Extent> {
        if extent.is_table() {
            return None;
        }
        Some(Extent(TABLE | extent.number() * self.extent_blocks / SUMS / self.extent_blocks))
    }

    fn first_block(&self, extent: Extent) -> u64 {
        let start = if extent.is_table() { self.seal.table_block } else { 0 };
        start + extent.number() * self.extent_blocks
    }

    /// The last extent of data and of table is shorter.
    fn blocks_in(&self, extent: Extent) -> u64 {
        let all = if extent.is_table() { self.seal.table_blocks } else { self.seal.data_blocks };
        (all - extent.number() * self.extent_blocks).min(self.extent_blocks)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if !self.own.is_null() {
            // SAFETY: allocated in `new` with this layout; no reference into it outlives `self`.
            unsafe { dealloc(self.own, Cache::layout(self.frames.len())) };
        }
    }
}

impl Blocks for Cache {
    fn block(&mut self, number: u64) -> Result<&Block, Stop> {
        if number >= self.seal.data_blocks {
            return Err(Failure::Corrupt.into());
        }
        let offset = (number % self.extent_blocks) as usize * BLOCK;
        match self.bytes(self.extent_of(number)) {
            Some(bytes) => {
                // SAFETY: a Block is 4,096 bytes of any value, and that many were just sliced.
                Ok(unsafe { &*(bytes[offset..offset + BLOCK].as_ptr() as *const Block) })
            }
            None => Err(Stop::Missing(number)),
        }
    }
}
