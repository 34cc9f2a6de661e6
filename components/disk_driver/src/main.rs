//! The disk driver: serves blk@1 with a virtio block device. See README.md.

#![no_std]
#![no_main]

mod geometry;
mod queue;
mod requests;

use protocols::blk;
use requests::Disk;
use rt::ServerPort;

// It keeps nothing that outlives it: its virtqueues are new and empty, the device is reset, and its clients
// send again what was not answered. So a restart is a fresh start.
rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    let mut disk = Disk::attach();
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    rt::ready();
    loop {
        blk::serve(&mut port, &mut disk);
        disk.collect(&mut port);
        disk.rings.kick();
        rt::wait(&mut [&mut port, &mut disk.rings], None);
    }
}
