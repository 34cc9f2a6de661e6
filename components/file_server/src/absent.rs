//! fs@1 without a disk, or without a sound image on it: every request is answered, with `io`.

use protocols::fs;
use rt::time::ticks;
use rt::{Answer, Call, ClientId, Error, ServerPort};

struct Absent;

/// Serve errors until `end`, in ticks, or for ever.
pub fn serve(port: &mut ServerPort, end: Option<u64>) {
    while end.map_or(true, |end| ticks() < end) {
        fs::serve(port, &mut Absent);
        rt::wait(&mut [&mut *port], end);
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
