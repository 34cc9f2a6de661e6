//! fs@1: requests of clients go to the service, its answers go back.

use crate::blocks::Failure;
use crate::cache::Disk;
use crate::desk::Desk;
use crate::erofs::Inode;
use crate::records;
use crate::service::{Answer, Clients, Purpose, Report, Service};
use protocols::fs;
use rt::{kill_point, log, Call, ClientId, Error, ServerPort, Ticket};

/// The service as the protocol's server.
pub struct Files<'a> {
    pub service: Service<Ticket>,
    pub desk: &'a mut Desk,
}

/// The port as the service sees it.
struct Port<'a> {
    port: &'a mut ServerPort,
    desk: &'a mut Desk,
}

impl Clients for Port<'_> {
    type Ticket = Ticket;

    fn write(&mut self, ticket: Ticket, offset: usize, bytes: &[u8]) {
        // Stale where the client has died meanwhile: nobody waits for the bytes.
        let _ = self.port.data(ticket).and_then(|data| data.copy_in(offset, bytes));
    }

    fn opened(&mut self, ticket: Ticket, handle: u32, inode: &Inode) {
        let (mode, kind) = (u32::from(inode.mode), u32::from(inode.kind.number()));
        let returns = fs::OpenReturns { size: inode.size, inode: inode.number, mode, kind };
        self.desk.opened(ticket, handle, inode, returns.pack());
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        kill_point!("files.before_reply");
        let pending = self.desk.take(ticket);
        if let (Answer::Failed(failure), Some(pending)) = (answer, &pending) {
            self.desk.not_read(pending, Error::from_number(failure.code()));
        }
        let port = &mut *self.port;
        match answer {
            Answer::Opened { size, mode, inode, kind } => {
                let returns = fs::OpenReturns { size, inode, mode, kind: u32::from(kind) };
                fs::answer_open(port, ticket, rt::Answer::Done(returns))
            }
            Answer::Read { bytes } => match pending.and_then(|pending| pending.range) {
                Some((offset, _)) => {
                    let returns = fs::ReadNextReturns { bytes, reserved: 0, offset };
                    fs::answer_read_next(port, ticket, rt::Answer::Data(returns, bytes))
                }
                None => fs::answer_read(port, ticket, rt::Answer::Data(fs::ReadReturns { bytes }, bytes)),
            },
            Answer::Stat { bytes } => fs::answer_stat(port, ticket, rt::Answer::Data((), bytes)),
            Answer::Entries { bytes, end } => {
                let returns = fs::ReaddirReturns { bytes, end: u32::from(end) };
                fs::answer_readdir(port, ticket, rt::Answer::Data(returns, bytes))
            }
            Answer::Target { bytes } => {
                fs::answer_readlink(port, ticket, rt::Answer::Data(fs::ReadlinkReturns { bytes }, bytes))
            }
            Answer::Failed(failure) => port.answer(ticket, rt::Answer::Failed(Error::from_number(failure.code()))),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::BadBlock { block, failure } => {
                log!(error, "block {} of the disk: {:?}, twice; what needs it fails", block, failure)
            }
            Report::NoSubtree { client, failure } => {
                let id = ClientId(client as u32);
                let subtree = core::str::from_utf8(self.port.parameter(id)).unwrap_or("?");
                log!(error, "{} may see {} only, which is no directory here: {:?}", self.port.peer(id), subtree, failure)
            }
        }
    }
}

impl<'a> Files<'a> {
    /// With the files that were open when an instance before ended.
    pub fn new(mut service: Service<Ticket>, desk: &'a mut Desk, port: &ServerPort) -> Files<'a> {
        desk.sessions.is_of(service.volume().identity.rotate_left(32) ^ u64::from(service.cache.image()) ^ 1);
        for (client, number) in desk.clients() {
            service.session(client.0 as usize, port.parameter(client));
            for (handle, words) in desk.sessions.open_handles(number) {
                if let Some(inode) = Inode::from_words(&words) {
                    service.reopen(client.0 as usize, handle, inode);
                }
            }
        }
        Files { service, desk }
    }

    /// Go on with requests whose blocks have come, and with those whose locks are free.
    pub fn run(&mut self, disk: &mut dyn Disk, port: &mut ServerPort) {
        self.service.run(disk, &mut Port { port, desk: self.desk });
        self.desk.settle(port);
    }

    /// A new version is about to take over: it answers what is not answered yet, for clients send that again.
    pub fn rest(&mut self, port: &mut ServerPort) {
        for ticket in self.service.tickets() {
            let _ = port.park(ticket);
        }
    }

    /// There will be no disk any more: whatever is under way fails.
    pub fn give_up(&mut self, port: &mut ServerPort) {
        self.service.give_up(&mut Port { port, desk: self.desk });
    }

    /// A request that names a path.
    fn path<R>(&mut self, call: &mut Call<'_>, purpose: Purpose) -> rt::Answer<R> {
        let (client, ticket, path) = (self.client(call), call.ticket(), call.input());
        let mut port = Port { port: call.port(), desk: self.desk };
        self.service.path(client, ticket, purpose, &path, &mut port);
        rt::Answer::Later // answered there, now or in time
    }

    /// The number of a call's client, made known at its first call.
    fn client(&mut self, call: &Call<'_>) -> usize {
        let client = call.client().0 as usize;
        if self.desk.begin(call) {
            self.service.session_ended(client);
        }
        self.service.session(client, call.parameter());
        client
    }

    /// A handle that is not open may be one that was, before the state was lost.
    fn missing<R>(&self, call: &Call<'_>, failure: Failure) -> rt::Answer<R> {
        rt::Answer::Failed(match failure {
            Failure::BadHandle => self.desk.sessions.missing(call.id().client as usize),
            failure => Error::from_number(failure.code()),
        })
    }
}

impl fs::Server for Files<'_> {
    fn open(&mut self, call: &mut Call<'_>, args: fs::OpenArgs) -> rt::Answer<fs::OpenReturns> {
        let follow = args.flags & fs::OPEN_NO_FOLLOW == 0;
        let directory = args.flags & fs::OPEN_DIRECTORY != 0;
        self.client(call);
        if !self.desk.open(call, args.handle) {
            return rt::Answer::Done(fs::OpenReturns::default());
        }
        self.path(call, Purpose::Open { handle: args.handle, follow, directory })
    }

