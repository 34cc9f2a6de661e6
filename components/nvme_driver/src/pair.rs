//! A submission queue and the completion queue that belongs to it (NVM Express 1.4, chapters 3 and 4), as rings: pure
//! logic over shared memory and the doorbell registers.
//!
//! The device can write all of that memory and is not trusted: of a completion each word is read once. What it says is
//! checked by whoever has sent the commands.

use core::sync::atomic::{fence, Ordering};
use rt::shared::Shared;
use rt::wait::Source;

pub const COMMAND_BYTES: usize = 64;
pub const COMPLETION_BYTES: usize = 16;
/// The doorbells: for each pair the tail of the submission queue, then the head of the completion queue.
pub const DOORBELLS: usize = 0x1000;

/// A command: words 0 to 15.
pub type Command = [u32; 16];

/// One that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The upper half of the command's word 0.
    pub id: u16,
    /// 0 for success; else status code, and its type from bit 8 on.
    pub status: u16,
}

/// The pair. There are never more commands with the device than one less than `entries`: that is up to the caller.
pub struct Pair {
    memory: Shared,
    registers: Shared,
    submissions: usize,
    completions: usize,
    doorbell: usize,
    doorbell_stride: usize,
    entries: u16,
    tail: u16,
    announced: u16,
    head: u16,
    released: u16,
    /// What marks a completion of the present round.
    phase: u32,
}

impl Pair {
    /// Pair `number` of `entries` over zeroed `memory`, whose rings are at the two offsets. `doorbell_stride`: bytes
    /// between two doorbell registers.
    pub fn new(
        memory: Shared,
        registers: Shared,
        offsets: (usize, usize),
        number: usize,
        doorbell_stride: usize,
        entries: u16,
    ) -> Pair {
        Pair {
            memory,
            registers,
            submissions: offsets.0,
            completions: offsets.1,
            doorbell: DOORBELLS + 2 * number * doorbell_stride,
            doorbell_stride,
            entries,
            tail: 0,
            announced: 0,
            head: 0,
            released: 0,
            phase: 1,
        }
    }

    /// Puts a command into the ring; the device learns of it by `ring`.
    pub fn push(&mut self, command: &Command) {
        let place = self.submissions + usize::from(self.tail) * COMMAND_BYTES;
        for (index, word) in command.iter().enumerate() {
            self.memory.store_u32(place + index * 4, *word);
        }
        self.tail = (self.tail + 1) % self.entries;
    }

    /// Tells the device of new commands, if there are any; the same command is told once.
    pub fn ring(&mut self) -> bool {
        let news = self.tail != self.announced;
        if news {
            self.announced = self.tail;
            fence(Ordering::Release); // the commands before the doorbell
            self.registers.store_u32(self.doorbell, u32::from(self.tail));
        }
        news
    }

    /// The next command that has ended.
    pub fn pop(&mut self) -> Option<Ended> {
        let word = self.last_word();
        if word >> 16 & 1 != self.phase {
            return None;
        }
        self.head = (self.head + 1) % self.entries;
        if self.head == 0 {
            self.phase ^= 1;
        }
        Some(Ended { id: word as u16, status: (word >> 17 & 0x7ff) as u16 })
    }

    /// Gives the places of what was taken back to the device.
    pub fn release(&mut self) {
        if self.head != self.released {
            self.released = self.head;
            self.registers.store_u32(self.doorbell + self.doorbell_stride, u32::from(self.head));
        }
    }

    /// Whether `pop` would give something.
    pub fn has_ended(&self) -> bool {
        self.last_word() >> 16 & 1 == self.phase
    }

    fn last_word(&self) -> u32 {
        self.memory.load_u32(self.completions + usize::from(self.head) * COMPLETION_BYTES + 12)
    }
}

/// It interrupts at every end.
impl Source for Pair {
    fn ready(&mut self) -> bool {
        self.has_ended()
    }

    fn announce_sleep(&mut self) {}

    fn announce_awake(&mut self) {}
}
