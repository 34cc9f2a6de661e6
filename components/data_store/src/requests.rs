//! store@1: requests to the contents, each change in one transaction with the answer to it; who waits for changes.

use crate::contents::{check_value, Change, Contents, Wanted};
use crate::names::{name, prefix, Rights};
use protocols::store::{self, EntryRecord, NAME_MAX, VALUE_MAX};
use rt::alloc::vec::Vec;
use rt::state::{State, Tx};
use rt::{Answer, Call, ClientId, Error, ServerPort, Shared, Ticket};

/// The largest record of a list.
const ENTRY_MAX: usize = EntryRecord::SIZE + NAME_MAX as usize + VALUE_MAX as usize;
const _: () = assert!(ENTRY_MAX % 8 == 0);

/// A `next` that has found nothing yet.
struct Waiting {
    ticket: Ticket,
    client: u32,
    subscription: u32,
    /// No change up to this one is for it.
    after: u64,
}

pub struct Store {
    contents: State<Contents>,
    waiting: Vec<Waiting>,
}

impl Store {
    pub fn new(contents: State<Contents>) -> Store {
        Store { contents, waiting: Vec::new() }
    }

    /// Answers those who have waited for what has happened.
    pub fn tell(&mut self, port: &mut ServerPort) {
        let contents = &self.contents;
        self.waiting.retain_mut(|each| match contents.next(each.client, each.subscription, each.after) {
            Ok(None) => {
                each.after = each.after.max(contents.changes());
                true
            }
            Ok(Some(change)) => {
                // Stale where its client has died meanwhile: the change is still there for the next one.
                let answer = port.data(each.ticket).and_then(|data| show(&change, data));
                let _ = answer.map(|answer| store::answer_next(port, each.ticket, answer));
                false
            }
            Err(error) => {
                store::answer_next(port, each.ticket, Answer::Failed(error));
                false
            }
        });
    }

    /// Frees what is kept for clients that will never come back.
    pub fn forget_the_gone(&mut self, port: &ServerPort) {
        for client in port.gone() {
            if self.contents.subscribed(Some(client)) > 0 {
                let mut tx = self.contents.begin();
                for subscription in 0..store::SUBSCRIPTIONS_MAX {
                    let _ = self.contents.unsubscribe(&mut tx, client, subscription); // there is this number
                }
                tx.commit().expect("a log with room for four positions");
            }
        }
    }

    /// Changes a name and keeps the answer, or does nothing.
    fn change(
        &self,
        call: &Call<'_>,
        what: impl FnOnce(&Contents, &mut Tx<'_>, u32) -> Result<u64, Error>,
    ) -> Result<u64, Error> {
        let mut tx = self.contents.begin();
        let version = what(&self.contents, &mut tx, call.id().client)?;
        let answer = Answer::Done(store::SetReturns { version }.pack());
        self.contents.replies.keep(&mut tx, call.id(), &answer, &[])?;
        tx.commit()?;
        Ok(version)
    }

    fn list_page(&self, call: &Call<'_>, args: store::ListArgs) -> Result<Answer<store::ListReturns>, Error> {
        let (input, output) = (call.input(), call.output()?);
        let length = args.prefix_length as usize;
        let (below, after) = (input.get(..length).ok_or(Error::INVAL)?, input.get(length..).ok_or(Error::INVAL)?);
        let (below, after) = (prefix(below)?, prefix(after)?);
        Rights::of(call.parameter()).read(below)?;
        let (mut page, mut end) = (Vec::new(), 1);
        for item in self.contents.list(below, after) {
            if page.len() + ENTRY_MAX > output.len() {
                end = 0;
                break;
            }
            let record = EntryRecord {
                version: item.number,
                kind: item.kind,
                name_length: item.name.len() as u16,
                value_length: item.value.len() as u16,
            };
            page.extend_from_slice(&record.pack());
            page.extend_from_slice(&item.name);
            page.extend_from_slice(&item.value);
            page.resize((page.len() + 7) & !7, 0);
        }
        output.copy_in(0, &page)?;
        let bytes = page.len() as u32;
        Ok(Answer::Data(store::ListReturns { changes: self.contents.changes(), bytes, end }, bytes))
    }
}

/// Writes a change to where its reader finds it.
fn show(change: &Change, output: Shared) -> Result<Answer<store::NextReturns>, Error> {
    output.copy_in(0, &change.name)?;
    output.copy_in(change.name.len(), &change.value)?;
    let name_length = change.name.len() as u32;
    let returns = store::NextReturns { number: change.number, kind: change.kind, name_length };
    Ok(Answer::Data(returns, name_length + change.value.len() as u32))
}

/// The answer that a result is.
fn said<R>(result: Result<Answer<R>, Error>) -> Answer<R> {
    result.unwrap_or_else(Answer::Failed)
}

impl store::Server for Store {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.contents.replies.find(call)
    }

