//! The edu driver: serves edu@1 with QEMU's device for teaching. See README.md.

#![no_std]
#![no_main]

mod device;
mod service;

use protocols::edu;
use rt::ServerPort;
use service::Service;

// Nothing of it outlives it: the device is set up anew, and clients repeat what may be repeated.
rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    let mut port = ServerPort::open(&edu::PROTOCOL, "edu");
    let mut service = Service::new(device::Edu::new(rt::Device::claim().registers));
    rt::ready();
    loop {
        edu::serve(&mut port, &mut service);
        rt::wait(&mut [&mut port], None);
    }
}
