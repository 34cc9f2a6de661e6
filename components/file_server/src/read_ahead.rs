//! How far to read ahead of one open file.
//!
//! A stream that goes on where it stopped doubles its window from 256 KiB up to a limit; anything else
//! closes the window. New reads go out when three fifths of the window are used up, so that they go out many
//! at a time and the disk driver is woken rarely, while the rest covers the time they take.

const START: u64 = 256 << 10;

#[derive(Clone, Copy, Default, Debug)]
pub struct Stream {
    next: u64,
    window: u64,  // bytes
    ordered: u64, // file offset up to which the disk has been asked
}

impl Stream {
    /// Note a read of `offset..end` and answer which part of the file to ask of the disk now: at least what
    /// is read itself. `limit`: most bytes ahead.
    pub fn note(&mut self, offset: u64, end: u64, limit: u64) -> (u64, u64) {
        if offset != self.next {
            *self = Stream { next: end, window: 0, ordered: end };
            return (offset, end);
        }
        self.window = (self.window * 2).clamp(START, limit.max(START));
        self.next = end;
        self.ordered = self.ordered.max(offset);
        let goal = end.saturating_add(self.window);
        let least = end.saturating_add(self.window * 2 / 5);
        if self.ordered >= least {
            return (end, end);
        }
        let from = self.ordered;
        self.ordered = goal;
        (from, goal)
    }

    /// Less could be asked for than `note` wanted: up to `offset` only.
    pub fn stopped(&mut self, offset: u64) {
        self.ordered = self.ordered.min(offset);
    }

    pub fn sequential(&self) -> bool {
        self.window > 0
    }
}
