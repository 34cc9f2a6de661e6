//! Writes to a disk what only this run would write, many requests at a time, and reads all of it again.
//!
//!     disk_writer write COUNT SEED [BATCH]    COUNT operations; after every BATCH of them a flush, and a line
//!                                             `flushed N` when it is answered. At last everything is read
//!     disk_writer refused                     the disk says that it is read-only, and refuses each kind of write
//!
//! Operation N (from 1) writes, or discards, some sectors; which, SEED says (`tests/vfio/writing.py` knows, too). Word I
//! of sector S then is (N + 1) << 40 | S << 8 | I; as if by operation 0 where nothing has been written yet. Operations
//! that overlap are never under way together. A write that a dead driver has left comes back as `dead`, since the pool
//! its data was in has gone with that driver: it is prepared and asked for again. Exit status 0, or 1 and a line that
//! says what was wrong.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use protocols::blk::{self, Client, DiscardArgs, ReadArgs, WriteArgs, WriteGrantArgs};
use rt::info;
use rt::{Completion, Error, Output, Shared, Tag};

rt::program!(main);

const SECTOR: usize = blk::SECTOR_BYTES as usize;
const MOST: u64 = 256; // sectors of one operation
const FEW: u64 = 24;
const READ: u64 = 255; // sectors read at once
const DISCARDED: u32 = u32::MAX;

/// What was not as it should be.
enum Problem {
    Usage,
    Failed(&'static str, Error),
    /// Sector and word that were read.
    Wrong(u64, u64),
    /// A write was not refused, or not with the right error.
    Taken(&'static str),
}

type Outcome = Result<(), Problem>;

fn main(arguments: rt::Args) -> i32 {
    let number = |index| core::str::from_utf8(arguments.get(index)?).ok()?.parse::<u64>().ok();
    let mut output = Output::default();
    let mut client = Client::connect("blk").expect("interface blk");
    let outcome = match (arguments.get(1), number(2), number(3)) {
        (Some(b"write"), Some(count), Some(seed)) => write(&mut client, &mut output, count, seed, number(4)),
        (Some(b"refused"), None, None) => refused(&mut client),
        _ => Err(Problem::Usage),
    };
    let said = match outcome {
        Ok(()) => return 0,
        Err(Problem::Usage) => writeln!(output, "disk_writer write COUNT SEED [BATCH] | refused"),
        Err(Problem::Failed(what, error)) => writeln!(output, "{}: {}", what, error),
        Err(Problem::Wrong(sector, word)) => writeln!(output, "sector {} has {:#x}", sector, word),
        Err(Problem::Taken(what)) => writeln!(output, "{} was not refused", what),
    };
    said.map_or(2, |()| 1)
}

/// One operation; `sectors` from `first`.
#[derive(Clone, Copy)]
struct Change {
    number: u32,
    first: u64,
    sectors: u64,
    discard: bool,
}

impl Change {
    fn overlaps(&self, other: &Change) -> bool {
        self.first < other.first + other.sectors && other.first < self.first + self.sectors
    }
}

/// All operations, one after the other.
struct Changes {
    state: u64,
    number: u32,
    disk: u64,
}

impl Changes {
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    /// Of the disk the first and the last sixteenth are left as they are.
    fn next(&mut self) -> Change {
        let kind = self.draw(16);
        let sectors = 1 + self.draw(if kind % 4 == 0 { MOST } else { FEW });
        let first = self.disk / 16 + self.draw(self.disk / 8 * 7 - sectors);
        self.number += 1;
        Change { number: self.number, first, sectors, discard: kind == 1 }
    }
}

fn word(number: u32, sector: u64, index: usize) -> u64 {
    (u64::from(number) + 1) << 40 | sector << 8 | index as u64
}

/// A buffer of the pool, and what is under way with it.
struct Unit {
    at: u64,
    under_way: Option<(Tag, Change)>,
}

struct Writer<'a> {
    client: &'a mut Client,
    pool: Shared,
    units: Vec<Unit>,
    /// The operation that each sector was last touched by.
    last: Vec<u32>,
    repeated: u64,
}

impl Writer<'_> {
    fn is_idle(&self) -> bool {
        self.units.iter().all(|unit| unit.under_way.is_none())
    }

    /// The index of a unit that is free, unless something is under way that overlaps.
    fn place_for(&self, change: &Change) -> Option<usize> {
        let mut under_way = self.units.iter().filter_map(|unit| unit.under_way.as_ref());
        if under_way.any(|(_, other)| other.overlaps(change)) {
            return None;
        }
        self.units.iter().position(|unit| unit.under_way.is_none())
    }

