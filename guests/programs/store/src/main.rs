//! `store COMMAND [, COMMAND ...]`: asks the data store, and prints what it says, in the order of the commands.
//!
//!     set NAME VALUE [if=VERSION|if=absent]   the number of this change
//!     get NAME                                the value
//!     list [PREFIX]                           version, name and value of each
//!     delete NAME [if=VERSION]                the number of this change
//!     watch PREFIX [count=N]                  each change from now on; N of them
//! A VALUE is a number (with a sign: a signed one), hex:00ff, string:TEXT or any other text. For scripts:
//!     subscribe N PREFIX [anew]   unsubscribe N   next N AFTER   acknowledge N NUMBER
//!     status                      changes, names, names of this client, subscriptions of all
//!     again                       says so, and waits until the store is another instance
//!     pause MS
//! What fails is printed as `store: COMMAND: ERROR`, and the next command follows. The exit status is 1 then; 2 for
//! words that are not understood, of which nothing is done.

#![no_std]
#![no_main]

mod command;
mod value;

use command::Command;
use core::fmt::{self, Write};
use protocols::store::{self, Client, EntryRecord, NAME_MAX, VALUE_MAX};
use rt::alloc::vec::Vec;
use rt::time::{ms_to_ticks, ticks};
use rt::{abi, hypercall, Error};
use value::Shown;

rt::program!(main);

const LOOK_MS: u64 = 2;
/// The subscription of `watch`.
const WATCH: u32 = 0;

/// Standard output.
struct Output {
    position: u64,
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.position = hypercall::output(abi::STREAM_STDOUT, 0, text.as_bytes(), self.position).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

/// A line, in one piece.
fn say(output: &mut Output, line: fmt::Arguments<'_>) {
    let _ = output.write_str(&rt::alloc::format!("{}\n", line)); // who does not listen cannot be told that either
}

fn main(arguments: rt::Args) -> i32 {
    let mut output = Output { position: 0 };
    let words: Vec<&[u8]> = arguments.iter().skip(1).collect();
    let commands = match command::read(&words) {
        Some(commands) => commands,
        None => {
            say(&mut output, format_args!("{}", command::USAGE));
            return 2;
        }
    };
    let mut client = Client::connect("store").expect("interface store");
    let mut status = 0;
    for command in &commands {
        if let Err(error) = carry_out(&mut client, command, &mut output) {
            say(&mut output, format_args!("store: {}: {}", command.name(), error.name()));
            status = 1;
        }
    }
    status
}

fn carry_out(client: &mut Client, command: &Command<'_>, output: &mut Output) -> Result<(), Error> {
    match *command {
        Command::Set { name, ref value, expected } => {
            let input = [name, value.bytes.as_slice()].concat();
            let args = store::SetArgs { expected, kind: value.kind, name_length: name.len() as u32 };
            let version = client.set(&args, &input)?.version;
            say(output, format_args!("{}", version));
        }
        Command::Get { name } => {
            let mut value = [0; VALUE_MAX as usize];
            let (got, length) = client.get(name, &mut value)?;
            say(output, format_args!("{}", Shown(got.kind, &value[..length])));
        }
        Command::List { prefix } => list(client, prefix, output)?,
        Command::Delete { name, expected } => {
            let version = client.delete(&store::DeleteArgs { expected }, name)?.version;
            say(output, format_args!("{}", version));
        }
        Command::Watch { prefix, count } => watch(client, prefix, count, output)?,
        Command::Subscribe { subscription, prefix, anew } => {
            let args = store::SubscribeArgs { subscription, anew: u32::from(anew) };
            let position = client.subscribe(&args, prefix)?.position;
            say(output, format_args!("{}", position));
        }
        Command::Unsubscribe { subscription } => {
            client.unsubscribe(&store::UnsubscribeArgs { subscription })?;
            say(output, format_args!("ok"));
        }
        Command::Next { subscription, after } => {
            next(client, subscription, after, output)?;
        }
        Command::Acknowledge { subscription, number } => {
            client.acknowledge(&store::AcknowledgeArgs { number, subscription })?;
            say(output, format_args!("ok"));
        }
        Command::Status => {
            let now = client.status()?;
            say(output, format_args!("{} {} {} {}", now.changes, now.names, now.own_names, now.subscriptions));
        }
        Command::Again => {
            let before = client.epoch();
            say(output, format_args!("again"));
            while client.epoch() == before && !client.is_gone() {
                pause(client, LOOK_MS);
                client.poll(); // nothing is under way: this only looks who is there
            }
        }
        Command::Pause { ms } => pause(client, ms),
    }
    Ok(())
}

/// Sleeps, whatever happens meanwhile.
fn pause(client: &mut Client, ms: u64) {
    let end = ticks() + ms_to_ticks(ms);
    while ticks() < end {
        client.poll();
        rt::wait(&mut [&mut **client], Some(end));
    }
}

fn list(client: &mut Client, prefix: &[u8], output: &mut Output) -> Result<(), Error> {
    let mut page = rt::alloc::vec![0; client.slot_data()];
    let mut after = Vec::new();
    loop {
        let input = [prefix, after.as_slice()].concat();
        let (listed, length) = client.list(&store::ListArgs { prefix_length: prefix.len() as u32 }, &input, &mut page)?;
        let mut rest = &page[..length];
        while let Some(entry) = EntryRecord::unpack(rest) {
            let name_end = EntryRecord::SIZE + usize::from(entry.name_length);
            let end = name_end + usize::from(entry.value_length);
            let name = rest.get(EntryRecord::SIZE..name_end).ok_or(Error::PROTOCOL)?;
            let value = rest.get(name_end..end).ok_or(Error::PROTOCOL)?;
            let line = (entry.version, String(name), Shown(entry.kind, value));
            say(output, format_args!("{} {} = {}", line.0, line.1, line.2));
            after = name.to_vec();
            rest = rest.get((end + 7) & !7..).unwrap_or(&[]);
        }
        if listed.end != 0 {
            return Ok(());
        }
    }
}

/// Bytes that are text, as the store sees to.
struct String<'a>(&'a [u8]);

