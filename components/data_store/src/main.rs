//! The data store: serves store@1. Names with typed values, and what has changed. See README.md.

#![no_std]
#![no_main]

mod contents;
mod names;
mod requests;

use contents::Contents;
use protocols::store;
use requests::Store;
use rt::{state, ServerPort};

rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    let (contents, _) = state::open::<Contents>("contents"); // what is lost is in the log
    let mut store = Store::new(contents);
    let mut port = ServerPort::open(&store::PROTOCOL, "store");
    rt::ready();
    loop {
        store::serve(&mut port, &mut store);
        store.forget_the_gone(&port);
        store.tell(&mut port);
        rt::wait(&mut [&mut port], None);
    }
}
