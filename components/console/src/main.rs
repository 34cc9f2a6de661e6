//! The console: serves log@1. It keeps nothing: positions are absolute and counted by the hypervisor for each
//! stream and client, so a console that died between writing and answering may simply be asked again.

#![no_std]
#![no_main]

use core::fmt::Write;
use protocols::log::{self, RecordArgs, WriteArgs, WriteReturns};
use rt::log::Line;
use rt::{Answer, Call, Error, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

struct Console;

impl log::Server for Console {
    fn write(&mut self, call: &mut Call<'_>, args: WriteArgs) -> Answer<WriteReturns> {
        if args.stream != log::STREAM_STDOUT && args.stream != log::STREAM_STDERR {
            return Answer::Failed(Error::INVAL);
        }
        let writer = call.client().0;
        let bytes = call.input();
        let mut position = args.position;
        if position.checked_add(bytes.len() as u64).is_none() {
            return Answer::Failed(Error::INVAL);
        }
        // A hypercall carries at most OUTPUT_MAX bytes; an empty write still asks for the position reached.
        let mut rest = &bytes[..];
        loop {
            let (piece, after) = rest.split_at(rest.len().min(rt::abi::OUTPUT_MAX));
            match rt::hypercall::output(args.stream, writer, piece, position) {
                // Further than this piece: a repeat, parts of which had been written before.
                Ok(reached) if after.is_empty() => return Answer::Done(WriteReturns { position: reached }),
                Ok(_) => position += piece.len() as u64,
                // The hypervisor says so of a position beyond what it has: bytes are missing before these.
                Err(Error::INVAL) => return Answer::Failed(Error::GAP),
                Err(error) => return Answer::Failed(error),
            }
            rest = after;
        }
    }

    fn record(&mut self, call: &mut Call<'_>, args: RecordArgs) -> Answer<()> {
        if args.level > rt::abi::LOG_LEVEL_DEBUG {
            return Answer::Failed(Error::INVAL);
        }
        let text = call.input();
        let client = call.client();
        let mut line = Line::new();
        let _ = write!(line, "{}: ", call.port().peer(client));
        for character in rt::alloc::string::String::from_utf8_lossy(&text).chars() {
            // A client's line stays one line, and cannot play tricks on a terminal.
            let _ = line.write_char(if character.is_control() { ' ' } else { character });
        }
        rt::hypercall::log(args.level, line.as_bytes());
        Answer::Done(())
    }
}

fn serve() {
    let mut port = ServerPort::open(&log::PROTOCOL, "log");
    rt::ready();
    loop {
        log::serve(&mut port, &mut Console);
        rt::wait(&mut [&mut port], None);
    }
}
