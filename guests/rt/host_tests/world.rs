//! A client and a server in one thread, over heap memory: what the tests of channels have in common.
//!
//! Channel 0 is the client's end, channel 1 the server's, of the same rings. `World::handler` plays the
//! hypervisor: a `reconnect` of either end clears the rings and opens that end in the present epoch.

use rt::abi::{self, ChannelEntry, RegionEntry};
use rt::fake;
use rt::{Client, Operation, Protocol, ServerPort};
use std::cell::RefCell;
use std::rc::Rc;

pub const PROTOCOL: Protocol = Protocol { name: "test", number: 77, version: 3 };
pub const SLOT_DATA: u32 = 4096;
pub const CLIENT: u32 = 0;
pub const SERVER: u32 = 1;

const fn operation(id: u16, name: &'static str) -> Operation {
    Operation {
        id,
        name,
        idempotent: true,
        exactly_once: false,
        sticky: false,
        ends: None,
        key_mask: 0,
        input_max: usize::MAX,
        output_max: usize::MAX,
    }
}

pub static READ: Operation = operation(1, "read");
/// May not be repeated.
pub static SEND: Operation = Operation { idempotent: false, ..operation(2, "send") };
pub static OPEN: Operation = Operation { sticky: true, key_mask: 0xffff_ffff, ..operation(3, "open") };
/// Its server remembers it.
pub static OPEN_ONCE: Operation = Operation { idempotent: false, exactly_once: true, ..OPEN };
pub static CLOSE: Operation = Operation { ends: Some(3), key_mask: 0xffff_ffff, ..operation(4, "close") };
/// Not allowed on the channel.
pub static FORBIDDEN: Operation = operation(5, "forbidden");

const ALLOWED: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;

/// What the hypervisor was asked to do: (hypercall, first argument, second argument).
pub type Calls = Rc<RefCell<Vec<(u64, u64, u64)>>>;

pub struct World {
    /// The rings, page aligned within; never resized.
    memory: Vec<u64>,
    pub slots: u32,
    pub calls: Calls,
    pub epoch: Rc<RefCell<u32>>,
}

impl World {
    pub fn new(slots: u32) -> World {
        World::with(slots, |_| {})
    }

    /// `change` adjusts both ends' entries before anybody looks at them.
    pub fn with(slots: u32, change: impl Fn(&mut ChannelEntry)) -> World {
        fake::reset();
        let size = 4096 + data_offset(slots) as usize + (slots * SLOT_DATA) as usize;
        let world = World {
            memory: vec![0; size / 8],
            slots,
            calls: Rc::default(),
            epoch: Rc::new(RefCell::new(1)),
        };
        for (index, role) in [(CLIENT, abi::ROLE_CLIENT), (SERVER, abi::ROLE_SERVER)] {
            let mut entry = ChannelEntry {
                role,
                slots,
                address: world.base() as u64,
                size: u64::from(data_offset(slots) + slots * SLOT_DATA),
                data_offset: data_offset(slots),
                slot_data: SLOT_DATA,
                epoch: 1,
                doorbell: index,
                deadline_ms: 500,
                operations: ALLOWED,
                protocol: u32::from(PROTOCOL.number) << 16 | u32::from(PROTOCOL.version),
                ..ChannelEntry::default()
            };
            entry.name[..4].copy_from_slice(b"test");
            entry.peer[..4].copy_from_slice(b"peer");
            change(&mut entry);
            fake::set_channel(index, entry);
            fake::set_status(index, abi::CHANNEL_STATE_OPEN, 1);
        }
        world.serve_hypercalls();
        world
    }

    fn base(&self) -> usize {
        (self.memory.as_ptr() as usize + 4095) & !4095
    }

    /// Plays the hypervisor again after a test has played it itself.
    pub fn serve_again(&self) {
        self.serve_hypercalls();
    }

