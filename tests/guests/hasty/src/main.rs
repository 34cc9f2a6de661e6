//! A version that nobody wanted: says that it is ready, and panics.

#![no_std]
#![no_main]

rt::component! { fresh: fail, restart: fail, update: fail }

fn fail() {
    rt::ready();
    panic!("this version does not work");
}
