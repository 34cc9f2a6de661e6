//! A mounted image, its service, and clients whose answers are collected.

use crate::cache::{Cache, Store};
use crate::crc32c::Checksum;
use crate::disk::{SimulatedDisk, Source};
use crate::mount::mount;
use crate::service::{Answer, Clients, Report, Service};

pub const BUFFERS: usize = 8;
pub const DATA: usize = 1 << 20; // data buffer of a request

/// Answers and output bytes, by ticket.
#[derive(Default)]
pub struct Answers {
    pub output: Vec<Vec<u8>>,
    pub given: Vec<(usize, Answer)>,
    pub reports: Vec<Report>,
}

impl Answers {
    pub fn ticket(&mut self) -> usize {
        self.output.push(Vec::new());
        self.output.len() - 1
    }
}

impl Clients for Answers {
    type Ticket = usize;

    fn write(&mut self, ticket: usize, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        assert!(end <= DATA, "wrote behind the data buffer");
        let output = &mut self.output[ticket];
        output.resize(output.len().max(end), 0);
        output[offset..end].copy_from_slice(bytes);
    }

    fn answer(&mut self, ticket: usize, answer: Answer) {
        assert!(!self.given.iter().any(|given| given.0 == ticket), "answered twice");
        self.given.push((ticket, answer));
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }
}

pub struct World<S: Source> {
    pub service: Service<usize>, // its cache may be in the disk's buffers: dropped first
    pub disk: SimulatedDisk<S>,
    pub answers: Answers,
}

impl<S: Source> World<S> {
    /// A cache of `frames` extents. The seed says how: odd ones make checksums without the CPU's instruction; two of
    /// four copy out of I/O buffers, the others keep what they read in these, in extents 2 or (of each eight) 8 times
    /// as long.
    pub fn new(source: S, frames: usize, seed: u64) -> Result<World<S>, &'static str> {
        let checksum = Checksum::new(seed % 2 == 1);
        let bytes = source.bytes();
        let mounted = mount(bytes, &checksum, &mut |position, into| {
            source.fill(position, into);
            Ok(())
        })?;
        let (disk, store) = match seed % 4 {
            0 | 1 => (SimulatedDisk::new(source, BUFFERS, 1, seed), Store::Copied { frames, buffers: BUFFERS }),
            _ => {
                let disk = SimulatedDisk::new(source, frames, if seed & 4 == 0 { 2 } else { 8 }, seed);
                let store = disk.store();
                (disk, store)
            }
        };
        let cache = Cache::new(mounted.seal, mounted.roots, checksum, store);
        let service = Service::new(mounted.volume, cache, 16, 64);
        Ok(World { disk, service, answers: Answers::default() })
    }

    /// Run until every request is answered. False: no end after `limit` disk reads, or nothing left to wait for.
    pub fn settle(&mut self, limit: u64) -> bool {
        let end = self.disk.reads + limit;
        loop {
            self.service.run(&mut self.disk, &mut self.answers);
            if self.service.under_way() == 0 && self.disk.pending.is_empty() {
                return true;
            }
            if self.disk.reads > end {
                return false;
            }
            if self.disk.pending.is_empty() {
                return false;
            }
            for _ in 0..self.disk.at_once() {
                if let Some((buffer, outcome)) = self.disk.complete_one() {
                    self.service.disk_completed(buffer, outcome, &self.disk);
                }
            }
        }
    }
}
