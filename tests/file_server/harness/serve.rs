//! Requests as lines: `session C HEX` (subtree), `end C`, `open C HANDLE FLAGS HEX` (flags 1: do not follow,
//! 2: directory), `stat C FLAGS HEX`, `link C HEX`, `read C HANDLE OFFSET BYTES`, `list C HANDLE COOKIE CAPACITY`,
//! `close C HANDLE`, `lie BLOCK TIMES`, `fail BLOCK TIMES`, `go`. Each request gets the next ticket, from 0.
//! `go` runs them all and prints a line per answer, `TICKET WORD NUMBERS... HEX-OR-CHECKSUM`, then `done READS ...`.

use crate::crc32c::Checksum;
use crate::disk::Mishap;
use crate::service::{Answer, Purpose};
use crate::world::World;
use std::io::{BufRead, Write};

const HEX_MAX: usize = 1 << 17; // longer outputs are told by length and checksum

pub fn serve(image: &str, frames: usize, seed: u64) {
    let file = std::fs::File::open(image).expect("image");
    let mut world = match World::new(file, frames, seed) {
        Ok(world) => world,
        Err(sentence) => {
            println!("refused {}", sentence);
            return;
        }
    };
    println!("mounted {} {}", world.service.volume().blocks, world.service.volume().inodes);
    let standard_input = std::io::stdin();
    for line in standard_input.lock().lines() {
        let line = line.expect("line");
        let words: Vec<&str> = line.split(' ').collect();
        command(&mut world, &words);
    }
}

fn command(world: &mut World<std::fs::File>, words: &[&str]) {
    let number = |index: usize| words[index].parse::<u64>().expect("a number");
    let client = || number(1) as usize;
    match words[0] {
        "session" => return world.service.session(client(), &unhex(words[2])),
        "end" => return world.service.session_ended(client()),
        "lie" | "fail" => {
            let lie = words[0] == "lie";
            return world.disk.mishaps.push(Mishap { block: number(1), times: number(2), lie });
        }
        "go" => return go(world),
        _ => {}
    }
    let ticket = world.answers.ticket();
    let answers = &mut world.answers;
    match words[0] {
        "open" => {
            let (follow, directory) = (number(3) & 1 == 0, number(3) & 2 != 0);
            let purpose = Purpose::Open { handle: number(2) as u32, follow, directory };
            world.service.path(client(), ticket, purpose, &unhex(words[4]), answers)
        }
        "stat" => {
            let purpose = Purpose::Stat { follow: number(2) & 1 == 0 };
            world.service.path(client(), ticket, purpose, &unhex(words[3]), answers)
        }
        "link" => {
            let purpose = Purpose::ReadLink { capacity: 4096 };
            world.service.path(client(), ticket, purpose, &unhex(words[2]), answers)
        }
        "read" => {
            let (handle, offset, bytes) = (number(2) as u32, number(3), number(4) as usize);
            world.service.read(client(), ticket, handle, offset, bytes, answers)
        }
        "list" => {
            let (handle, cookie, capacity) = (number(2) as u32, number(3), number(4) as usize);
            world.service.entries(client(), ticket, handle, cookie, capacity, answers)
        }
        "close" => {
            let answer = match world.service.close(client(), number(2) as u32) {
                Ok(()) => Answer::Read { bytes: 0 },
                Err(failure) => Answer::Failed(failure),
            };
            answers.given.push((ticket, answer));
        }
        other => panic!("unknown command {}", other),
    }
}

fn go(world: &mut World<std::fs::File>) {
    let settled = world.settle(1 << 20);
    let standard_output = std::io::stdout();
    let mut out = standard_output.lock();
    let checksum = Checksum::new(false);
    for (ticket, answer) in std::mem::take(&mut world.answers.given) {
        let output = std::mem::take(&mut world.answers.output[ticket]);
        let words = match answer {
            Answer::Opened { size, mode, inode, kind } => format!("opened {} {} {} {}", size, mode, inode, kind),
            Answer::Read { bytes } => format!("read {}", bytes),
            Answer::Stat { bytes } => format!("stat {}", bytes),
            Answer::Entries { bytes, end } => format!("entries {} {}", bytes, u8::from(end)),
            Answer::Target { bytes } => format!("target {}", bytes),
            Answer::Failed(failure) => format!("failed {}", failure.code()),
        };
        let data = if output.len() <= HEX_MAX { hex(&output) } else { format!("~{}", checksum.of(&output)) };
        writeln!(out, "{} {} ={}", ticket, words, data).expect("output");
    }
    for report in std::mem::take(&mut world.answers.reports) {
        writeln!(out, "report {:?}", report).expect("output");
    }
    let counters = world.service.cache.counters;
    let state = if settled { "done" } else { "stuck" };
    writeln!(out, "{} {} {} {}", state, counters.loads, counters.rereads, counters.wasted).expect("output");
    out.flush().expect("output");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{:02x}", byte)).collect()
}
