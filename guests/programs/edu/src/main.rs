//! `edu`: asks the edu driver, and sees to it that what the device must not reach stays as it is.
//!
//!     edu factorial NUMBER       prints number! modulo 2^32
//!     edu copy                   a copy within the pool, by the device
//!     edu fill                   memory lent for one request
//!     edu outside read|write     the device is sent outside its windows
//!     edu closed                 ... to memory whose window has been closed
//!     edu revoked                ... to memory that has been taken back
//! After a crime of its driver it asks again, so that it ends only when there is a successor. Exit status 0: all
//! was as it should be; 1, and a line that says what was not; 2 for other arguments.

#![no_std]
#![no_main]

use core::fmt::Write;
use protocols::edu::{self, Client};
use rt::info::{self, RegionKind};
use rt::{abi, hypercall, Error, Output, Shared};

rt::program!(main);

const WORD: u64 = 0x0123_4567_89ab_cdef;
const BEFORE: u64 = 0x5555_5555_5555_5555;
/// Below everything that a device sees.
const OUTSIDE: u64 = 0x1234_5000;

/// What was not as it should be.
enum Problem {
    Usage,
    Failed(&'static str, Error),
    Wrong(&'static str, u64),
}

type Outcome = Result<(), Problem>;

fn main(arguments: rt::Args) -> i32 {
    let mut client = Client::connect("edu").expect("interface edu");
    let mut output = Output::default();
    let words = (arguments.get(1).unwrap_or(b""), arguments.get(2));
    let outcome = match words {
        (b"factorial", Some(number)) => factorial(&mut client, number, &mut output),
        (b"copy", None) => copy(&mut client),
        (b"fill", None) => fill(&mut client),
        (b"outside", Some(b"read")) => outside(&mut client, 0),
        (b"outside", Some(b"write")) => outside(&mut client, 1),
        (b"closed", None) => closed(&mut client),
        (b"revoked", None) => revoked(&mut client),
        _ => Err(Problem::Usage),
    };
    let (status, _) = match outcome {
        Ok(()) => (0, Ok(())),
        Err(Problem::Usage) => {
            (2, writeln!(output, "edu factorial NUMBER | copy | fill | outside read|write | closed | revoked"))
        }
        Err(Problem::Failed(what, error)) => (1, writeln!(output, "edu: {}: {:?}", what, error)),
        Err(Problem::Wrong(what, value)) => (1, writeln!(output, "edu: {}: {:#x}", what, value)),
    };
    status
}

/// Names what failed.
trait Said<T> {
    fn said(self, what: &'static str) -> Result<T, Problem>;
}

impl<T> Said<T> for Result<T, Error> {
    fn said(self, what: &'static str) -> Result<T, Problem> {
        self.map_err(|error| Problem::Failed(what, error))
    }
}

fn factorial(client: &mut Client, number: &[u8], output: &mut Output) -> Outcome {
    let number = core::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).ok_or(Problem::Usage)?;
    let identified = client.identify().said("identify")?;
    if identified.identification & 0xffff != 0xed {
        return Err(Problem::Wrong("not an edu device", u64::from(identified.identification)));
    }
    let done = client.factorial(&edu::FactorialArgs { number }).said("factorial")?;
    let _ = writeln!(output, "{}", done.value);
    Ok(())
}

/// Whatever became of the driver: there is one, and it works.
fn still_served(client: &mut Client) -> Outcome {
    match client.factorial(&edu::FactorialArgs { number: 5 }).said("factorial")?.value {
        120 => Ok(()),
        other => Err(Problem::Wrong("5! is", u64::from(other))),
    }
}

fn expect(memory: Shared, offset: usize, wanted: u64, what: &'static str) -> Outcome {
    match memory.load_u64(offset) {
        found if found == wanted => Ok(()),
        found => Err(Problem::Wrong(what, found)),
    }
}

fn copy(client: &mut Client) -> Outcome {
    let pool = info::pool_of(client.channel()).ok_or(Error::INVAL).and_then(|pool| pool.memory()).said("pool")?;
    for offset in (0..pool.len()).step_by(8) {
        pool.store_u64(offset, offset as u64);
    }
    let bytes = edu::COPY_MAX;
    client.copy(&edu::CopyArgs { source: 0x100, target: 0x1080, bytes }).said("copy")?;
    for offset in (0..pool.len()).step_by(8) {
        let copied = (0x1080..0x1080 + bytes as usize).contains(&offset);
        expect(pool, offset, if copied { offset - 0xf80 } else { offset } as u64, "the pool has")?;
    }
    match client.copy(&edu::CopyArgs { source: 0x1fff, target: 0, bytes }) {
        Err(error) if error == Error::RANGE => Ok(()),
        other => other.said("a copy beyond the pool").and(Err(Problem::Wrong("a copy beyond the pool", 0))),
    }
}

/// The memory to lend, and the grant.
fn lend(client: &Client) -> Result<(Shared, u64), Problem> {
    let page = info::region(RegionKind::GrantObject, None).ok_or(Error::INVAL).and_then(|page| page.memory()).said("page")?;
    page.store_u64(0, BEFORE);
    let grant = hypercall::grant(0, client.channel(), abi::GRANT_RIGHTS_WRITE as u32).said("grant")?;
    Ok((page, grant))
}

fn fill(client: &mut Client) -> Outcome {
    let (page, grant) = lend(client)?;
    client.fill(&edu::FillArgs { grant, word: WORD }).said("fill")?;
    expect(page, 0, WORD, "filled with")?;
    expect(page, 8, 0, "beside it")?;
    hypercall::revoke(grant).said("revoke")
}

/// A crime that its driver has died of.
fn punished(result: Result<(), Error>) -> Outcome {
    match result {
        Err(error) if error == Error::DEAD => Ok(()),
        Err(error) => Err(Problem::Failed("the crime", error)),
        Ok(()) => Err(Problem::Wrong("nobody has noticed", 0)),
    }
}

fn outside(client: &mut Client, direction: u32) -> Outcome {
    punished(client.outside(&edu::OutsideArgs { address: OUTSIDE, direction }))?;
    still_served(client)
}

fn closed(client: &mut Client) -> Outcome {
    let (page, grant) = lend(client)?;
    punished(client.fill_closed(&edu::FillClosedArgs { grant, word: WORD }))?;
    still_served(client)?;
    expect(page, 0, BEFORE, "after its window was closed the page has")
}

fn revoked(client: &mut Client) -> Outcome {
    let (page, grant) = lend(client)?;
    client.keep(&edu::KeepArgs { grant }).said("keep")?;
    client.fill_kept(&edu::FillKeptArgs { word: WORD }).said("fill_kept")?;
    expect(page, 0, WORD, "while lent the page has")?;
    hypercall::revoke(grant).said("revoke")?;
    page.store_u64(0, BEFORE);
    client.fill_kept(&edu::FillKeptArgs { word: WORD }).said("fill_kept, afterwards")?;
    still_served(client)?;
    expect(page, 0, BEFORE, "after it was taken back the page has")
}
