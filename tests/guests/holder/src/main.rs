//! Holds on to what the file server keeps for it: positions and locks. Tells what it found as one line of JSON; the exit
//! status is 1 if anything was not as it must be.
//!
//! `holder next FILE PASSES BYTES PAUSE_US` reads FILE from its position to its end, PASSES times, with four requests of
//! BYTES under way and a pause after each answer: the offsets must follow each other without gap or repetition, and the
//! bytes must be those that `read` finds there.
//! `holder lock FILE ROUNDS PAUSE_US` lets three handles contend for a lock. `holder leave FILE PAUSE_US` takes one and
//! ends without giving it up.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use core::fmt::Write;
use protocols::fs::{self, CloseArgs, LockArgs, OpenArgs, ReadArgs, ReadNextArgs, ReadNextReturns, SeekArgs, UnlockArgs};
use protocols::log::{self, WriteArgs};
use rt::time::{ns_to_ticks, ticks};
use rt::{telemetry, Error};

rt::program!(main);

const UNDER_WAY: usize = 4;
const LONG_MS: u32 = 60_000;

fn main(arguments: rt::Args) -> i32 {
    let word = |index: usize| core::str::from_utf8(arguments.get(index).unwrap_or(b"")).unwrap_or("");
    let number = |index: usize| word(index).parse::<u64>().unwrap_or(0);
    let mut files = fs::Client::connect("fs").expect("interface fs");
    let path = word(2).as_bytes();
    let found = match word(1) {
        "next" => next(&mut files, path, number(3), number(4) as u32, number(5)),
        "lock" => lock(&mut files, path, number(3), number(4)),
        "leave" => leave(&mut files, path, number(3)),
        _ => Err(Error::INVAL),
    };
    let (done, wrong, error) = match found {
        Ok((done, wrong)) => (done, wrong, 0),
        Err(error) => (0, 0, error.number()),
    };
    let mut text = String::new();
    let replayed = telemetry::get(telemetry::REPLAYED);
    let _ = writeln!(
        text,
        "{{\"done\": {}, \"wrong\": {}, \"error\": {}, \"replayed\": {}}}",
        done, wrong, error, replayed
    );
    let mut console = log::Client::connect("log").expect("interface log");
    let written = console.write(&WriteArgs { position: 0, stream: log::STREAM_STDOUT }, text.as_bytes());
    i32::from(wrong > 0 || error != 0 || written.is_err())
}

fn pause(us: u64) {
    let end = ticks() + ns_to_ticks(us * 1000);
    while ticks() < end {
        core::hint::spin_loop();
    }
}

/// Answers that brought bytes, and how many were not those that follow.
fn next(files: &mut fs::Client, path: &[u8], passes: u64, bytes: u32, pause_us: u64) -> Result<(u64, u64), Error> {
    let size = files.open(&OpenArgs { handle: 3, flags: 0 }, path)?.size;
    let (mut seen, mut there) = (vec![0; bytes as usize], vec![0; bytes as usize]);
    let (mut done, mut wrong) = (0, 0);
    for pass in 0..passes {
        // From the end and from the present position, too: those must not be done twice either.
        let (whence, offset) = match pass % 3 {
            0 => (fs::WHENCE_START, 0),
            1 => (fs::WHENCE_END, -(size as i64)),
            _ => (fs::WHENCE_CURRENT, -(size as i64)),
        };
        let mut expected = files.seek(&SeekArgs { handle: 3, whence, offset })?.position;
        wrong += u64::from(expected != 0);
        let mut under_way = VecDeque::new();
        let mut is_over = false;
        while !is_over || !under_way.is_empty() {
            while !is_over && under_way.len() < UNDER_WAY {
                under_way.push_back(files.submit_read_next(&ReadNextArgs { handle: 3, bytes })?);
            }
            let completion = match under_way.pop_front() {
                Some(tag) => files.wait_for(tag),
                None => break,
            };
            let reply = completion.result?;
            let read = ReadNextReturns::unpack(&reply.args);
            let count = read.bytes as usize;
            wrong += u64::from(read.offset != expected || reply.length != read.bytes);
            expected += u64::from(read.bytes);
            files.copy_out(&completion, 0, &mut seen[..count])?;
            files.release(completion);
            is_over |= count == 0;
            if done % 16 == 0 && count > 0 {
                let args = ReadArgs { offset: read.offset, handle: 3, bytes: read.bytes };
                files.read(&args, &mut there[..count])?;
                wrong += u64::from(seen[..count] != there[..count]);
            }
            done += u64::from(count > 0);
            pause(pause_us);
        }
        wrong += u64::from(expected != size);
    }
    files.close(&CloseArgs { handle: 3 })?;
    Ok((done, wrong))
}

/// Rounds, and how many locks were had that must not be, or not had.
fn lock(files: &mut fs::Client, path: &[u8], rounds: u64, pause_us: u64) -> Result<(u64, u64), Error> {
    for handle in 0..3 {
        files.open(&OpenArgs { handle, flags: 0 }, path)?;
    }
    let args = |handle, kind, wait_ms| LockArgs { handle, kind, wait_ms };
    let mut wrong = 0;
    for round in 0..rounds {
        let kind = if round % 2 == 0 { fs::LOCK_EXCLUSIVE } else { fs::LOCK_SHARED };
        files.lock(&args(0, fs::LOCK_EXCLUSIVE, LONG_MS))?;
        let waiting = files.submit_lock(&args(1, kind, LONG_MS))?;
        wrong += u64::from(files.lock(&args(2, fs::LOCK_SHARED, 0)) != Err(Error::AGAIN));
        pause(pause_us);
        wrong += u64::from(files.lock(&args(2, fs::LOCK_SHARED, 1)) != Err(Error::AGAIN));
        if let Some(early) = files.poll_for(waiting) {
            files.release(early);
            return Ok((round, wrong + 1));
        }
        files.unlock(&UnlockArgs { handle: 0 })?;
        let granted = files.wait_for(waiting);
        granted.result?;
        files.release(granted);
        pause(pause_us);
        let shared = files.lock(&args(2, fs::LOCK_SHARED, 0));
        wrong += u64::from(shared.is_ok() != (kind == fs::LOCK_SHARED));
        // To give a file up is to give up its lock, in one of the two ways.
        files.close(&CloseArgs { handle: 1 })?;
        files.open(&OpenArgs { handle: 1, flags: 0 }, path)?;
        files.open(&OpenArgs { handle: 2, flags: 0 }, path)?;
    }
    Ok((rounds, wrong))
}

fn leave(files: &mut fs::Client, path: &[u8], pause_us: u64) -> Result<(u64, u64), Error> {
    files.open(&OpenArgs { handle: 0, flags: 0 }, path)?;
    files.lock(&LockArgs { handle: 0, kind: fs::LOCK_EXCLUSIVE, wait_ms: LONG_MS })?;
    pause(pause_us);
    Ok((1, 0))
}
