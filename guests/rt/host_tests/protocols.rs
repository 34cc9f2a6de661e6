//! Generated code: a client, a server and the records between them.

use crate::world::World;
use protocols::{blk, fs, supervise};
use rt::abi::{self, ChannelEntry};
use rt::{fake, Answer, Call, ClientId, Error, ServerPort, Ticket};

/// A world whose channel speaks `protocol`.
fn world(protocol: &rt::Protocol) -> World {
    let number = u32::from(protocol.number) << 16 | u32::from(protocol.version);
    World::with(4, |entry| *entry = ChannelEntry { protocol: number, operations: !0, ..*entry })
}

#[derive(Default)]
struct Files {
    later: Vec<Ticket>,
    ended: Vec<ClientId>,
}

impl fs::Server for Files {
    fn open(&mut self, call: &mut Call<'_>, args: fs::OpenArgs) -> Answer<fs::OpenReturns> {
        let path = call.input();
        let values = fs::OpenReturns { size: path.len() as u64, inode: 1 << 40, mode: 0o100_644, kind: args.handle };
        Answer::Done(values)
    }

    fn read(&mut self, call: &mut Call<'_>, args: fs::ReadArgs) -> Answer<fs::ReadReturns> {
        if args.offset > 0 {
            self.later.push(call.ticket());
            return Answer::Later;
        }
        call.output().unwrap().copy_in(0, b"content").unwrap();
        Answer::Data(fs::ReadReturns { bytes: 7 }, 7)
    }

    fn answered(&mut self, _call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        None
    }

    fn session_ended(&mut self, client: ClientId) {
        self.ended.push(client);
    }
}

#[test]
fn typed_requests_reach_the_service_and_return() {
    let world = world(&fs::PROTOCOL);
    let mut client = fs::Client::connect("test").unwrap();
    let mut port = ServerPort::open(&fs::PROTOCOL, "test");
    let mut files = Files::default();
    let tags = [
        client.submit_open(&fs::OpenArgs { handle: 5, flags: 0 }, b"/etc/passwd").unwrap(),
        client.submit_read(&fs::ReadArgs { offset: 0, handle: 5, bytes: 100 }).unwrap(),
        client.submit_read(&fs::ReadArgs { offset: 9, handle: 5, bytes: 100 }).unwrap(),
        client.submit_statfs().unwrap(),
    ];
    assert_eq!(fs::serve(&mut port, &mut files), 4);
    let done = client.poll_for(tags[0]).unwrap();
    let opened = fs::OpenReturns::unpack(&done.result.unwrap().args);
    assert_eq!(opened, fs::OpenReturns { size: 11, inode: 1 << 40, mode: 0o100_644, kind: 5 });
    client.release(done);
    let done = client.poll_for(tags[1]).unwrap();
    let mut bytes = [0; 7];
    client.copy_out(&done, 0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"content");
    client.release(done);
    let done = client.poll_for(tags[3]).unwrap();
    assert_eq!(done.result, Err(Error::NOSYS));
    client.release(done);
    assert_eq!(client.poll(), None);
    fs::answer_read(&mut port, files.later[0], Answer::Failed(Error::CORRUPT));
    fs::answer_read(&mut port, files.later[0], Answer::Failed(Error::IO));
    let done = client.poll().unwrap();
    assert_eq!((done.tag, done.result), (tags[2], Err(Error::CORRUPT)));
    client.release(done);
    world.client_dies();
    fs::serve(&mut port, &mut files);
    assert_eq!(files.ended.len(), 1);
}

#[test]
fn a_service_never_sees_more_input_than_its_operation_takes() {
    let world = world(&fs::PROTOCOL);
    let mut port = ServerPort::open(&fs::PROTOCOL, "test");
    let slot = abi::Slot { op: 1, tag: 0x100, epoch: 1, length: 4096, ..abi::Slot::default() };
    rt::ring::ClientRing::new(world.raw(), 4).publish(&slot);
    fs::serve(&mut port, &mut Files::default());
    let status = world.raw().load_u32(world.replies_at() + abi::Slot::OFFSET_STATUS);
    assert_eq!(status as i32, Error::TOOBIG.number());
}

#[test]
fn values_are_packed_in_order_and_aligned() {
    let args = blk::ReadArgs { sector: 1, pool_offset: 2, bytes: 3 };
    assert_eq!(args.pack(), [1, 2, 3, 0, 0]);
    let args = supervise::FaultArgs { component: 1, kind: 2, epoch: 3, reserved: 0, now_ns: 5 };
    assert_eq!(args.pack(), [1 | 2 << 32, 3, 5, 0, 0]);
    assert_eq!(supervise::FaultArgs::unpack(&args.pack()), args);
    let all = supervise::FaultArgs::unpack(&[u64::MAX; 5]);
    assert_eq!((all.kind, all.now_ns), (u32::MAX, u64::MAX));
}

#[test]
fn records_have_fixed_places() {
    let stat = fs::StatRecord { mode: 0x1234, size: u64::MAX, modified_s: -2, kind: 8, ..Default::default() };
    let bytes = stat.pack();
    assert_eq!(bytes.len(), 80);
    assert_eq!((bytes[0], bytes[1], bytes[60]), (0x34, 0x12, 8));
    assert_eq!(&bytes[32..40], &(-2i64).to_le_bytes());
    assert_eq!(fs::StatRecord::unpack(&bytes), Some(stat));
    assert_eq!(fs::StatRecord::unpack(&bytes[..79]), None);
    assert_eq!(fs::EntryRecord::SIZE, 20);
    let entry = fs::EntryRecord { next_cookie: 1, inode: 2, kind: 3, reserved: 0, name_length: 0x0405 };
    assert_eq!(entry.pack()[16..], [3, 0, 5, 4]);
}

#[test]
fn sticky_and_ending_operations_share_their_key() {
    fake::reset();
    assert!(fs::OPEN.sticky && fs::OPEN.exactly_once);
    assert_eq!(fs::CLOSE.ends, Some(fs::OPEN.id));
    assert_eq!((fs::OPEN.key_mask, fs::CLOSE.key_mask), (0xffff_ffff, 0xffff_ffff));
}
