//! Uses a grant after its owner has taken it back. Its successor serves honestly.
//!
//! `read_grant` maps the grant and answers; the owner revokes it and asks for a `flush`; that is when this
//! server looks at the memory once more.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use hostile_server::serve;
use protocols::blk::{self, ReadGrantArgs, ReadGrantReturns};
use rt::{Answer, Call, Error, ServerPort};

rt::component! { fresh: begin, restart: serve, update: serve }

#[derive(Default)]
struct Borrower {
    /// Where the memory was.
    address: Option<u64>,
}

impl blk::Server for Borrower {
    fn read_grant(&mut self, _: &mut Call<'_>, args: ReadGrantArgs) -> Answer<ReadGrantReturns> {
        let channel = rt::info::channel_named("blk", rt::info::Role::Server).map_or(0, |found| found.index);
        match rt::hypercall::map_grant(args.grant, channel) {
            Ok(address) => {
                self.address = Some(address);
                // SAFETY: just mapped for writing.
                unsafe { (address as *mut u64).write_volatile(0x600d) };
                Answer::Done(ReadGrantReturns { bytes: args.bytes })
            }
            Err(error) => Answer::Failed(error),
        }
    }

    fn flush(&mut self, _: &mut Call<'_>) -> Answer<()> {
        match self.address {
            Some(address) => {
                // SAFETY: there is none. That is the crime.
                unsafe { (address as *mut u64).write_volatile(0xbad) };
                Answer::Done(())
            }
            None => Answer::Failed(Error::INVAL),
        }
    }
}

fn begin() {
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    let mut borrower = Borrower::default();
    rt::ready();
    loop {
        blk::serve(&mut port, &mut borrower);
        rt::wait(&mut [&mut port], None);
    }
}
