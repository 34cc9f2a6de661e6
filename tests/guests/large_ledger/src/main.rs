//! Counts like `counter`, with 1 MiB of state in use, and never stops: the ledger begins again when it is full. For the
//! benchmark of recoveries with state.

#![no_std]
#![no_main]

use core::mem::size_of;
use protocols::count::{self, AddArgs, AddReturns, EntryArgs, EntryReturns};
use rt::state::{self, Cell, Replies, State};
use rt::{Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

const STATE: usize = 1 << 20;
const ENTRIES: usize = (STATE - size_of::<Answered>() - size_of::<u64>()) / size_of::<u32>();

type Answered = Replies<4, 32>;

state::plain! {
    struct Ledger {
        replies: Answered,
        length: Cell<u64>,
        entries: [Cell<u32>; ENTRIES],
    }
}

const _: () = assert!(size_of::<Ledger>() == STATE);

struct Counter(State<Ledger>);

impl Counter {
    fn place(&self, number: u64) -> &Cell<u32> {
        &self.0.entries[(number as usize - 1) % ENTRIES]
    }
}

impl count::Server for Counter {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.0.replies.find(call)
    }

    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        let number = self.0.length.get() + 1;
        let answer = Answer::Done(AddReturns { number });
        let mut tx = self.0.begin();
        self.place(number).set(&mut tx, args.amount as u32);
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
            number if number <= length && number + ENTRIES as u64 > length => {
                Answer::Done(EntryReturns { amount: u64::from(self.place(number).get()) })
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
