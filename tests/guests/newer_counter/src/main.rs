//! The counter (see there) in versions 2 and 3, which have other ledgers, and take over those of the versions before.

#![no_std]
#![no_main]

mod ledger;

use ledger::{Ledger, Second, Third};
use protocols::count::{self, AddArgs, AddReturns, EntryArgs, EntryReturns};
use rt::info::{self, RegionKind};
use rt::state::{self, State};
use rt::{Answer, Call, Error, ServerPort};

rt::component! { fresh: choose, restart: choose, update: choose }

struct Counter<L: Ledger>(State<L>);

impl<L: Ledger> count::Server for Counter<L> {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.0.replies().find(call)
    }

    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        let mut tx = self.0.begin();
        let number = match self.0.append(&mut tx, args.amount) {
            Some(number) => number,
            None => return Answer::Failed(Error::NOSPC),
        };
        let answer = Answer::Done(AddReturns { number });
        let kept = self.0.replies().keep(&mut tx, call.id(), &answer.map(|values| values.pack()), &[]);
        match kept.and_then(|()| tx.commit()) {
            Ok(()) => answer,
            Err(error) => Answer::Failed(error),
        }
    }

    fn entry(&mut self, _: &mut Call<'_>, args: EntryArgs) -> Answer<EntryReturns> {
        let length = self.0.length();
        match args.number {
            0 => Answer::Done(EntryReturns { amount: length }),
            number if number <= length => Answer::Done(EntryReturns { amount: self.0.amount(number) }),
            _ => Answer::Failed(Error::RANGE),
        }
    }
}

fn choose() {
    match info::region(RegionKind::State, Some("ledger")).map(|region| region.entry.schema) {
        Some(2) => serve::<Second>(),
        Some(3) => serve::<Third>(),
        other => panic!("no version has schema {:?}", other),
    }
}

fn serve<L: Ledger>() {
    let (ledger, _) = state::open_or_convert::<L>("ledger", |schema, bytes, new, tx| {
        tx.copy(new, &*L::convert(schema, bytes));
    });
    let mut counter = Counter(ledger);
    let mut port = ServerPort::open(&count::PROTOCOL, "count");
    rt::ready();
    loop {
        count::serve(&mut port, &mut counter);
        rt::wait(&mut [&mut port], None);
    }
}
