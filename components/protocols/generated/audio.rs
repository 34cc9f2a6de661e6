//! Generated from components/protocols/audio.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! Sound: one stream of frames, each played exactly once, in the order of their numbers.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "audio", number: 7, version: 1 };

pub const VOLUME_FULL: u32 = 65536;
pub const CHANNELS_MAX: u32 = 8;

// format
pub const FORMAT_S16: u32 = 5;

/// Frames a second, channels and format of the stream. Once something has been played only the same again
/// (`busy`).
pub static CONFIGURE: Operation = Operation {
    id: 1,
    name: "configure",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Volume of the frames played from now on; not of those asked for before.
pub static SET_VOLUME: Operation = Operation {
    id: 2,
    name: "set_volume",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Play `frames` frames, the input, as number `position` and on. Those played before are left out; none may
/// be skipped (`gap`).
pub static PLAY: Operation = Operation {
    id: 3,
    name: "play",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: usize::MAX,
    output_max: 0,
};

/// The number of the next frame, and what holds for it.
pub static STATUS: Operation = Operation {
    id: 4,
    name: "status",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Answered when the device has everything that was asked for before.
pub static DRAIN: Operation = Operation {
    id: 5,
    name: "drain",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 5] = [&CONFIGURE, &SET_VOLUME, &PLAY, &STATUS, &DRAIN];

/// Arguments of `configure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigureArgs {
    pub rate: u32,
    pub channels: u32,
    pub format: u32,
}

impl ConfigureArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.rate) | u64::from(self.channels) << 32,
            u64::from(self.format),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ConfigureArgs {
        ConfigureArgs {
            rate: args[0] as u32,
            channels: (args[0] >> 32) as u32,
            format: args[1] as u32,
        }
    }
}

/// Arguments of `set_volume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetVolumeArgs {
    pub volume: u32,
}

impl SetVolumeArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.volume),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SetVolumeArgs {
        SetVolumeArgs {
            volume: args[0] as u32,
        }
    }
}

/// Arguments of `play`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayArgs {
    pub position: u64,
    pub frames: u32,
}

impl PlayArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            u64::from(self.frames),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> PlayArgs {
        PlayArgs {
            position: args[0],
            frames: args[1] as u32,
        }
    }
}

/// Returned values of `play`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayReturns {
    pub position: u64,
}

impl PlayReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> PlayReturns {
        PlayReturns {
            position: args[0],
        }
    }
}

/// Returned values of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusReturns {
    pub position: u64,
    pub rate: u32,
    pub volume: u32,
    pub channels: u32,
    pub format: u32,
}

impl StatusReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            u64::from(self.rate) | u64::from(self.volume) << 32,
            u64::from(self.channels) | u64::from(self.format) << 32,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> StatusReturns {
        StatusReturns {
            position: args[0],
            rate: args[1] as u32,
            volume: (args[1] >> 32) as u32,
            channels: args[2] as u32,
            format: (args[2] >> 32) as u32,
        }
    }
}

