//! Makes requests that a test writes into its state region `mailbox`, and writes the answers there. Many may be under way;
//! what becomes of them when servers die is the runtime's doing, as in any program.
//!
//!     0     u64 requests written, by the test
//!     8     u64 answers written, by this program
//!     4096  LETTERS requests, a ring: {u32 interface, u32 operation, u64 args[5], u32 length, padding; at 64: input}
//!           LETTERS answers, a ring, as they come: {u64 number of the request, from 0; i32 status, u32 length,
//!           u64 args[5]; at 64: output}
//!
//! Interface 0, 1, ... is a place in INTERFACES; END asks for the end.

#![no_std]
#![no_main]

use protocols::{audio, count, store};
use rt::alloc::vec::Vec;
use rt::info::{self, RegionKind};
use rt::shared::{full_fence, Shared};
use rt::time::{ns_to_ticks, ticks};
use rt::{Client, Completion, Operation, Protocol, Source, Tag};

rt::program!(main);

const LETTERS: u64 = 64;
const LETTER_BYTES: usize = 64 + 4096;
const REQUESTS: usize = 4096;
const ANSWERS: usize = REQUESTS + LETTERS as usize * LETTER_BYTES;
const END: u32 = u32::MAX;
/// How often it looks for requests while nothing else wakes it.
const LOOK_NS: u64 = 300_000;

/// Names in the manifest, which need not have all of them.
static INTERFACES: [(&str, &Protocol, &[&Operation]); 4] = [
    ("count", &count::PROTOCOL, &count::OPERATIONS),
    ("audit", &count::PROTOCOL, &count::OPERATIONS),
    ("audio", &audio::PROTOCOL, &audio::OPERATIONS),
    ("store", &store::PROTOCOL, &store::OPERATIONS),
];

struct Conductor {
    mailbox: Shared,
    /// By place in INTERFACES.
    clients: Vec<Option<Client>>,
    /// Place, tag and number of the requests under way.
    under_way: Vec<(usize, Tag, u64)>,
    taken: u64,
    answered: u64,
}

fn main(_: rt::Args) -> i32 {
    let region = info::region(RegionKind::State, Some("mailbox")).expect("[state.mailbox] in the manifest");
    let mut conductor = Conductor {
        mailbox: region.memory().expect("the mailbox"),
        clients: INTERFACES.iter().map(|(name, protocol, _)| Client::open(protocol, name).ok()).collect(),
        under_way: Vec::new(),
        taken: 0,
        answered: 0,
    };
    while conductor.take() {
        conductor.collect();
        let sources = conductor.clients.iter_mut().flatten();
        let mut sources: Vec<&mut dyn Source> = sources.map(|client| client as &mut dyn Source).collect();
        rt::wait(&mut sources, Some(ticks() + ns_to_ticks(LOOK_NS)));
    }
    0
}

impl Conductor {
    /// Sends what was written, as far as there is room; false at the end.
    fn take(&mut self) -> bool {
        while self.taken < self.mailbox.load_u64(0) {
            full_fence();
            let at = REQUESTS + (self.taken % LETTERS) as usize * LETTER_BYTES;
            let mut head = [0; 64];
            self.mailbox.copy_out(at, &mut head).expect("a letter");
            let word = |offset: usize| u32::from_le_bytes(head[offset..offset + 4].try_into().unwrap());
            if word(0) == END {
                return false;
            }
            let (place, length) = (word(0) as usize, word(48) as usize);
            let client = self.clients[place].as_mut().expect("an interface of the manifest");
            if !client.has_room() {
                return true;
            }
            let mut args = [0; 5];
            for (index, value) in args.iter_mut().enumerate() {
                *value = u64::from(word(8 + 8 * index)) | u64::from(word(12 + 8 * index)) << 32;
            }
            let mut input = rt::alloc::vec![0; length];
            self.mailbox.copy_out(at + 64, &mut input).expect("a letter");
            let operation = INTERFACES[place].2.iter().find(|each| u32::from(each.id) == word(4));
            match client.submit(operation.expect("an operation of the protocol"), args, &input) {
                Ok(tag) => self.under_way.push((place, tag, self.taken)),
                Err(error) => self.answer(self.taken, error.number(), [0; 5], &[]),
            }
            self.taken += 1;
        }
        true
    }

    fn collect(&mut self) {
        for place in 0..INTERFACES.len() {
            while let Some(done) = self.clients[place].as_mut().and_then(|client| client.poll()) {
                self.finish(place, done);
            }
        }
    }

    fn finish(&mut self, place: usize, done: Completion) {
        let at = self.under_way.iter().position(|each| (each.0, each.1) == (place, done.tag)).expect("a request of ours");
        let number = self.under_way.remove(at).2;
        let client = self.clients[place].as_mut().expect("a client");
        let mut output = Vec::new();
        let (mut status, mut args) = (0, [0; 5]);
        match done.result {
            Ok(reply) => {
                args = reply.args;
                output.resize(reply.length as usize, 0);
                if let Err(error) = client.copy_out(&done, 0, &mut output) {
                    status = error.number();
                }
            }
            Err(error) => status = error.number(),
        }
        client.release(done);
        self.answer(number, status, args, &output);
    }

    fn answer(&mut self, number: u64, status: i32, args: [u64; 5], output: &[u8]) {
        let at = ANSWERS + (self.answered % LETTERS) as usize * LETTER_BYTES;
        let mut head = Vec::new();
        head.extend_from_slice(&number.to_le_bytes());
        head.extend_from_slice(&status.to_le_bytes());
        head.extend_from_slice(&(output.len() as u32).to_le_bytes());
        for word in &args {
            head.extend_from_slice(&word.to_le_bytes());
        }
        self.mailbox.copy_in(at, &head).expect("a letter");
        self.mailbox.copy_in(at + 64, output).expect("a letter");
        full_fence();
        self.answered += 1;
        self.mailbox.store_u64(8, self.answered);
    }
}
