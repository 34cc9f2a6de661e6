//! The disk driver: serves blk@1 with a virtio block device. See README.md.

#![no_std]
#![no_main]

mod attach;
mod config;
mod geometry;
mod queue;
mod requests;
mod work;

// It keeps nothing that outlives it: its virtqueues are new and empty, the device is reset, and its clients
// send again what was not answered. So a restart is a fresh start.
rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    attach::attach().serve(|_| ())
}
