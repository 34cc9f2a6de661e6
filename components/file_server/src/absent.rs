//! fs@1 without a disk, or without a sound image on it: what needs the disk is answered with `io`.

use crate::desk::Desk;
use protocols::fs;
use rt::time::ticks;
use rt::{Answer, Call, ClientId, Error, ServerPort};

struct Absent<'a> {
    desk: &'a mut Desk,
}

/// Serve errors until `end`, in ticks, or for ever.
pub fn serve(port: &mut ServerPort, desk: &mut Desk, end: Option<u64>) {
    while end.map_or(true, |end| ticks() < end) {
        fs::serve(port, &mut Absent { desk });
        desk.settle(port);
        rt::wait(&mut [&mut *port], end.into_iter().chain(desk.deadline()).min());
    }
}

impl fs::Server for Absent<'_> {
    fn open(&mut self, _call: &mut Call<'_>, _args: fs::OpenArgs) -> Answer<fs::OpenReturns> {
        Answer::Failed(Error::IO)
    }

    fn close(&mut self, call: &mut Call<'_>, args: fs::CloseArgs) -> Answer<()> {
        self.desk.begin(call);
        self.desk.close(call, &args)
    }

    fn read(&mut self, _call: &mut Call<'_>, _args: fs::ReadArgs) -> Answer<fs::ReadReturns> {
        Answer::Failed(Error::IO)
    }

    fn read_next(&mut self, _call: &mut Call<'_>, _args: fs::ReadNextArgs) -> Answer<fs::ReadNextReturns> {
        Answer::Failed(Error::IO)
    }

    fn seek(&mut self, _call: &mut Call<'_>, _args: fs::SeekArgs) -> Answer<fs::SeekReturns> {
        Answer::Failed(Error::IO)
    }

    fn lock(&mut self, call: &mut Call<'_>, args: fs::LockArgs) -> Answer<()> {
        self.desk.begin(call);
        self.desk.lock(call, &args)
    }

    fn unlock(&mut self, call: &mut Call<'_>, args: fs::UnlockArgs) -> Answer<()> {
        self.desk.begin(call);
        self.desk.unlock(call, &args)
    }

    fn stat(&mut self, _call: &mut Call<'_>, _args: fs::StatArgs) -> Answer<()> {
        Answer::Failed(Error::IO)
    }

    fn readdir(&mut self, _call: &mut Call<'_>, _args: fs::ReaddirArgs) -> Answer<fs::ReaddirReturns> {
        Answer::Failed(Error::IO)
    }

    fn readlink(&mut self, _call: &mut Call<'_>) -> Answer<fs::ReadlinkReturns> {
        Answer::Failed(Error::IO)
    }

    fn statfs(&mut self, _call: &mut Call<'_>) -> Answer<fs::StatfsReturns> {
        Answer::Failed(Error::IO)
    }

    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.desk.answered(call)
    }

    fn session_ended(&mut self, client: ClientId) {
        self.desk.session_ended(client);
    }
}
