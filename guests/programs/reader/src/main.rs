//! Reads one file from its beginning to its end as fast as it can and tells how long it took, as one line of
//! JSON: the client of the benchmarks.
//!
//! `reader [--bytes=B] [--outstanding=Q] [--times=N] [--use=nothing|copy|sha256] FILE`
//!     B    bytes of one read; a whole data buffer (128 KiB) by default
//!     Q    reads under way; 16 by default
//!     use  what is done with the bytes: left in the channel, copied to private memory (default), or digested
//!
//! The exit status is 1 if any read failed or the file was shorter than it said.

#![no_std]
#![no_main]

extern crate alloc;

#[path = "../../common/mod.rs"]
mod common;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use common::sha256::{hexadecimal, Sha256};
use core::fmt::Write;
use protocols::fs::{self, CloseArgs, OpenArgs, ReadArgs};
use protocols::log::{self, WriteArgs};
use rt::telemetry;
use rt::time::{ticks, ticks_to_ns};
use rt::{Completion, Tag};

rt::program!(main);

const HANDLE: u32 = 0;
const OUTSTANDING: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Nothing,
    Copy,
    Sha256,
}

struct Settings {
    bytes: u32,
    outstanding: usize,
    times: u64,
    what: Use,
}

/// What reading has come to.
struct Tally {
    bytes: u64,
    reads: u64,
    failed: u64,
    digest: Sha256,
    buffer: Vec<u8>,
}

fn main(arguments: rt::Args) -> i32 {
    let mut files = fs::Client::connect("fs").expect("interface fs");
    let largest = files.slot_data() as u32;
    let mut settings = Settings { bytes: largest, outstanding: OUTSTANDING, times: 1, what: Use::Copy };
    let mut path: &[u8] = b"";
    for word in arguments.iter().skip(1) {
        let text = core::str::from_utf8(word).unwrap_or("");
        let value = text.split('=').nth(1).unwrap_or("");
        match text.split('=').next() {
            Some("--bytes") => settings.bytes = value.parse().unwrap_or(0).clamp(1, largest),
            Some("--outstanding") => settings.outstanding = value.parse().unwrap_or(1),
            Some("--times") => settings.times = value.parse().unwrap_or(1),
            Some("--use") if value == "nothing" => settings.what = Use::Nothing,
            Some("--use") if value == "copy" => settings.what = Use::Copy,
            Some("--use") if value == "sha256" => settings.what = Use::Sha256,
            _ if word.starts_with(b"--") => path = b"",
            _ => path = word,
        }
    }
    if path.is_empty() {
        let usage = "usage: reader [--bytes=B] [--outstanding=Q] [--times=N] [--use=nothing|copy|sha256] FILE\n";
        return say(log::STREAM_STDERR, usage, 2);
    }
    settings.outstanding = settings.outstanding.clamp(1, files.capacity() - 1);
    let size = match files.open(&OpenArgs { handle: HANDLE, flags: 0 }, path) {
        Ok(opened) => opened.size,
        Err(error) => {
            let mut text = String::new();
            let _ = writeln!(text, "reader: {}: {}", String::from_utf8_lossy(path), error.name());
            return say(log::STREAM_STDERR, &text, 1);
        }
    };
    let mut tally = Tally { bytes: 0, reads: 0, failed: 0, digest: Sha256::new(), buffer: vec![0; largest as usize] };
    let start = ticks();
    for _ in 0..settings.times {
        read(&mut files, &settings, size, &mut tally);
    }
    let ns = ticks_to_ns(ticks() - start).max(1);
    let _ = files.close(&CloseArgs { handle: HANDLE });
    let complete = tally.failed == 0 && tally.bytes == size * settings.times;
    say(log::STREAM_STDOUT, &report(&settings, tally, ns), i32::from(!complete))
}

/// Reads the file once. Answers are used in the order of the file, whatever their own order.
fn read(files: &mut fs::Client, settings: &Settings, size: u64, tally: &mut Tally) {
    files.wake_after((settings.outstanding as u32 + 1) / 2);
    let mut under_way: VecDeque<Tag> = VecDeque::new();
    let mut arrived: Vec<Completion> = Vec::new();
    let mut offset = 0;
    while offset < size || !under_way.is_empty() {
        while offset < size && under_way.len() < settings.outstanding {
            let bytes = u64::from(settings.bytes).min(size - offset) as u32;
            match files.submit_read(&ReadArgs { offset, handle: HANDLE, bytes }) {
                Ok(tag) => under_way.push_back(tag),
                Err(_) => {
                    tally.failed += 1;
                    return;
                }
            }
            offset += u64::from(bytes);
        }
        while let Some(completion) = files.poll() {
            arrived.push(completion);
        }
        let before = under_way.len();
        while let Some(at) = under_way.front().and_then(|tag| arrived.iter().position(|done| done.tag == *tag)) {
            under_way.pop_front();
            let completion = arrived.swap_remove(at);
            take(files, settings, &completion, tally);
            files.release(completion);
        }
        if under_way.len() == before {
            rt::wait(&mut [&mut **files], None);
        }
    }
}

fn take(files: &fs::Client, settings: &Settings, completion: &Completion, tally: &mut Tally) {
    let length = completion.result.map_or(0, |reply| reply.length as usize).min(tally.buffer.len());
    let bytes = &mut tally.buffer[..length];
    let copied = settings.what == Use::Nothing || files.copy_out(completion, 0, bytes).is_ok();
    if completion.result.is_err() || !copied {
        tally.failed += 1;
        return;
    }
    if settings.what == Use::Sha256 {
        tally.digest.update(bytes);
    }
    tally.reads += 1;
    tally.bytes += length as u64;
    telemetry::add(telemetry::BYTES, length as u64);
}

fn report(settings: &Settings, tally: Tally, ns: u64) -> String {
    let digest = match settings.what {
        Use::Sha256 => [b"\"", &hexadecimal(&tally.digest.finish())[..], b"\""].concat(),
        _ => b"null".to_vec(),
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{{\"bytes\": {}, \"ns\": {}, \"bytes_per_s\": {}, \"reads\": {}, \"failed\": {}, \"read_bytes\": {}, \
         \"outstanding\": {}, \"use\": \"{:?}\", \"sha256\": {}, \"replayed\": {}, \"waits\": {}, \"spun_ns\": {}}}",
        tally.bytes,
        ns,
        (u128::from(tally.bytes) * 1_000_000_000 / u128::from(ns)) as u64,
        tally.reads,
        tally.failed,
        settings.bytes,
        settings.outstanding,
        settings.what,
        String::from_utf8_lossy(&digest),
        telemetry::get(telemetry::REPLAYED),
        telemetry::get(telemetry::WAITS),
        ticks_to_ns(telemetry::get(telemetry::SPINS)),
    );
    text
}

/// Prints a text; the status is handed through.
fn say(stream: u32, text: &str, status: i32) -> i32 {
    let mut console = log::Client::connect("log").expect("interface log");
    match console.write(&WriteArgs { position: 0, stream }, text.as_bytes()) {
        Ok(_) => status,
        Err(_) => 1,
    }
}