/// A service that speaks audio@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// Frames a second, channels and format of the stream. Once something has been played only the same again
    /// (`busy`).
    /// Errors: inval, busy, io.
    fn configure(&mut self, call: &mut Call<'_>, args: ConfigureArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Volume of the frames played from now on; not of those asked for before.
    /// Errors: inval.
    fn set_volume(&mut self, call: &mut Call<'_>, args: SetVolumeArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Play `frames` frames, the input, as number `position` and on. Those played before are left out; none
    /// may be skipped (`gap`).
    /// Errors: inval, gap, io.
    fn play(&mut self, call: &mut Call<'_>, args: PlayArgs) -> Answer<PlayReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// The number of the next frame, and what holds for it.
    fn status(&mut self, call: &mut Call<'_>) -> Answer<StatusReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Answered when the device has everything that was asked for before.
    fn drain(&mut self, call: &mut Call<'_>) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// A client is gone: drop what belongs to it. Its tickets are stale.
    fn session_ended(&mut self, client: ClientId) {}
}

/// Serves one bounded round of requests; how many events there were.
pub fn serve<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S) -> usize {
    port.begin_round();
    let mut events = 0;
    while let Some(event) = port.next() {
        events += 1;
        match event {
            Event::Request(request) => dispatch(port, service, request),
            Event::Ended(client) => service.session_ended(client),
        }
    }
    events
}

/// Hands one request to the service, and its answer to the client.
pub fn dispatch<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S, request: Request) {
    let ticket = request.ticket;
    let operation = match OPERATIONS.iter().find(|operation| operation.id == request.op) {
        Some(operation) => operation,
        None => return port.answer(ticket, Answer::Failed(Error::NOSYS)),
    };
    if request.length as usize > operation.input_max {
        return port.answer(ticket, Answer::Failed(Error::TOOBIG));
    }
    let mut call = Call::new(port, request, operation);
    match request.op {
        1 => {
            let answer = service.configure(&mut call, ConfigureArgs::unpack(&request.args));
            answer_configure(port, ticket, answer)
        }
        2 => {
            let answer = service.set_volume(&mut call, SetVolumeArgs::unpack(&request.args));
            answer_set_volume(port, ticket, answer)
        }
        3 => {
            let answer = service.play(&mut call, PlayArgs::unpack(&request.args));
            answer_play(port, ticket, answer)
        }
        4 => {
            let answer = service.status(&mut call);
            answer_status(port, ticket, answer)
        }
        5 => {
            let answer = service.drain(&mut call);
            answer_drain(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `configure` kept for later; nothing happens if its client is gone.
pub fn answer_configure(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `set_volume` kept for later; nothing happens if its client is gone.
pub fn answer_set_volume(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `play` kept for later; nothing happens if its client is gone.
pub fn answer_play(port: &mut ServerPort, ticket: Ticket, answer: Answer<PlayReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `status` kept for later; nothing happens if its client is gone.
pub fn answer_status(port: &mut ServerPort, ticket: Ticket, answer: Answer<StatusReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `drain` kept for later; nothing happens if its client is gone.
pub fn answer_drain(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// A client of audio@1. Everything `rt::Client` can do, and a pair of
/// methods per operation: one that waits (for programs), one that only submits.
pub struct Client(rt::Client);

impl core::ops::Deref for Client {
    type Target = rt::Client;

    fn deref(&self) -> &rt::Client {
        &self.0
    }
}

impl core::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut rt::Client {
        &mut self.0
    }
}

impl Client {
    /// The client end of this interface. Requests wait until it has a server.
    pub fn connect(interface: &str) -> Result<Client, Error> {
        rt::Client::open(&PROTOCOL, interface).map(Client)
    }

    /// The client end that is channel `index`.
    pub fn attach(index: u32) -> Result<Client, Error> {
        rt::Client::attach(&PROTOCOL, index).map(Client)
    }

    /// Frames a second, channels and format of the stream. Once something has been played only the same again
    /// (`busy`).
    pub fn configure(&mut self, args: &ConfigureArgs) -> Result<(), Error> {
        self.0.call(&CONFIGURE, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `configure`: `poll` tells when it is done.
    pub fn submit_configure(&mut self, args: &ConfigureArgs) -> Result<Tag, Error> {
        self.0.submit(&CONFIGURE, args.pack(), &[])
    }

    /// Volume of the frames played from now on; not of those asked for before.
    pub fn set_volume(&mut self, args: &SetVolumeArgs) -> Result<(), Error> {
        self.0.call(&SET_VOLUME, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `set_volume`: `poll` tells when it is done.
    pub fn submit_set_volume(&mut self, args: &SetVolumeArgs) -> Result<Tag, Error> {
        self.0.submit(&SET_VOLUME, args.pack(), &[])
    }

    /// Play `frames` frames, the input, as number `position` and on. Those played before are left out; none
    /// may be skipped (`gap`).
    pub fn play(&mut self, args: &PlayArgs, input: &[u8]) -> Result<PlayReturns, Error> {
        let reply = self.0.call(&PLAY, args.pack(), input, &mut [])?;
        Ok(PlayReturns::unpack(&reply.args))
    }

    /// Submits `play`: `poll` tells when it is done.
    pub fn submit_play(&mut self, args: &PlayArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&PLAY, args.pack(), input)
    }

    /// The number of the next frame, and what holds for it.
    pub fn status(&mut self) -> Result<StatusReturns, Error> {
        let reply = self.0.call(&STATUS, [0; 5], &[], &mut [])?;
        Ok(StatusReturns::unpack(&reply.args))
    }

    /// Submits `status`: `poll` tells when it is done.
    pub fn submit_status(&mut self) -> Result<Tag, Error> {
        self.0.submit(&STATUS, [0; 5], &[])
    }

    /// Answered when the device has everything that was asked for before.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.0.call(&DRAIN, [0; 5], &[], &mut []).map(drop)
    }

    /// Submits `drain`: `poll` tells when it is done.
    pub fn submit_drain(&mut self) -> Result<Tag, Error> {
        self.0.submit(&DRAIN, [0; 5], &[])
    }
}
