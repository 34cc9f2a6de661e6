//! Counts, as `counter` does, with a bug that what it is called selects:
//!
//!     poisoned_request   dies of each attempt to add 7
//!     poisoned_state     dies of each attempt to add something to a ledger that ends with 7
//!     poisoned_start     never comes up

#![no_std]
#![no_main]

use protocols::count::{self, AddArgs, AddReturns, EntryArgs, EntryReturns};
use rt::state::{self, Cell, Replies, State};
use rt::{info, Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

const ENTRIES: usize = 10_000;
const POISON: u64 = 7;

state::plain! {
    struct Ledger {
        replies: Replies<4, 32>,
        length: Cell<u64>,
        entries: [Cell<u32>; ENTRIES],
    }
}

struct Counter {
    ledger: State<Ledger>,
    dies_of_request: bool,
    dies_of_state: bool,
}

impl Counter {
    fn last(&self) -> u64 {
        match self.ledger.length.get() {
            0 => 0,
            length => u64::from(self.ledger.entries[length as usize - 1].get()),
        }
    }
}

impl count::Server for Counter {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.ledger.replies.find(call)
    }

    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        assert!(!self.dies_of_request || args.amount != POISON, "planted: a poisoned request");
        assert!(!self.dies_of_state || self.last() != POISON, "planted: a poisoned state");
        let ledger = &self.ledger;
        let number = ledger.length.get() + 1;
        let entry = match ledger.entries.get(number as usize - 1) {
            Some(entry) => entry,
            None => return Answer::Failed(Error::NOSPC),
        };
        let answer = Answer::Done(AddReturns { number });
        let mut tx = ledger.begin();
        entry.set(&mut tx, args.amount as u32);
        ledger.length.set(&mut tx, number);
        let kept = ledger.replies.keep(&mut tx, call.id(), &answer.map(|values| values.pack()), &[]);
        match kept.and_then(|()| tx.commit()) {
            Ok(()) => answer,
            Err(error) => Answer::Failed(error),
        }
    }

    fn entry(&mut self, _: &mut Call<'_>, args: EntryArgs) -> Answer<EntryReturns> {
        let length = self.ledger.length.get();
        match args.number {
            0 => Answer::Done(EntryReturns { amount: length }),
            number if number <= length => {
                Answer::Done(EntryReturns { amount: u64::from(self.ledger.entries[number as usize - 1].get()) })
            }
            _ => Answer::Failed(Error::RANGE),
        }
    }
}

fn serve() {
    let name = info::name();
    assert!(name.as_str() != "poisoned_start", "planted: a component that never comes up");
    let (ledger, _) = state::open("ledger");
    let dies_of_request = name.as_str() == "poisoned_request";
    let mut counter = Counter { ledger, dies_of_request, dies_of_state: name.as_str() == "poisoned_state" };
    let mut port = ServerPort::open(&count::PROTOCOL, "count");
    rt::ready();
    loop {
        count::serve(&mut port, &mut counter);
        rt::wait(&mut [&mut port], None);
    }
}
