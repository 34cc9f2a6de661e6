//! The middle of a chain: passes `add` of count@1 on from its client to the next server.
//!
//! What it has been asked is written down, as a request to the next server, before that is sent; what has been answered
//! is written down before the client is told. So it may die at any time: the client asks again, and finds its request
//! under way or answered; the request to the next server is sent again under the tag it had.
//!
//! As component `naive_relay` it passes on without writing down. What goes wrong then is what the state prevents.

#![no_std]
#![no_main]

use protocols::count::{self, AddArgs, AddReturns};
use rt::alloc::vec::Vec;
use rt::state::{self, Outbox, Replies, State};
use rt::{info, Answer, Call, Error, ServerPort, Tag, Ticket};

rt::component! { fresh: serve, restart: serve, update: serve }

const SLOTS: usize = 16;

state::plain! {
    struct Log {
        replies: Replies<1, SLOTS>,
        outbox: Outbox<SLOTS>,
    }
}

struct Relay {
    log: State<Log>,
    next: count::Client,
    /// Calls under way whose clients wait.
    calls: Vec<(Tag, Ticket)>,
    naive: bool,
}

impl count::Server for Relay {
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.log.replies.find(call)
    }

    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        let tag = match self.log.outbox.find(&call.id()) {
            Some(tag) => Ok(tag), // a request of the instance before, or of this one while its client was away
            None if self.naive => self.next.submit_add(&args),
            None => self.write_down(call, &args),
        };
        match tag {
            Ok(tag) => {
                self.calls.push((tag, call.ticket()));
                Answer::Later
            }
            Err(error) => Answer::Failed(error),
        }
    }
}

impl Relay {
    /// A request to the next server, from now on whatever happens.
    fn write_down(&mut self, call: &Call<'_>, args: &AddArgs) -> Result<Tag, Error> {
        let mut tx = self.log.begin();
        let tag = self.log.outbox.put(&mut tx, &count::ADD, args.pack(), &[], call.id())?;
        tx.commit()?;
        self.next.submit_all(&self.log.outbox, &count::OPERATIONS);
        Ok(tag)
    }

    /// Answers what has been answered.
    fn collect(&mut self, port: &mut ServerPort) {
        while let Some(completion) = self.next.poll() {
            let answer = Answer::from(completion.result.map(|reply| reply.args));
            if !self.naive {
                let mut tx = self.log.begin();
                let cause = self.log.outbox.take(&mut tx, completion.tag).expect("an answer to what was written down");
                self.log.replies.keep(&mut tx, cause, &answer, &[]).expect("a client with as many slots as we have");
                tx.commit().expect("a log with room for one request");
            }
            rt::kill_point!("relay.before_reply");
            while let Some(at) = self.calls.iter().position(|(tag, _)| *tag == completion.tag) {
                let (_, ticket) = self.calls.remove(at);
                port.answer(ticket, answer);
            }
            self.next.release(completion);
        }
    }
}

fn serve() {
    let (log, _) = state::open::<Log>("log");
    let mut next = count::Client::connect("next").expect("interface next");
    let naive = info::name().as_str() == "naive_relay";
    if !naive {
        next.submit_all(&log.outbox, &count::OPERATIONS);
    }
    let mut relay = Relay { log, next, calls: Vec::new(), naive };
    let mut port = ServerPort::open(&count::PROTOCOL, "count");
    rt::ready();
    loop {
        count::serve(&mut port, &mut relay);
        relay.collect(&mut port);
        rt::wait(&mut [&mut port, &mut *relay.next], None);
    }
}
