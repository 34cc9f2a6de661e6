//! Says for the second time that its initialisation is over. Its successor does not.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use hostile_server::serve;

rt::component! { fresh: begin, restart: serve, update: serve }

fn begin() {
    rt::ready();
    serve()
}
