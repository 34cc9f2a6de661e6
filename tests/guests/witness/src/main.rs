//! `witness COUNT`: uses everything at once, and sees whether anything is lost, doubled or wrong.
//!
//! It has the amounts 1 to COUNT counted, several under way at any time; meanwhile it reads the file `/words`, each
//! eight bytes of which are their own number, here and there, writes numbered lines, and sets `in/number` to 1, 2, 3 and
//! so on in the data store, each of which `subscriber` says once more. Then it reads the ledger, and tells what it found
//! as a line of JSON. At the first error it stops; the exit status is 1 then.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use protocols::count::{self, AddArgs, AddReturns, EntryArgs};
use protocols::fs::{self, OpenArgs, ReadArgs};
use protocols::log::{self, WriteArgs};
use protocols::store::{self, AcknowledgeArgs, NextArgs, NextReturns, SetArgs, SubscribeArgs};
use rt::time::{ms_to_ticks, ticks};
use rt::{Completion, Error, Tag};

rt::program!(main);

const ASKED_AT_ONCE: usize = 4;
const ROUNDS_PER_LINE: u64 = 4;
const ROUNDS_PER_VALUE: u64 = 4;
/// Values set and not heard of: far fewer than the changes the store keeps.
const AHEAD: u64 = 100;
const VALUE: &[u8] = b"in/number";
const LOOK_MS: u64 = 2;
const WORD: u64 = 8;
const BLOCK: u64 = 4096;
const BLOCKS_READ: u64 = 8;

#[derive(Default)]
struct Found {
    answered: u64,
    /// Amounts that were told another number than their own.
    misnumbered: u64,
    lines: u64,
    reads: u64,
    wrong_reads: u64,
    /// Values that were heard of.
    heard: u64,
    /// Amounts that the ledger does not have where they belong, and entries that are not the next amount; values that
    /// were not heard of in their turn, and such as had been heard of.
    lost: u64,
    doubled: u64,
}