    fn set(&mut self, call: &mut Call<'_>, args: store::SetArgs) -> Answer<store::SetReturns> {
        let input = call.input();
        let length = args.name_length as usize;
        let set = || {
            let (given, value) =
                (input.get(..length).ok_or(Error::INVAL)?, input.get(length..).ok_or(Error::INVAL)?);
            let wanted = Wanted { name: name(given)?, kind: args.kind, value, expected: args.expected };
            Rights::of(call.parameter()).write(wanted.name)?;
            check_value(wanted.kind, wanted.value)?;
            let version = self.change(call, |contents, tx, client| contents.set(tx, client, &wanted))?;
            Ok(Answer::Done(store::SetReturns { version }))
        };
        said(set())
    }

    fn delete(&mut self, call: &mut Call<'_>, args: store::DeleteArgs) -> Answer<store::DeleteReturns> {
        let input = call.input();
        let delete = || {
            let name = name(&input)?;
            Rights::of(call.parameter()).write(name)?;
            let version = self.change(call, |contents, tx, client| contents.delete(tx, client, name, args.expected))?;
            Ok(Answer::Done(store::DeleteReturns { version }))
        };
        said(delete())
    }

    fn get(&mut self, call: &mut Call<'_>) -> Answer<store::GetReturns> {
        let input = call.input();
        let get = || {
            let name = name(&input)?;
            Rights::of(call.parameter()).read(name)?;
            let found = self.contents.get(name)?;
            call.output()?.copy_in(0, &found.value)?;
            let length = found.value.len() as u32;
            Ok(Answer::Data(store::GetReturns { version: found.number, kind: found.kind, length }, length))
        };
        said(get())
    }

    fn list(&mut self, call: &mut Call<'_>, args: store::ListArgs) -> Answer<store::ListReturns> {
        said(self.list_page(call, args))
    }

    fn subscribe(&mut self, call: &mut Call<'_>, args: store::SubscribeArgs) -> Answer<store::SubscribeReturns> {
        let input = call.input();
        let subscribe = || {
            let below = prefix(&input)?;
            Rights::of(call.parameter()).read(below)?;
            let mut tx = self.contents.begin();
            let client = call.id().client;
            let position = self.contents.subscribe(&mut tx, client, args.subscription, below, args.anew != 0)?;
            tx.commit()?;
            Ok(Answer::Done(store::SubscribeReturns { position }))
        };
        said(subscribe())
    }

    fn unsubscribe(&mut self, call: &mut Call<'_>, args: store::UnsubscribeArgs) -> Answer<()> {
        let mut tx = self.contents.begin();
        let done = self.contents.unsubscribe(&mut tx, call.id().client, args.subscription);
        Answer::from(done.and_then(|()| tx.commit()))
    }

    fn next(&mut self, call: &mut Call<'_>, args: store::NextArgs) -> Answer<store::NextReturns> {
        let client = call.id().client;
        match self.contents.next(client, args.subscription, args.after) {
            Ok(Some(change)) => said(call.output().and_then(|output| show(&change, output))),
            Ok(None) => {
                let (ticket, after) = (call.ticket(), args.after.max(self.contents.changes()));
                let _ = call.port().park(ticket); // it was taken just now
                self.waiting.push(Waiting { ticket, client, subscription: args.subscription, after });
                Answer::Later
            }
            Err(error) => Answer::Failed(error),
        }
    }

    fn acknowledge(&mut self, call: &mut Call<'_>, args: store::AcknowledgeArgs) -> Answer<()> {
        let mut tx = self.contents.begin();
        let done = self.contents.acknowledge(&mut tx, call.id().client, args.subscription, args.number);
        Answer::from(done.and_then(|()| tx.commit()))
    }

    fn status(&mut self, call: &mut Call<'_>) -> Answer<store::StatusReturns> {
        let (names, own_names) = self.contents.names(call.id().client);
        let subscriptions = self.contents.subscribed(None);
        Answer::Done(store::StatusReturns { changes: self.contents.changes(), names, own_names, subscriptions })
    }

    fn session_ended(&mut self, client: ClientId) {
        self.waiting.retain(|each| each.ticket.client() != client);
    }
}
