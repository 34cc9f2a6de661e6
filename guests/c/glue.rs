//! The runtime's face to C: the functions of r3s3.h that crate rt does not export itself. It is the root of every
//! component in C; the component's objects are linked to it.

#![no_std]
#![no_main]

use core::mem::transmute;
use core::slice;
use rt::abi::RegionEntry;
use rt::alloc::boxed::Box;
use rt::info::{self, Region};
use rt::server::Event;
use rt::wait::Source;
use rt::{hypercall, log, Error, Level, Protocol, ServerPort, Shared, Ticket};

extern "C" {
    fn r3s3_fresh() -> !;
    fn r3s3_restart() -> !;
    fn r3s3_update() -> !;
}

rt::component! { fresh: fresh, restart: restart, update: update }

fn fresh() {
    // SAFETY: defined by the component, as the next two.
    unsafe { r3s3_fresh() }
}

fn restart() {
    // SAFETY: as above.
    unsafe { r3s3_restart() }
}

fn update() {
    // SAFETY: as above.
    unsafe { r3s3_update() }
}

/// The text at `at`, for ever: C passes literals. Not text: "?".
///
/// # Safety
/// `at` ends with a NUL.
unsafe fn text(at: *const u8) -> &'static str {
    core::str::from_utf8(slice::from_raw_parts(at, rt::mem::strlen(at))).unwrap_or("?")
}

fn status(result: Result<(), Error>) -> i32 {
    result.map_or_else(Error::number, |()| 0)
}

// -- the world

/// # Safety
/// As r3s3.h says, here and below: names end with a NUL, and pointers point to what they name.
#[no_mangle]
pub unsafe extern "C" fn r3s3_region(kind: u32, name: *const u8, entry: *mut RegionEntry) -> i32 {
    let name = if name.is_null() { None } else { Some(text(name)) };
    let found = |region: &Region| region.entry.kind == kind && name.map_or(true, |name| region.name() == name);
    let region = info::regions().find(found).ok_or(Error::NOENT);
    status(region.map(|region| *entry = region.entry))
}

#[no_mangle]
pub extern "C" fn r3s3_device_features() -> u64 {
    info::device_features()
}

#[no_mangle]
pub extern "C" fn r3s3_ready() {
    rt::ready();
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_log(level: u32, line: *const u8, number: u64) {
    let level = match level {
        rt::abi::LOG_LEVEL_ERROR => Level::Error,
        rt::abi::LOG_LEVEL_WARNING => Level::Warning,
        rt::abi::LOG_LEVEL_INFO => Level::Info,
        _ => Level::Debug,
    };
    log::write(level, format_args!("{} {}", text(line), number));
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_panic(line: *const u8) -> ! {
    hypercall::panic(text(line).as_bytes())
}

#[no_mangle]
pub extern "C" fn r3s3_doorbell(index: u32) {
    rt::telemetry::add(rt::telemetry::DOORBELLS, 1);
    hypercall::doorbell(index);
}

// -- a server

/// `struct r3s3_ticket`: what C does with it is to copy it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CTicket {
    client: u32,
    private: [u32; 3],
}

impl From<Ticket> for CTicket {
    fn from(ticket: Ticket) -> CTicket {
        // SAFETY: three words without padding, which only `ticket` below makes a Ticket again.
        CTicket { client: ticket.client().0, private: unsafe { transmute::<Ticket, [u32; 3]>(ticket) } }
    }
}

fn ticket(from: CTicket) -> Ticket {
    // SAFETY: any three words are a Ticket; one that names nothing is stale.
    unsafe { transmute::<[u32; 3], Ticket>(from.private) }
}

/// `struct r3s3_request`.
#[repr(C)]
pub struct CRequest {
    ticket: CTicket,
    op: u32,
    length: u32,
    args: [u64; 5],
}

const NOTHING: i32 = 0;
const REQUEST: i32 = 1;
const ENDED: i32 = 2;

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_serve(interface: *const u8, protocol: u32) -> *mut ServerPort {
    let interface = text(interface);
    let protocol = Protocol { name: interface, number: (protocol >> 16) as u16, version: protocol as u16 };
    Box::into_raw(Box::new(ServerPort::open(&protocol, interface)))
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_begin_round(port: *mut ServerPort) {
    (*port).begin_round();
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_next(port: *mut ServerPort, into: *mut CRequest) -> i32 {
    match (*port).next() {
        None => NOTHING,
        Some(Event::Ended(client)) => {
            (*into).ticket.client = client.0;
            ENDED
        }
        Some(Event::Request(request)) => {
            let ticket = request.ticket.into();
            *into = CRequest { ticket, op: u32::from(request.op), length: request.length, args: request.args };
            REQUEST
        }
    }
}

fn part(port: &ServerPort, of: CTicket, offset: usize, bytes: usize) -> Result<Shared, Error> {
    port.data(ticket(of))?.part(offset, bytes)
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_input(
    port: *mut ServerPort,
    of: CTicket,
    offset: usize,
    into: *mut u8,
    bytes: usize,
) -> i32 {
    let into = slice::from_raw_parts_mut(into, bytes);
    status(part(&*port, of, offset, bytes).and_then(|data| data.copy_out(0, into)))
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_output(
    port: *mut ServerPort,
    of: CTicket,
    offset: usize,
    from: *const u8,
    bytes: usize,
) -> i32 {
    let from = slice::from_raw_parts(from, bytes);
    status(part(&*port, of, offset, bytes).and_then(|data| data.copy_in(0, from)))
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_reply(
    port: *mut ServerPort,
    to: CTicket,
    status: i32,
    values: *const u8,
    size: usize,
    length: u32,
) {
    let mut args = [0; 5];
    if !values.is_null() {
        assert!(size <= core::mem::size_of_val(&args), "more than a slot's arguments");
        core::ptr::copy_nonoverlapping(values, args.as_mut_ptr().cast(), size);
    }
    let result = if status == 0 { Ok((args, length)) } else { Err(Error::from_number(status)) };
    // Stale: the client does not wait for it any more.
    let _ = (*port).reply(ticket(to), result);
}

// -- waiting

/// `struct r3s3_source`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CSource {
    this: *mut u8,
    ready: extern "C" fn(*mut u8) -> bool,
    announce_sleep: extern "C" fn(*mut u8),
    announce_awake: extern "C" fn(*mut u8),
}

impl Source for CSource {
    fn ready(&mut self) -> bool {
        (self.ready)(self.this)
    }

    fn announce_sleep(&mut self) {
        (self.announce_sleep)(self.this)
    }

    fn announce_awake(&mut self) {
        (self.announce_awake)(self.this)
    }
}

/// # Safety
/// See `r3s3_region`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_wait(port: *mut ServerPort, source: *const CSource) {
    let mut source = source.as_ref().copied();
    match (port.as_mut(), &mut source) {
        (Some(port), Some(source)) => rt::wait(&mut [port, source], None),
        (Some(port), None) => rt::wait(&mut [port], None),
        (None, Some(source)) => rt::wait(&mut [source], None),
        (None, None) => rt::wait(&mut [], None),
    };
}

// -- tests

/// # Safety
/// See `r3s3_region`.
#[cfg(kill_points)]
#[no_mangle]
pub unsafe extern "C" fn r3s3_kill_point(name: *const u8) {
    rt::kill_point::pass(rt::kill_point::number(text(name)));
}
