//! Lends pages to `borrower`, and checks that they are lent as it said, and only as long as it said.
//!
//! `grantor kinds`     each kind of grant, what it permits and what not; numbers of grants that have ended
//! `grantor race N`    N times: lend a page, wait until the borrower is busy writing to it, take it back;
//!                     from that moment on the page must not change
//! `grantor stopped`   the same once, with a borrower that somebody stops in the meantime
//! `grantor dies N`    N times: lend a page to a borrower that keeps it mapped, and take it back unused
//!
//! Prints a line of JSON. The exit status says which check failed, 0 if none.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::fmt::Write;
use protocols::blk::{self, ReadGrantArgs, WriteGrantArgs};
use protocols::log::{self, WriteArgs};
use rt::info::RegionKind;
use rt::time::{ms_to_ticks, ticks, ticks_to_ns};
use rt::{abi, hypercall, Error, Shared};

rt::program!(main);

const READ: u32 = abi::GRANT_RIGHTS_READ as u32;
const WRITE: u32 = abi::GRANT_RIGHTS_WRITE as u32;
const COPY: u32 = abi::GRANT_RIGHTS_COPY as u32;
const SUM: u64 = 0;
const COPY_OUT: u64 = 1;
const MAP: u64 = 2;
const OPEN: u64 = 3;
const KEEP: u64 = 4;
const MAPPED: u32 = 0;
const COPIED: u32 = 1;
const RUN: u32 = 2;
const WORDS: u64 = (abi::PAGE_SIZE / 8) as u64;

struct Lender {
    client: blk::Client,
    page: Shared,
}

impl Lender {
    fn lend(&self, rights: u32) -> Result<u64, Error> {
        hypercall::grant(0, self.client.channel(), rights)
    }

    /// Has the borrower do something that reads; its answer.
    fn ask(&mut self, what: u64, grant: u64) -> Result<u32, Error> {
        self.client.read_grant(&ReadGrantArgs { sector: what, grant, bytes: 0 }).map(|answer| answer.bytes)
    }

    /// Has it do something that writes `word`.
    fn have_written(&mut self, how: u32, grant: u64, word: u64) -> Result<(), Error> {
        self.client.write_grant(&WriteGrantArgs { sector: word, grant, bytes: how }).map(drop)
    }

    fn fill(&self, word: u64) {
        (0..WORDS).for_each(|at| self.page.store_u64(8 * at as usize, word));
    }

    fn is_filled_with(&self, word: u64) -> bool {
        (0..WORDS).all(|at| self.page.load_u64(8 * at as usize) == word)
    }
}

fn main(arguments: rt::Args) -> i32 {
    let word = |index: usize| core::str::from_utf8(arguments.get(index).unwrap_or(b"")).unwrap_or("");
    let client = blk::Client::connect("blk").expect("interface blk");
    let object = rt::info::region(RegionKind::GrantObject, None).and_then(|region| region.memory().ok());
    let mut lender = Lender { client, page: object.expect("a grant object that is mapped here") };
    let times: u64 = word(2).parse().unwrap_or(1);
    let result = match word(1) {
        "kinds" => kinds(&mut lender).map(|()| 0),
        "race" => (0..times).try_fold(0, |longest, _| race(&mut lender, false).map(|took: u64| took.max(longest))),
        "stopped" => race(&mut lender, true),
        "dies" => (0..times).try_for_each(|_| unused(&mut lender)).map(|()| 0),
        _ => Err(100),
    };
    let (status, took) = match result {
        Ok(took) => (0, took),
        Err(check) => (check, 0),
    };
    let mut text = String::new();
    let _ = writeln!(text, "{{\"status\": {}, \"revoke_us\": {}}}", status, ticks_to_ns(took) / 1000);
    let mut console = log::Client::connect("log").expect("interface log");
    let _ = console.write(&WriteArgs { position: 0, stream: log::STREAM_STDOUT }, text.as_bytes());
    status
}

/// Err: the number of the check that failed.
fn check(number: i32, holds: bool) -> Result<(), i32> {
    if holds {
        Ok(())
    } else {
        Err(number)
    }
}

