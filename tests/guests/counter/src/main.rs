//! Counts. The last of a chain: what must happen exactly once happens here, and is kept in a state region.
//!
//! `discard(sector: N, sectors: AMOUNT)` of blk@1 appends AMOUNT as entry N of the ledger: if N is the next one; a
//! number that was there before changes nothing; one further on means that something was lost. `read(sector: N)`
//! tells entry N, or for N = 0 how many there are.

#![no_std]
#![no_main]

use protocols::blk::{self, DiscardArgs, ReadArgs, ReadReturns};
use rt::info::{self, RegionKind};
use rt::{Answer, Call, Error, ServerPort, Shared};

rt::component! { fresh: fresh, restart: serve, update: serve }

/// The ledger: how many entries there are, then the entries.
struct Ledger(Shared);

const LENGTH: usize = 0;
const ENTRIES: usize = 8;

impl Ledger {
    fn open() -> Ledger {
        let region = info::region(RegionKind::State, None).and_then(|region| region.memory().ok());
        Ledger(region.expect("a state region"))
    }

    fn length(&self) -> u64 {
        self.0.load_u64(LENGTH)
    }

    fn has_room(&self, number: u64) -> bool {
        (number as usize) < (self.0.len() - ENTRIES) / 4
    }
}

impl blk::Server for Ledger {
    fn discard(&mut self, _: &mut Call<'_>, args: DiscardArgs) -> Answer<()> {
        let number = args.sector;
        if number == 0 || !self.has_room(number) || number > self.length() + 1 {
            return Answer::Failed(Error::RANGE);
        }
        if number == self.length() + 1 {
            self.0.store_u32(ENTRIES + 4 * number as usize, args.sectors as u32);
            rt::kill_point!("counter.before_commit");
            // This store is the commit: before it nothing has happened, after it everything has.
            self.0.store_u64(LENGTH, number);
            rt::kill_point!("counter.after_commit");
        }
        Answer::Done(())
    }

    fn read(&mut self, _: &mut Call<'_>, args: ReadArgs) -> Answer<ReadReturns> {
        match args.sector {
            0 => Answer::Done(ReadReturns { bytes: self.length() as u32 }),
            number if number <= self.length() => {
                Answer::Done(ReadReturns { bytes: self.0.load_u32(ENTRIES + 4 * number as usize) })
            }
            _ => Answer::Failed(Error::RANGE),
        }
    }
}

fn fresh() {
    Ledger::open().0.store_u64(LENGTH, 0);
    serve();
}

fn serve() {
    let mut ledger = Ledger::open();
    let mut port = ServerPort::open(&blk::PROTOCOL, "count");
    rt::ready();
    loop {
        blk::serve(&mut port, &mut ledger);
        rt::wait(&mut [&mut port], None);
    }
}
