//! Plays 40,000 frames of the tone with seed 7, mono, at half the volume, and is then at rest. Whoever is started after
//! its death asks where the stream is.
//!
//! As component `endless_player` it plays a little, rests a little, and so on: for tests in which others have to work,
//! too.

#![no_std]
#![no_main]

#[path = "../../../../guests/programs/tone/src/tone.rs"]
mod tone;

use protocols::audio::{Client, ConfigureArgs, FORMAT_S16};
use rt::alloc::vec;
use rt::info;
use rt::time::{ms_to_ticks, ticks};
use tone::{Manner, Problem, Said, Tone};

rt::component! { fresh: play, restart: play, update: play }

const TONE: Tone = Tone { seed: 7, rate: 48000, channels: 1 };
/// Frames between two rests of the endless player.
const LITTLE: u64 = 64;
const REST_MS: u64 = 2;

fn play() {
    let mut client = Client::connect("audio").expect("interface audio");
    rt::ready();
    let outcome = if info::name().as_str() == "endless_player" {
        play_on(&mut client)
    } else {
        play_up_to(&mut client, 40_000, 100)
    };
    if let Err(problem) = outcome {
        panic!("{}", problem);
    }
    loop {
        rt::wait(&mut [&mut *client], None);
    }
}

fn play_up_to(client: &mut Client, frames: u64, chunk: u64) -> Result<(), Problem> {
    tone::play(client, &TONE, &Manner { frames, volumes: vec![32768], chunk, pause: 0 })
}

fn play_on(client: &mut Client) -> Result<(), Problem> {
    let args = ConfigureArgs { rate: TONE.rate, channels: TONE.channels, format: FORMAT_S16 };
    client.configure(&args).said("configure")?;
    let mut position = client.status().said("status")?.position;
    loop {
        position += LITTLE;
        play_up_to(client, position, 4)?;
        let end = ticks() + ms_to_ticks(REST_MS);
        while ticks() < end {
            rt::wait(&mut [&mut **client], Some(end));
        }
    }
}
