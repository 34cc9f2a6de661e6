//! Takes requests and never answers, without using the CPU. It is not hung; its clients' deadlines pass.

#![no_std]
#![no_main]

rt::component! { fresh: keep_silent, restart: keep_silent, update: keep_silent }

fn keep_silent() {
    rt::ready();
    loop {
        rt::hypercall::wait(None);
    }
}
