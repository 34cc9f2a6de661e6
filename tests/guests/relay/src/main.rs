//! The middle of a chain: passes `discard` of blk@1 on from its clients to the next server, under numbers of its own.
//!
//! A client's request is named by its token (`sector`). The relay gives it the next number, writes both down in its
//! state region, and only then calls; a token that comes again (because the relay or its client died) gets the
//! number it had. So the next server sees every number once or more often, but never two numbers for one token.
//!
//! As component `naive_relay` it does not read its log: it asks how far the next server is and goes on from there. What goes
//! wrong then is what the log prevents.

#![no_std]
#![no_main]

use protocols::blk::{self, DiscardArgs, ReadArgs};
use rt::alloc::vec::Vec;
use rt::info::{self, RegionKind};
use rt::{Answer, Call, Error, ServerPort, Shared, Tag, Ticket};

rt::component! { fresh: fresh, restart: serve, update: serve }

/// Entries of the log, many more than a client has requests under way.
const ENTRIES: u64 = 256;
const ENTRY_BYTES: usize = 16;

/// Which number each token got: per entry the token, 0 if there is none, and the number.
struct Log {
    memory: Shared,
    last: u64,
    naive: bool,
}

impl Log {
    fn open(next: &mut blk::Client) -> Log {
        let region = info::region(RegionKind::State, None).and_then(|region| region.memory().ok());
        let memory = region.expect("a state region");
        let numbers = (0..ENTRIES as usize).filter(|entry| memory.load_u64(entry * ENTRY_BYTES) != 0);
        let mut last = numbers.map(|entry| memory.load_u64(entry * ENTRY_BYTES + 8)).max().unwrap_or(0);
        let naive = info::name().as_str() == "naive_relay";
        if naive {
            let length = next.read(&ReadArgs { sector: 0, pool_offset: 0, bytes: 0 });
            last = u64::from(length.expect("how many there are").bytes);
        }
        Log { memory, last, naive }
    }

    /// The number of `token`, from now on whatever happens.
    fn number_of(&mut self, token: u64) -> u64 {
        let entry = (token % ENTRIES) as usize * ENTRY_BYTES;
        if self.memory.load_u64(entry) == token && !self.naive {
            return self.memory.load_u64(entry + 8);
        }
        self.memory.store_u64(entry, 0);
        self.memory.store_u64(entry + 8, self.last + 1);
        rt::kill_point!("relay.before_commit");
        self.memory.store_u64(entry, token);
        rt::kill_point!("relay.after_commit");
        self.last += 1;
        self.last
    }
}

struct Relay {
    log: Log,
    next: blk::Client,
    /// Calls under way, and for whom.
    calls: Vec<(Tag, Ticket)>,
}

impl blk::Server for Relay {
    fn discard(&mut self, call: &mut Call<'_>, args: DiscardArgs) -> Answer<()> {
        if args.sector == 0 || !self.next.has_room() {
            return Answer::Failed(Error::INVAL); // its client never has more under way than it
        }
        let sector = self.log.number_of(args.sector);
        match self.next.submit_discard(&DiscardArgs { sector, sectors: args.sectors }) {
            Ok(tag) => {
                self.calls.push((tag, call.ticket()));
                Answer::Later
            }
            Err(error) => Answer::Failed(error),
        }
    }
}

impl Relay {
    /// Answers what has been answered.
    fn collect(&mut self, port: &mut ServerPort) {
        while let Some(completion) = self.next.poll() {
            let found = self.calls.iter().position(|(tag, _)| *tag == completion.tag);
            if let Some(at) = found {
                rt::kill_point!("relay.before_reply");
                let (_, ticket) = self.calls.remove(at);
                blk::answer_discard(port, ticket, completion.result.map(drop).into());
            }
            self.next.release(completion);
        }
    }
}

fn fresh() {
    let region = info::region(RegionKind::State, None).and_then(|region| region.memory().ok());
    region.expect("a state region").clear();
    serve();
}

fn serve() {
    let mut next = blk::Client::connect("next").expect("interface next");
    let mut relay = Relay { log: Log::open(&mut next), next, calls: Vec::new() };
    let mut port = ServerPort::open(&blk::PROTOCOL, "count");
    rt::ready();
    loop {
        blk::serve(&mut port, &mut relay);
        relay.collect(&mut port);
        rt::wait(&mut [&mut port, &mut *relay.next], None);
    }
}
