//! Counts. The last of a chain: what must happen exactly once happens here.
//!
//! `add` of count@1 appends an amount to the ledger, each time it is asked. That a request which is repeated, because
//! somebody died before its answer was there, is not done again is the work of the replies kept in the same state.

#![no_std]
#![no_main]

use protocols::count::{self, AddArgs, AddReturns, EntryArgs, EntryReturns};
use rt::state::{self, Cell, Replies, State};
use rt::{Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

const ENTRIES: usize = 64_000;

state::plain! {
    struct Ledger {
        replies: Replies<4, 32>,
        length: Cell<u64>,
        entries: [Cell<u32>; ENTRIES],
    }
}

struct Counter(State<Ledger>);

impl count::Server for Counter {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.0.replies.find(call)
    }

    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        let number = self.0.length.get() + 1;
        let entry = match self.0.entries.get(number as usize - 1) {
            Some(entry) => entry,
            None => return Answer::Failed(Error::NOSPC),
        };
        let answer = Answer::Done(AddReturns { number });
        let mut tx = self.0.begin();
        entry.set(&mut tx, args.amount as u32);
        self.0.length.set(&mut tx, number);
        let kept = self.0.replies.keep(&mut tx, call.id(), &answer.map(|values| values.pack()), &[]);
        match kept.and_then(|()| tx.commit()) {
            Ok(()) => answer,
            Err(error) => Answer::Failed(error),
        }
    }

    fn entry(&mut self, _: &mut Call<'_>, args: EntryArgs) -> Answer<EntryReturns> {
        let length = self.0.length.get();
        match args.number {
            0 => Answer::Done(EntryReturns { amount: length }),
            number if number <= length => {
                Answer::Done(EntryReturns { amount: u64::from(self.0.entries[number as usize - 1].get()) })
            }
            _ => Answer::Failed(Error::RANGE),
        }
    }
}

fn serve() {
    let (ledger, _) = state::open("ledger");
    let mut counter = Counter(ledger);
    let mut port = ServerPort::open(&count::PROTOCOL, "count");
    rt::ready();
    loop {
        count::serve(&mut port, &mut counter);
        rt::wait(&mut [&mut port], None);
    }
}
