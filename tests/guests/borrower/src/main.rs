//! Borrows memory from its clients and does with it what they ask for: the other end of `grantor`.
//!
//! The fields of blk@1's requests mean something else here. `read_grant(sector: WHAT, grant, bytes: BYTES)`:
//!     0 SUM       map it, add up its words, give it back; returns the sum
//!     1 COPY_OUT  the same of a private copy (`copy_from_grant`)
//!     2 MAP       only try to map it; returns 0, or the error as a positive number
//!     3 OPEN      try to have a device reach it; likewise
//!     4 KEEP      map it and keep it mapped
//! `write_grant(sector: WORD, grant, bytes: HOW)`:
//!     0 MAPPED    map it, fill it with WORD, give it back
//!     1 COPIED    fill it from private memory (`copy_to_grant`)
//!     2 RUN       map it, answer, and count in its first word as fast as possible, for ever

#![no_std]
#![no_main]

use protocols::blk::{self, ReadGrantArgs, ReadGrantReturns, WriteGrantArgs, WriteGrantReturns};
use rt::info::{self, Role};
use rt::{abi, hypercall, Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

const WORDS: usize = abi::PAGE_SIZE / 8;

#[derive(Default)]
struct Borrower {
    channel: u32,
    /// Where to count for ever, as soon as the answer is on its way.
    run: Option<u64>,
}

/// The words of a mapped page.
fn words(address: u64) -> impl Iterator<Item = *mut u64> {
    (0..WORDS).map(move |word| (address as *mut u64).wrapping_add(word))
}

fn number(result: Result<u64, Error>) -> u32 {
    result.map_or_else(|error| (-error.number()) as u32, |_| 0)
}

impl blk::Server for Borrower {
    fn read_grant(&mut self, _: &mut Call<'_>, args: ReadGrantArgs) -> Answer<ReadGrantReturns> {
        let (grant, channel) = (args.grant, self.channel);
        let result = match args.sector {
            0 => hypercall::map_grant(grant, channel).and_then(|address| {
                // SAFETY: mapped, by the call before.
                let sum = words(address).fold(0u64, |sum, word| sum.wrapping_add(unsafe { word.read_volatile() }));
                hypercall::unmap_grant(grant, channel).map(|()| sum as u32)
            }),
            1 => {
                let mut bytes = [0; abi::PAGE_SIZE];
                hypercall::copy_from_grant(grant, channel, 0, &mut bytes).map(|()| {
                    let word = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
                    bytes.chunks(8).fold(0u64, |sum, chunk| sum.wrapping_add(word(chunk))) as u32
                })
            }
            2 => Ok(number(hypercall::map_grant(grant, channel))),
            3 => Ok(number(hypercall::dma_open(grant, channel))),
            _ => hypercall::map_grant(grant, channel).map(|_| 0),
        };
        match result {
            Ok(bytes) => Answer::Done(ReadGrantReturns { bytes }),
            Err(error) => Answer::Failed(error),
        }
    }

    fn write_grant(&mut self, _: &mut Call<'_>, args: WriteGrantArgs) -> Answer<WriteGrantReturns> {
        let (grant, channel) = (args.grant, self.channel);
        let result = match args.bytes {
            0 => hypercall::map_grant(grant, channel).and_then(|address| {
                // SAFETY: mapped for writing, by the call before.
                words(address).for_each(|word| unsafe { word.write_volatile(args.sector) });
                hypercall::unmap_grant(grant, channel)
            }),
            1 => {
                let mut bytes = [0; abi::PAGE_SIZE];
                bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&args.sector.to_le_bytes()));
                hypercall::copy_to_grant(grant, channel, 0, &bytes)
            }
            _ => hypercall::map_grant(grant, channel).map(|address| self.run = Some(address)),
        };
        match result {
            Ok(()) => Answer::Done(WriteGrantReturns { bytes: 0 }),
            Err(error) => Answer::Failed(error),
        }
    }
}

fn serve() {
    let channel = info::channel_named("blk", Role::Server).map_or(0, |found| found.index);
    let mut borrower = Borrower { channel, run: None };
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    rt::ready();
    loop {
        blk::serve(&mut port, &mut borrower);
        while let Some(address) = borrower.run {
            let word = address as *mut u64;
            // SAFETY: it was mapped for writing. When it is not any more, this VM ends here, as it should.
            unsafe { word.write_volatile(word.read_volatile() + 1) };
        }
        rt::wait(&mut [&mut port], None);
    }
}