    fn close(&mut self, call: &mut Call<'_>, args: fs::CloseArgs) -> rt::Answer<()> {
        let client = self.client(call);
        let answer = self.desk.close(call, &args);
        if answer == rt::Answer::Done(()) {
            let _ = self.service.close(client, args.handle); // as open there as it was here
        }
        answer
    }

    fn read(&mut self, call: &mut Call<'_>, args: fs::ReadArgs) -> rt::Answer<fs::ReadReturns> {
        let bytes = match call.output() {
            Ok(output) => output.len().min(args.bytes as usize),
            Err(error) => return rt::Answer::Failed(error),
        };
        let (client, ticket) = (self.client(call), call.ticket());
        if let Err(failure) = self.service.file(client, args.handle) {
            return self.missing(call, failure);
        }
        let mut port = Port { port: call.port(), desk: self.desk };
        self.service.read(client, ticket, args.handle, args.offset, bytes, &mut port);
        rt::Answer::Later
    }

    fn read_next(&mut self, call: &mut Call<'_>, args: fs::ReadNextArgs) -> rt::Answer<fs::ReadNextReturns> {
        let room = call.output().map_or(0, |output| output.len());
        let (client, ticket) = (self.client(call), call.ticket());
        let size = match self.service.file(client, args.handle) {
            Ok(inode) => inode.size,
            Err(failure) => return self.missing(call, failure),
        };
        let (from, to) = match self.desk.read_next(call, &args, size, room) {
            Ok(range) => range,
            Err(error) => return rt::Answer::Failed(error),
        };
        let mut port = Port { port: call.port(), desk: self.desk };
        self.service.read(client, ticket, args.handle, from, (to - from) as usize, &mut port);
        rt::Answer::Later
    }

    fn seek(&mut self, call: &mut Call<'_>, args: fs::SeekArgs) -> rt::Answer<fs::SeekReturns> {
        let client = self.client(call);
        match self.service.file(client, args.handle) {
            Ok(inode) => self.desk.seek(call, &args, inode.size),
            Err(Failure::IsDirectory) => rt::Answer::Failed(Error::INVAL),
            Err(failure) => self.missing(call, failure),
        }
    }

    fn lock(&mut self, call: &mut Call<'_>, args: fs::LockArgs) -> rt::Answer<()> {
        self.client(call);
        self.desk.lock(call, &args)
    }

    fn unlock(&mut self, call: &mut Call<'_>, args: fs::UnlockArgs) -> rt::Answer<()> {
        self.client(call);
        self.desk.unlock(call, &args)
    }

    fn stat(&mut self, call: &mut Call<'_>, args: fs::StatArgs) -> rt::Answer<()> {
        match call.output() {
            Ok(output) if output.len() >= records::STAT => {}
            _ => return rt::Answer::Failed(Error::INVAL),
        }
        self.path(call, Purpose::Stat { follow: args.flags & fs::STAT_NO_FOLLOW == 0 })
    }

    fn readdir(&mut self, call: &mut Call<'_>, args: fs::ReaddirArgs) -> rt::Answer<fs::ReaddirReturns> {
        let capacity = call.output().map_or(0, |output| output.len());
        let (client, ticket) = (self.client(call), call.ticket());
        if let Err(failure @ Failure::BadHandle) = self.service.file(client, args.handle) {
            return self.missing(call, failure);
        }
        let mut port = Port { port: call.port(), desk: self.desk };
        self.service.entries(client, ticket, args.handle, args.cookie, capacity, &mut port);
        rt::Answer::Later
    }

    fn readlink(&mut self, call: &mut Call<'_>) -> rt::Answer<fs::ReadlinkReturns> {
        let capacity = call.output().map_or(0, |output| output.len());
        self.path(call, Purpose::ReadLink { capacity })
    }

    fn statfs(&mut self, _call: &mut Call<'_>) -> rt::Answer<fs::StatfsReturns> {
        let volume = self.service.volume();
        rt::Answer::Done(fs::StatfsReturns {
            blocks: volume.blocks,
            inodes: volume.inodes,
            block_bytes: crate::blocks::BLOCK as u32,
            name_max: crate::directory::NAME_MAX as u32,
        })
    }

    fn answered(&mut self, call: &Call<'_>) -> Option<rt::Answer<[u64; 5]>> {
        self.desk.answered(call)
    }

    fn session_ended(&mut self, client: ClientId) {
        self.desk.session_ended(client);
        self.service.session_ended(client.0 as usize);
    }
}