    fn submit(&mut self, unit: usize, change: Change) -> Outcome {
        let at = self.units[unit].at;
        let submitted = if change.discard {
            self.client.submit_discard(&DiscardArgs { sector: change.first, sectors: change.sectors })
        } else {
            for sector in 0..change.sectors {
                let place = at as usize + sector as usize * SECTOR;
                for index in 0..SECTOR / 8 {
                    self.pool.store_u64(place + index * 8, word(change.number, change.first + sector, index));
                }
            }
            let bytes = change.sectors as u32 * blk::SECTOR_BYTES;
            self.client.submit_write(&WriteArgs { sector: change.first, pool_offset: at, bytes })
        };
        let tag = submitted.map_err(|error| Problem::Failed("submit", error))?;
        self.units[unit].under_way = Some((tag, change));
        Ok(())
    }

    fn ended(&mut self, completion: Completion) -> Outcome {
        let is_it = |unit: &Unit| matches!(unit.under_way, Some((tag, _)) if tag == completion.tag);
        let unit = self.units.iter().position(is_it).expect("a request that was made");
        let (_, change) = self.units[unit].under_way.take().expect("it is under way");
        let result = completion.result;
        self.client.release(completion);
        match result {
            Ok(_) => {
                let to = if change.discard { DISCARDED } else { change.number };
                self.last[change.first as usize..(change.first + change.sectors) as usize].fill(to);
                Ok(())
            }
            Err(error) if error == Error::DEAD && !self.client.is_gone() => {
                self.repeated += 1;
                self.submit(unit, change)
            }
            Err(error) => Err(Problem::Failed(if change.discard { "discard" } else { "write" }, error)),
        }
    }

    /// Takes what has ended; waits if that is nothing.
    fn advance(&mut self) -> Outcome {
        rt::wait(&mut [&mut **self.client], None);
        while let Some(completion) = self.client.poll() {
            self.ended(completion)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        while !self.is_idle() {
            self.advance()?;
        }
        self.client.flush().map_err(|error| Problem::Failed("flush", error))
    }

    /// The whole disk is as it should be.
    fn check(&mut self) -> Outcome {
        let at = self.units[1].at;
        for first in (0..self.last.len() as u64).step_by(READ as usize) {
            let sectors = READ.min(self.last.len() as u64 - first);
            let bytes = sectors as u32 * blk::SECTOR_BYTES;
            let read = self.client.read(&ReadArgs { sector: first, pool_offset: at, bytes });
            read.map_err(|error| Problem::Failed("read", error))?;
            for sector in first..first + sectors {
                let place = at as usize + (sector - first) as usize * SECTOR;
                let last = self.last[sector as usize];
                for index in 0..SECTOR / 8 {
                    let wanted = if last == DISCARDED { 0 } else { word(last, sector, index) };
                    let found = self.pool.load_u64(place + index * 8);
                    if found != wanted {
                        return Err(Problem::Wrong(sector, found));
                    }
                }
            }
        }
        Ok(())
    }
}

fn write(client: &mut Client, output: &mut Output, count: u64, seed: u64, batch: Option<u64>) -> Outcome {
    let disk = client.info().map_err(|error| Problem::Failed("info", error))?.sectors;
    let pool = info::pool_of(client.channel()).expect("a pool in the manifest");
    let units = (0..pool.size() / pool.unit()).map(|index| Unit {
        at: (index * pool.unit() + index % 8 * SECTOR) as u64, // beginning everywhere within a page
        under_way: None,
    });
    let units = units.collect();
    let pool = pool.memory().expect("the pool is mapped");
    let mut writer = Writer { client, pool, units, last: vec![0; disk as usize], repeated: 0 };
    let mut changes = Changes { state: seed, number: 0, disk };
    for number in 1..=count {
        let change = changes.next();
        let unit = loop {
            match writer.place_for(&change) {
                Some(unit) => break unit,
                None => writer.advance()?,
            }
        };
        writer.submit(unit, change)?;
        if batch.map_or(false, |batch| number % batch == 0) {
            writer.flush()?;
            let _ = writeln!(output, "flushed {}", number);
        }
    }
    writer.flush()?;
    writer.check()?;
    let _ = writeln!(output, "repeated {}", writer.repeated);
    Ok(())
}

fn refused(client: &mut Client) -> Outcome {
    let info = client.info().map_err(|error| Problem::Failed("info", error))?;
    if info.features & (blk::FEATURE_READ_ONLY | blk::FEATURE_DISCARD) != blk::FEATURE_READ_ONLY {
        return Err(Problem::Taken("being called read-only"));
    }
    let bytes = blk::SECTOR_BYTES;
    let tries = [
        ("a write", client.write(&WriteArgs { sector: 1, pool_offset: 0, bytes }).map(drop)),
        ("a write from a grant", client.write_grant(&WriteGrantArgs { sector: 1, grant: 0, bytes }).map(drop)),
        ("a discard", client.discard(&DiscardArgs { sector: 1, sectors: 1 })),
    ];
    for (what, result) in tries {
        match result {
            Err(error) if error == Error::ROFS => {}
            _ => return Err(Problem::Taken(what)),
        }
    }
    client.flush().map_err(|error| Problem::Failed("flush", error))?;
    client.read(&ReadArgs { sector: 1, pool_offset: 0, bytes }).map(drop).map_err(|error| Problem::Failed("read", error))
}