/// What failed, and how.
type Problem = (&'static str, Error);

trait Named<T> {
    fn named(self, what: &'static str) -> Result<T, Problem>;
}

impl<T> Named<T> for Result<T, Error> {
    fn named(self, what: &'static str) -> Result<T, Problem> {
        self.map_err(|error| (what, error))
    }
}

struct Console {
    client: log::Client,
    position: u64,
}

impl Console {
    fn write(&mut self, text: &str) -> Result<(), Error> {
        let args = WriteArgs { position: self.position, stream: log::STREAM_STDOUT };
        self.position = self.client.write(&args, text.as_bytes())?.position;
        Ok(())
    }
}

/// Says values, and hears them again.
struct Echo {
    client: store::Client,
    is_asked: bool,
    said: u64,
    highest: u64,
    position: u64,
}

impl Echo {
    /// When there is somebody who says them once more.
    fn begin() -> Result<Echo, Error> {
        let mut client = store::Client::connect("store")?;
        let position = client.subscribe(&SubscribeArgs { subscription: 0, anew: 1 }, b"out")?.position;
        while client.status()?.subscriptions < 2 {
            rt::wait(&mut [&mut *client], Some(ticks() + ms_to_ticks(LOOK_MS)));
        }
        Ok(Echo { client, is_asked: false, said: 0, highest: 0, position })
    }

    /// The next value.
    fn say(&mut self) -> Result<(), Error> {
        // A slot is left for the acknowledgement, one for the next question.
        if self.said < self.highest + AHEAD && self.client.outstanding() + 2 < self.client.capacity() {
            let args = SetArgs { expected: 0, kind: store::KIND_UNSIGNED, name_length: VALUE.len() as u32 };
            self.client.submit_set(&args, &[VALUE, &(self.said + 1).to_le_bytes()].concat())?;
            self.said += 1;
        }
        Ok(())
    }

    /// Takes in what there is to hear.
    fn hear(&mut self, found: &mut Found) -> Result<(), Error> {
        loop {
            if !self.is_asked && self.client.has_room() {
                self.client.submit_next(&NextArgs { after: self.position, subscription: 0 })?;
                self.is_asked = true;
            }
            match self.client.poll() {
                Some(completion) => self.take_in(found, completion)?,
                None => return Ok(()),
            }
        }
    }

    fn take_in(&mut self, found: &mut Found, completion: Completion) -> Result<(), Error> {
        let reply = completion.result?;
        if completion.op != store::NEXT.id {
            self.client.release(completion);
            return Ok(());
        }
        self.is_asked = false;
        let change = NextReturns::unpack(&reply.args);
        let mut value = [0; 8];
        self.client.copy_out(&completion, change.name_length as usize, &mut value)?;
        self.client.release(completion);
        let value = u64::from_le_bytes(value);
        found.heard += 1;
        self.position = change.number;
        if value > self.highest {
            found.lost += value - self.highest - 1;
            self.highest = value;
        } else {
            found.doubled += 1;
        }
        self.client.submit_acknowledge(&AcknowledgeArgs { number: change.number, subscription: 0 })?;
        Ok(())
    }

    /// Until everything said has been heard; nobody who waits for what is lost comes back.
    fn end(&mut self, found: &mut Found) -> Result<(), Error> {
        self.hear(found)?;
        while self.highest < self.said {
            rt::wait(&mut [&mut *self.client], None);
            self.hear(found)?;
        }
        Ok(())
    }
}

fn main(arguments: rt::Args) -> i32 {
    let count = core::str::from_utf8(arguments.get(1).unwrap_or(b"")).ok().and_then(|word| word.parse().ok());
    let count = count.expect("witness COUNT");
    let mut console = Console { client: log::Client::connect("log").expect("interface log"), position: 0 };
    let mut found = Found::default();
    let outcome = work(count, &mut console, &mut found).and_then(|()| audit(count, &mut found));
    let problem = match outcome {
        Ok(()) => String::new(),
        Err((what, error)) => format!("{}: {}", what, error),
    };
    let text = format!(
        "{{\"problem\": \"{}\", \"answered\": {}, \"misnumbered\": {}, \"lines\": {}, \"reads\": {}, \"heard\": {}, \
         \"wrong_reads\": {}, \"lost\": {}, \"doubled\": {}}}\n",
        problem,
        found.answered,
        found.misnumbered,
        found.lines,
        found.reads,
        found.heard,
        found.wrong_reads,
        found.lost,
        found.doubled
    );
    let written = console.write(&text);
    i32::from(!problem.is_empty() || written.is_err())
}

fn work(count: u64, console: &mut Console, found: &mut Found) -> Result<(), Problem> {
    let mut amounts = count::Client::connect("count").named("count")?;
    let mut files = fs::Client::connect("fs").named("fs")?;
    let mut echo = Echo::begin().named("store")?;
    let size = files.open(&OpenArgs { handle: 0, flags: 0 }, b"/words").named("open")?.size;
    let mut buffer = vec![0; (BLOCKS_READ * BLOCK) as usize];
    let mut under_way: Vec<(Tag, u64)> = Vec::new();
    let (mut sent, mut dice, mut rounds) = (0, 1_u64, 0);
    while found.answered < count {
        for _ in 0..ASKED_AT_ONCE {
            if sent < count && amounts.has_room() {
                sent += 1;
                under_way.push((amounts.submit_add(&AddArgs { amount: sent }).named("add")?, sent));
            }
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (dice >> 33) % (size / BLOCK - BLOCKS_READ) * BLOCK;
        let args = ReadArgs { offset, handle: 0, bytes: buffer.len() as u32 };
        let (_, length) = files.read(&args, &mut buffer).named("read")?;
        let right = (offset / WORD..).zip(buffer.chunks_exact(8)).all(|(number, word)| word == number.to_le_bytes());
        found.reads += 1;
        found.wrong_reads += u64::from(length != buffer.len() || !right);
        buffer.fill(0xff);
        if rounds % ROUNDS_PER_LINE == 0 {
            console.write(&format!("{}\n", found.lines)).named("write")?;
            found.lines += 1;
        }
        if rounds % ROUNDS_PER_VALUE == 0 {
            echo.say().named("set")?;
        }
        echo.hear(found).named("next")?;
        rounds += 1;
        while let Some(completion) = amounts.poll() {
            let at = under_way.iter().position(|(tag, _)| *tag == completion.tag).expect("an answer to a request");
            let (_, amount) = under_way.remove(at);
            let number = completion.result.map(|reply| AddReturns::unpack(&reply.args).number);
            amounts.release(completion);
            found.answered += 1;
            found.misnumbered += u64::from(number.named("add")? != amount);
        }
    }
    echo.end(found).named("next")
}

fn audit(count: u64, found: &mut Found) -> Result<(), Problem> {
    let mut ledger = count::Client::connect("audit").named("audit")?;
    let mut entry = |number| ledger.entry(&EntryArgs { number }).map(|entry| entry.amount).named("entry");
    let mut highest = 0;
    for number in 1..=entry(0)? {
        let amount = entry(number)?;
        if amount > highest {
            found.lost += amount - highest - 1;
            highest = amount;
        } else {
            found.doubled += 1;
        }
    }
    found.lost += count - highest;
    Ok(())
}