fn kinds(lender: &mut Lender) -> Result<(), i32> {
    // For reading: read it may, write not (a write ends it: see `window_write` among the misbehaving), no device.
    lender.fill(3);
    let grant = lender.lend(READ).map_err(|_| 1)?;
    check(2, lender.lend(READ) == Err(Error::BUSY))?; // it is lent already
    check(3, lender.ask(SUM, grant) == Ok(3 * WORDS as u32))?;
    check(4, lender.ask(COPY_OUT, grant) == Ok(3 * WORDS as u32))?;
    check(5, lender.have_written(COPIED, grant, 4) == Err(Error::NOENT))?;
    check(6, lender.is_filled_with(3))?;
    check(7, lender.ask(OPEN, grant) == Ok((-Error::PERM.number()) as u32))?;
    check(8, hypercall::revoke(grant).is_ok())?;
    // Its number has ended with it, and is not the next one's.
    check(9, hypercall::revoke(grant) == Err(Error::NOENT))?;
    check(10, lender.ask(SUM, grant) == Err(Error::NOENT))?;
    let next = lender.lend(READ | WRITE).map_err(|_| 11)?;
    check(12, next != grant && lender.ask(SUM, grant) == Err(Error::NOENT))?;
    // For reading and writing.
    check(13, lender.have_written(MAPPED, next, 5).is_ok() && lender.is_filled_with(5))?;
    check(14, lender.ask(SUM, next) == Ok(5 * WORDS as u32))?;
    check(15, lender.have_written(COPIED, next, 6).is_ok() && lender.is_filled_with(6))?;
    check(16, hypercall::revoke(next).is_ok())?;
    check(17, lender.have_written(MAPPED, next, 7) == Err(Error::NOENT) && lender.is_filled_with(6))?;
    // For copying only: never mapped.
    let copied = lender.lend(READ | WRITE | COPY).map_err(|_| 18)?;
    check(19, lender.ask(MAP, copied) == Ok((-Error::PERM.number()) as u32))?;
    check(20, lender.ask(COPY_OUT, copied) == Ok(6 * WORDS as u32))?;
    check(21, lender.have_written(COPIED, copied, 8).is_ok() && lender.is_filled_with(8))?;
    check(22, hypercall::revoke(copied).is_ok())?;
    // Mapped when it is taken back: the borrower lives as long as it does not look.
    let kept = lender.lend(READ | WRITE).map_err(|_| 23)?;
    check(24, lender.ask(KEEP, kept) == Ok(0))?;
    check(25, hypercall::revoke(kept).is_ok())?;
    let again = lender.lend(READ).map_err(|_| 26)?;
    check(27, lender.ask(SUM, again) == Ok(8 * WORDS as u32))
}

/// Takes a page back while the borrower is running on it. With `stopped` only when it has stopped to do so, which
/// is somebody else's doing. How long it took, ticks.
fn race(lender: &mut Lender, stopped: bool) -> Result<u64, i32> {
    lender.fill(0);
    let grant = lender.lend(READ | WRITE).map_err(|_| 31)?;
    lender.have_written(RUN, grant, 0).map_err(|_| 32)?;
    let begin = ticks();
    while lender.page.load_u64(0) < 1000 {
        check(33, ticks() - begin < ms_to_ticks(20_000))?;
        core::hint::spin_loop();
    }
    let (mut seen, mut since) = (0, ticks());
    while stopped && ticks() - since < ms_to_ticks(300) {
        let now = lender.page.load_u64(0);
        if now != seen {
            (seen, since) = (now, ticks());
        }
        check(34, ticks() - begin < ms_to_ticks(20_000))?;
        hypercall::wait(Some(1_000_000));
    }
    let start = ticks();
    check(35, hypercall::revoke(grant).is_ok())?;
    let took = ticks() - start;
    let count = lender.page.load_u64(0);
    let end = ticks() + ms_to_ticks(2);
    while ticks() < end {
        check(36, lender.page.load_u64(0) == count)?;
    }
    Ok(took)
}

/// The borrower has mapped it and does nothing with it; whether it lives or not, taking it back works.
fn unused(lender: &mut Lender) -> Result<(), i32> {
    let grant = lender.lend(READ | WRITE).map_err(|_| 41)?;
    // Not there any more: the borrower was replaced meanwhile, and the grant is the connection's, not its.
    check(42, matches!(lender.ask(KEEP, grant), Ok(0) | Err(Error::BUSY)))?;
    check(43, hypercall::revoke(grant).is_ok())
}