    fn serve_hypercalls(&self) {
        let (calls, epoch) = (Rc::clone(&self.calls), Rc::clone(&self.epoch));
        let (base, words) = (self.base(), (data_offset(self.slots) + self.slots * SLOT_DATA) as usize / 8);
        fake::set_handler(Box::new(move |number, arguments| {
            calls.borrow_mut().push((number, arguments[0], arguments[1]));
            if number == abi::HYPERCALL_WAIT {
                // Sleeping is time passing.
                fake::advance(if arguments[0] == u64::MAX { 1_000 } else { arguments[0] + 1 });
            }
            if number != abi::HYPERCALL_RECONNECT {
                return (0, 0);
            }
            let epoch = *epoch.borrow();
            for word in 0..words {
                // SAFETY: the world's memory, which outlives the client and server over it.
                unsafe { (base as *mut u64).add(word).write_volatile(0) };
            }
            fake::set_status(arguments[0] as u32, abi::CHANNEL_STATE_OPEN, epoch);
            (0, u64::from(epoch))
        }));
    }

    pub fn client(&self) -> Client {
        Client::open(&PROTOCOL, "test").unwrap()
    }

    pub fn server(&self) -> ServerPort {
        ServerPort::open(&PROTOCOL, "test")
    }

    /// The server dies: its client is told.
    pub fn server_dies(&self) {
        fake::set_status(CLIENT, abi::CHANNEL_STATE_DEAD, *self.epoch.borrow());
    }

    /// A successor of the server begins; the client is offered new rings, but has not taken them yet.
    pub fn server_returns(&self) {
        self.next_epoch(SERVER, CLIENT);
    }

    pub fn client_dies(&self) {
        fake::set_status(SERVER, abi::CHANNEL_STATE_DEAD, *self.epoch.borrow());
    }

    pub fn client_returns(&self) {
        self.next_epoch(CLIENT, SERVER);
    }

    /// A new epoch, known to the new end; offered to its peer.
    fn next_epoch(&self, new: u32, peer: u32) {
        *self.epoch.borrow_mut() += 1;
        let epoch = *self.epoch.borrow();
        let entry = rt::info::channel(new).unwrap().entry;
        fake::set_channel(new, ChannelEntry { epoch, ..entry });
        fake::set_status(new, abi::CHANNEL_STATE_OPEN, epoch);
        fake::set_status(peer, abi::CHANNEL_STATE_REOPEN, epoch);
    }

    /// Gives the channel a pool, whose contents a reconnect takes away.
    pub fn add_pool(&self) {
        fake::set_region(0, RegionEntry { kind: abi::REGION_KIND_POOL, channel: CLIENT, ..RegionEntry::default() });
    }

    /// The rings' memory, for a peer that does what it likes.
    pub fn raw(&self) -> rt::Shared {
        let size = (data_offset(self.slots) + self.slots * SLOT_DATA) as usize;
        // SAFETY: the world's memory.
        unsafe { rt::Shared::new(self.base() as *mut u8, size) }
    }

    pub fn replies_at(&self) -> usize {
        abi::CHANNEL_REQUESTS + self.slots as usize * abi::Slot::SIZE
    }

    /// Complaints so far: (channel, reason).
    pub fn complaints(&self) -> Vec<(u64, u64)> {
        let calls = self.calls.borrow();
        calls.iter().filter(|call| call.0 == abi::HYPERCALL_COMPLAIN).map(|call| (call.1, call.2)).collect()
    }

    pub fn count(&self, hypercall: u64) -> usize {
        self.calls.borrow().iter().filter(|call| call.0 == hypercall).count()
    }
}

pub fn data_offset(slots: u32) -> u32 {
    (abi::CHANNEL_REQUESTS as u32 + 2 * slots * abi::Slot::SIZE as u32 + 4095) & !4095
}

/// Every request of one round, in order.
pub fn take_all(port: &mut ServerPort) -> Vec<rt::server::Request> {
    let mut requests = Vec::new();
    loop {
        port.begin_round();
        let before = requests.len();
        while let Some(event) = port.next() {
            if let rt::server::Event::Request(request) = event {
                requests.push(request);
            }
        }
        if requests.len() == before {
            return requests;
        }
    }
}

/// Answers a request with its own first argument and as many output bytes, each of that value.
pub fn echo(port: &mut ServerPort, request: &rt::server::Request, bytes: usize) {
    let value = request.args[0];
    port.data(request.ticket).unwrap().copy_in(0, &vec![value as u8; bytes]).unwrap();
    port.reply(request.ticket, Ok(([value, 0, 0, 0, 0], bytes as u32))).unwrap();
}

/// A small, fast generator: the same numbers on every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
