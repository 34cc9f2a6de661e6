//! `witness COUNT`: uses everything at once, and sees whether anything is lost, doubled or wrong.
//!
//! It has the amounts 1 to COUNT counted, several under way at any time; meanwhile it reads the file `/words`, each
//! eight bytes of which are their own number, here and there, and writes numbered lines. Then it reads the ledger, and
//! tells what it found as a line of JSON. At the first error it stops; the exit status is 1 then.

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
use rt::{Error, Tag};

rt::program!(main);

const ASKED_AT_ONCE: usize = 4;
const ROUNDS_PER_LINE: u64 = 4;
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
    /// Amounts that the ledger does not have where they belong, and entries that are not the next amount.
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
        "{{\"problem\": \"{}\", \"answered\": {}, \"misnumbered\": {}, \"lines\": {}, \"reads\": {}, \
         \"wrong_reads\": {}, \"lost\": {}, \"doubled\": {}}}\n",
        problem,
        found.answered,
        found.misnumbered,
        found.lines,
        found.reads,
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
    Ok(())
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
