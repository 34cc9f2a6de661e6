//! `tone [WORD=NUMBER ...]`: plays a tone, and sees to it that every answer is as it should be.
//!
//!     frames=48000        up to this frame of the stream; what it has already is not played again
//!     rate=48000  channels=2  seed=1
//!     volume=65536        or several, as in volume=65536,20000: one for each part of the frames
//!     chunk=1024          frames a request
//!     pause=0             microseconds after each answer
//!     wait=FRAMES         plays nothing: waits until somebody else has played so much
//! It prints how many requests were sent again. Exit status 1, and a line that says why, if anything was not as it
//! should be; 2 for other words.

#![no_std]
#![no_main]

mod tone;

use core::fmt::Write;
use protocols::audio::{Client, VOLUME_FULL};
use rt::alloc::vec::Vec;
use rt::time::{ms_to_ticks, ns_to_ticks, ticks};
use rt::{telemetry, Output};
use tone::{Manner, Problem, Said, Tone};

rt::program!(main);

const LOOK_MS: u64 = 5;

/// What is to be done.
struct Words {
    tone: Tone,
    manner: Manner,
    wait: u64,
}

/// None: not understood.
fn read(arguments: &rt::Args) -> Option<Words> {
    let mut words = Words {
        tone: Tone { seed: 1, rate: 48000, channels: 2 },
        manner: Manner { frames: 48000, volumes: Vec::new(), chunk: 1024, pause: 0 },
        wait: 0,
    };
    for word in arguments.iter().skip(1) {
        let (key, value) = core::str::from_utf8(word).ok()?.split_once('=')?;
        if key == "volume" {
            for volume in value.split(',') {
                words.manner.volumes.push(volume.parse().ok()?);
            }
            continue;
        }
        let number: u64 = value.parse().ok()?;
        match key {
            "frames" => words.manner.frames = number,
            "rate" => words.tone.rate = u32::try_from(number).ok().filter(|rate| *rate > 0)?,
            "channels" => words.tone.channels = u32::try_from(number).ok()?,
            "seed" => words.tone.seed = number,
            "chunk" => words.manner.chunk = number.max(1),
            "pause" => words.manner.pause = ns_to_ticks(number.checked_mul(1000)?),
            "wait" => words.wait = number,
            _ => return None,
        }
    }
    if words.manner.volumes.is_empty() {
        words.manner.volumes.push(VOLUME_FULL as u32);
    }
    Some(words)
}

fn main(arguments: rt::Args) -> i32 {
    let mut output = Output::default();
    let words = match read(&arguments) {
        Some(words) => words,
        None => {
            let _ = writeln!(output, "tone [frames|rate|channels|seed|volume|chunk|pause|wait=NUMBER ...]");
            return 2;
        }
    };
    let mut client = Client::connect("audio").expect("interface audio");
    let outcome = match words.wait {
        0 => tone::play(&mut client, &words.tone, &words.manner),
        frames => wait(&mut client, frames),
    };
    let replayed = telemetry::get(telemetry::REPLAYED);
    let (status, _) = match outcome {
        Ok(()) => (0, writeln!(output, "{} requests were sent again", replayed)),
        Err(problem) => (1, writeln!(output, "tone: {}", problem)),
    };
    status
}

fn wait(client: &mut Client, frames: u64) -> Result<(), Problem> {
    while client.status().said("status")?.position < frames {
        rt::wait(&mut [&mut **client], Some(ticks() + ms_to_ticks(LOOK_MS)));
    }
    Ok(())
}
