//! The words of the command line.

use crate::value::{self, Value};
use protocols::store::ABSENT;
use rt::alloc::vec::Vec;

pub const USAGE: &str = "store set NAME VALUE [if=VERSION|if=absent] | get NAME | list [PREFIX] | \
    delete NAME [if=VERSION] | watch PREFIX [count=N] | subscribe N PREFIX [anew] | unsubscribe N | next N AFTER | \
    acknowledge N NUMBER | status | again | pause MS; several with a word \",\" between them";

pub enum Command<'a> {
    Set { name: &'a [u8], value: Value, expected: u64 },
    Get { name: &'a [u8] },
    List { prefix: &'a [u8] },
    Delete { name: &'a [u8], expected: u64 },
    Watch { prefix: &'a [u8], count: u64 },
    Subscribe { subscription: u32, prefix: &'a [u8], anew: bool },
    Unsubscribe { subscription: u32 },
    Next { subscription: u32, after: u64 },
    Acknowledge { subscription: u32, number: u64 },
    Status,
    Again,
    Pause { ms: u64 },
}

impl Command<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Command::Set { .. } => "set",
            Command::Get { .. } => "get",
            Command::List { .. } => "list",
            Command::Delete { .. } => "delete",
            Command::Watch { .. } => "watch",
            Command::Subscribe { .. } => "subscribe",
            Command::Unsubscribe { .. } => "unsubscribe",
            Command::Next { .. } => "next",
            Command::Acknowledge { .. } => "acknowledge",
            Command::Status => "status",
            Command::Again => "again",
            Command::Pause { .. } => "pause",
        }
    }
}

/// All commands; None: not understood, or none at all.
pub fn read<'a>(words: &[&'a [u8]]) -> Option<Vec<Command<'a>>> {
    words.split(|word| *word == b",").map(read_one).collect()
}

fn read_one<'a>(words: &[&'a [u8]]) -> Option<Command<'a>> {
    Some(match *words {
        [b"set", name, text] => Command::Set { name, value: value::read(text)?, expected: 0 },
        [b"set", name, text, condition] => {
            Command::Set { name, value: value::read(text)?, expected: version(condition)? }
        }
        [b"get", name] => Command::Get { name },
        [b"list"] => Command::List { prefix: b"" },
        [b"list", prefix] => Command::List { prefix },
        [b"delete", name] => Command::Delete { name, expected: 0 },
        [b"delete", name, condition] => Command::Delete { name, expected: version(condition)? },
        [b"watch", prefix] => Command::Watch { prefix, count: u64::MAX },
        [b"watch", prefix, count] => Command::Watch { prefix, count: number(count.strip_prefix(b"count=")?)? },
        [b"subscribe", n, prefix] => Command::Subscribe { subscription: small(n)?, prefix, anew: false },
        [b"subscribe", n, prefix, b"anew"] => Command::Subscribe { subscription: small(n)?, prefix, anew: true },
        [b"unsubscribe", n] => Command::Unsubscribe { subscription: small(n)? },
        [b"next", n, after] => Command::Next { subscription: small(n)?, after: number(after)? },
        [b"acknowledge", n, text] => Command::Acknowledge { subscription: small(n)?, number: number(text)? },
        [b"status"] => Command::Status,
        [b"again"] => Command::Again,
        [b"pause", ms] => Command::Pause { ms: number(ms)? },
        _ => return None,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn small(text: &[u8]) -> Option<u32> {
    u32::try_from(number(text)?).ok()
}

fn version(condition: &[u8]) -> Option<u64> {
    match condition.strip_prefix(b"if=")? {
        b"absent" => Some(ABSENT),
        text => number(text),
    }
}