impl fmt::Display for String<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.0).unwrap_or("?"))
    }
}

/// Waits for a change and prints it; its number.
fn next(client: &mut Client, subscription: u32, after: u64, output: &mut Output) -> Result<u64, Error> {
    let mut bytes = [0; (NAME_MAX + VALUE_MAX) as usize];
    let (change, length) = client.next(&store::NextArgs { after, subscription }, &mut bytes)?;
    let name = bytes[..length].get(..change.name_length as usize).ok_or(Error::PROTOCOL)?;
    let value = Shown(change.kind, &bytes[name.len()..length]);
    say(output, format_args!("{} {} = {}", change.number, String(name), value));
    Ok(change.number)
}

fn watch(client: &mut Client, prefix: &[u8], count: u64, output: &mut Output) -> Result<(), Error> {
    let begin = |client: &mut Client| {
        client.subscribe(&store::SubscribeArgs { subscription: WATCH, anew: 1 }, prefix).map(|begun| begun.position)
    };
    let mut position = begin(client)?;
    let mut seen = 0;
    while seen < count {
        match next(client, WATCH, position, output) {
            Ok(number) => {
                client.acknowledge(&store::AcknowledgeArgs { number, subscription: WATCH })?;
                position = number;
                seen += 1;
            }
            Err(Error::GAP) => {
                position = begin(client)?;
                say(output, format_args!("there were more changes than could be kept; this is what there is:"));
                list(client, prefix, output)?;
            }
            Err(error) => return Err(error),
        }
    }
    client.unsubscribe(&store::UnsubscribeArgs { subscription: WATCH })
}
