//! fs@1 without a disk: its driver was given up. Every request is answered, with `io`, for good.

use protocols::fs;
use rt::{Answer, Call, ClientId, Error, ServerPort};

struct Absent;

/// Serve errors for ever.
pub fn serve(port: &mut ServerPort) {
    loop {
        fs::serve(port, &mut Absent);
        rt::wait(&mut [&mut *port], None);
    }
}

impl fs::Server for Absent {
    fn open(&mut self, _call: &mut Call<'_>, _args: fs::OpenArgs) -> Answer<fs::OpenReturns> {
        Answer::Failed(Error::IO)
    }

    fn close(&mut self, _call: &mut Call<'_>, _args: fs::CloseArgs) -> Answer<()> {
        Answer::Done(())
    }

    fn read(&mut self, _call: &mut Call<'_>, _args: fs::ReadArgs) -> Answer<fs::ReadReturns> {
        Answer::Failed(Error::IO)
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

    fn session_ended(&mut self, _client: ClientId) {}
}
