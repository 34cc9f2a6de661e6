//! A tone, and how it is played. Each of its frames can be computed alone, and differs from its neighbours: what is
//! missing or played twice is seen in the recording.

use core::fmt;
use protocols::audio::{Client, ConfigureArgs, PlayArgs, PlayReturns, SetVolumeArgs, FORMAT_S16, VOLUME_FULL};
use rt::alloc::vec::Vec;
use rt::time::ticks;
use rt::{Error, Tag};

/// What sounds. Tests compute the same.
pub struct Tone {
    pub seed: u64,
    pub rate: u32,
    pub channels: u32,
}

const HERTZ: u64 = 440;

impl Tone {
    /// A parabola for a sine of half the amplitude, a fifth higher in each further channel, and seeded noise.
    pub fn sample(&self, frame: u64, channel: u32) -> i16 {
        let hertz = HERTZ * (2 + u64::from(channel)) / 2;
        let step = (hertz << 32) / u64::from(self.rate);
        let phase = i64::from(frame.wrapping_mul(step) as u32 as i32 >> 16);
        let wave = phase * (32768 - phase.abs()) >> 14;
        let number = frame.wrapping_mul(u64::from(self.channels)).wrapping_add(u64::from(channel));
        let noise = number.wrapping_add(self.seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        (wave + noise as i64 - 128) as i16
    }

    fn bytes(&self, position: u64, frames: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in position..position + frames {
            for channel in 0..self.channels {
                bytes.extend_from_slice(&self.sample(frame, channel).to_le_bytes());
            }
        }
        bytes
    }
}

/// How it is played: up to which frame, so many frames a request, with so many ticks between the answers. The frames are
/// divided evenly among the volumes.
pub struct Manner {
    pub frames: u64,
    pub volumes: Vec<u32>,
    pub chunk: u64,
    pub pause: u64,
}

/// What was not as it should be.
pub enum Problem {
    Failed(&'static str, Error),
    /// An answer, and what it should be.
    Wrong(&'static str, u64, u64),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Failed(what, error) => write!(f, "{}: {}", what, error),
            Problem::Wrong(what, found, wanted) => write!(f, "{}: {}, not {}", what, found, wanted),
        }
    }
}

/// Names what failed.
pub trait Said<T> {
    fn said(self, what: &'static str) -> Result<T, Problem>;
}

impl<T> Said<T> for Result<T, Error> {
    fn said(self, what: &'static str) -> Result<T, Problem> {
        self.map_err(|error| Problem::Failed(what, error))
    }
}

fn same(what: &'static str, found: u64, wanted: u64) -> Result<(), Problem> {
    if found == wanted {
        Ok(())
    } else {
        Err(Problem::Wrong(what, found, wanted))
    }
}

/// Plays what the stream does not have yet, and compares every answer with what it should be.
pub fn play(client: &mut Client, tone: &Tone, manner: &Manner) -> Result<(), Problem> {
    let format = FORMAT_S16;
    client.configure(&ConfigureArgs { rate: tone.rate, channels: tone.channels, format }).said("configure")?;
    let mut position = client.status().said("status")?.position;
    let mut under_way: Vec<(Tag, &'static str, u64)> = Vec::new();
    let parts = manner.volumes.len() as u64;
    let part_of = |frame: u64| (frame * parts / manner.frames) as usize;
    let mut part = usize::MAX;
    while position < manner.frames || !under_way.is_empty() {
        while position < manner.frames && client.has_room() {
            if part != part_of(position) {
                part = part_of(position);
                // Not waited for: it holds for what is asked for after it.
                let tag = client.submit_set_volume(&SetVolumeArgs { volume: manner.volumes[part] });
                under_way.push((tag.said("set_volume")?, "set_volume", 0));
                continue;
            }
            let end_of_part = ((part as u64 + 1) * manner.frames + parts - 1) / parts;
            let frames = manner.chunk.min(end_of_part - position);
            let args = PlayArgs { position, frames: frames as u32 };
            let tag = client.submit_play(&args, &tone.bytes(position, frames)).said("play")?;
            position += frames;
            under_way.push((tag, "play", position));
        }
        while let Some(completion) = client.poll() {
            let at = under_way.iter().position(|(tag, ..)| *tag == completion.tag);
            let (_, what, end) = under_way.remove(at.expect("a completion of what was asked for"));
            let reply = completion.result.map(|reply| PlayReturns::unpack(&reply.args).position);
            client.release(completion);
            same(what, reply.said(what)?, end)?;
            let next = ticks() + manner.pause;
            while ticks() < next {
                core::hint::spin_loop();
            }
        }
        if !under_way.is_empty() {
            rt::wait(&mut [&mut **client], None);
        }
    }
    client.drain().said("drain")?;
    let status = client.status().said("status")?;
    same("position", status.position, manner.frames)?;
    same("volume", status.volume.into(), (*manner.volumes.last().unwrap_or(&(VOLUME_FULL as u32))).into())?;
    same("rate", status.rate.into(), tone.rate.into())?;
    same("channels", status.channels.into(), tone.channels.into())
}
