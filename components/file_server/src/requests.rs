//! fs@1: requests of clients go to the service, its answers go back.

use crate::cache::Disk;
use crate::records;
use crate::service::{Answer, Clients, Purpose, Report, Service};
use protocols::fs;
use rt::{kill_point, log, Call, ClientId, Error, ServerPort, Ticket};

/// The service as the protocol's server.
pub struct Files {
    pub service: Service<Ticket>,
}

/// The port as the service sees it.
struct Port<'a>(&'a mut ServerPort);

impl Clients for Port<'_> {
    type Ticket = Ticket;

    fn write(&mut self, ticket: Ticket, offset: usize, bytes: &[u8]) {
        // Stale where the client has died meanwhile: nobody waits for the bytes.
        let _ = self.0.data(ticket).and_then(|data| data.copy_in(offset, bytes));
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        kill_point!("files.before_reply");
        let port = &mut *self.0;
        match answer {
            Answer::Opened { size, mode, inode, kind } => {
                let returns = fs::OpenReturns { size, inode, mode, kind: u32::from(kind) };
                fs::answer_open(port, ticket, rt::Answer::Done(returns))
            }
            Answer::Read { bytes } => {
                fs::answer_read(port, ticket, rt::Answer::Data(fs::ReadReturns { bytes }, bytes))
            }
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
                let subtree = core::str::from_utf8(self.0.parameter(id)).unwrap_or("?");
                log!(error, "{} may see {} only, which is no directory here: {:?}", self.0.peer(id), subtree, failure)
            }
        }
    }
}

impl Files {
    /// Go on with requests whose blocks have come.
    pub fn run(&mut self, disk: &mut dyn Disk, port: &mut ServerPort) {
        self.service.run(disk, &mut Port(port));
    }

    /// There will be no disk any more: whatever is under way fails.
    pub fn give_up(&mut self, port: &mut ServerPort) {
        self.service.give_up(&mut Port(port));
    }

    /// A request that names a path.
    fn path<R>(&mut self, call: &mut Call<'_>, purpose: Purpose) -> rt::Answer<R> {
        let (client, ticket, path) = (self.client(call), call.ticket(), call.input());
        self.service.path(client, ticket, purpose, &path, &mut Port(call.port()));
        rt::Answer::Later // answered there, now or in time
    }

    /// The number of a call's client, made known at its first call.
    fn client(&mut self, call: &Call<'_>) -> usize {
        let client = call.client().0 as usize;
        self.service.session(client, call.parameter());
        client
    }
}

impl fs::Server for Files {
    fn open(&mut self, call: &mut Call<'_>, args: fs::OpenArgs) -> rt::Answer<fs::OpenReturns> {
        let follow = args.flags & fs::OPEN_NO_FOLLOW == 0;
        let directory = args.flags & fs::OPEN_DIRECTORY != 0;
        self.path(call, Purpose::Open { handle: args.handle, follow, directory })
    }

    fn close(&mut self, call: &mut Call<'_>, args: fs::CloseArgs) -> rt::Answer<()> {
        let client = self.client(call);
        match self.service.close(client, args.handle) {
            Ok(()) => rt::Answer::Done(()),
            Err(failure) => rt::Answer::Failed(Error::from_number(failure.code())),
        }
    }

    fn read(&mut self, call: &mut Call<'_>, args: fs::ReadArgs) -> rt::Answer<fs::ReadReturns> {
        let bytes = match call.output() {
            Ok(output) => output.len().min(args.bytes as usize),
            Err(error) => return rt::Answer::Failed(error),
        };
        let (client, ticket) = (self.client(call), call.ticket());
        self.service.read(client, ticket, args.handle, args.offset, bytes, &mut Port(call.port()));
        rt::Answer::Later
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
        self.service.entries(client, ticket, args.handle, args.cookie, capacity, &mut Port(call.port()));
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

    fn session_ended(&mut self, client: ClientId) {
        self.service.session_ended(client.0 as usize);
    }
}
