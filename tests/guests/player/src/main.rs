//! Plays 40,000 frames of the tone with seed 7, mono, at half the volume, and is then at rest. Whoever is started after
//! its death asks where the stream is.

#![no_std]
#![no_main]

#[path = "../../../../guests/programs/tone/src/tone.rs"]
mod tone;

use protocols::audio::Client;
use rt::alloc::vec;
use tone::{Manner, Tone};

rt::component! { fresh: play, restart: play, update: play }

fn play() {
    let mut client = Client::connect("audio").expect("interface audio");
    rt::ready();
    let tone = Tone { seed: 7, rate: 48000, channels: 1 };
    let manner = Manner { frames: 40_000, volumes: vec![32768], chunk: 100, pause: 0 };
    if let Err(problem) = tone::play(&mut client, &tone, &manner) {
        panic!("{}", problem);
    }
    loop {
        rt::wait(&mut [&mut *client], None);
    }
}
