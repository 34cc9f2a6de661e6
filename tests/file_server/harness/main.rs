//! The file server's own modules on the host, over a simulated disk.
//!
//! `harness serve IMAGE FRAMES SEED` takes requests as lines on standard input (see serve.rs);
//! `harness fuzz IMAGE COUNT SEED [ONLY FILE]` mutates an image COUNT times (see fuzz.rs).

extern crate alloc;

/// Here nobody dies on purpose.
macro_rules! kill_point {
    ($name:literal) => {};
}
pub(crate) use kill_point;

#[path = "../../../components/file_server/src/blocks.rs"]
mod blocks;
#[path = "../../../components/file_server/src/cache.rs"]
mod cache;
#[path = "../../../components/file_server/src/clients.rs"]
mod clients;
#[path = "../../../components/file_server/src/crc32c.rs"]
mod crc32c;
#[path = "../../../components/file_server/src/directory.rs"]
mod directory;
#[path = "../../../components/file_server/src/erofs.rs"]
mod erofs;
#[path = "../../../components/file_server/src/mount.rs"]
mod mount;
#[path = "../../../components/file_server/src/read_ahead.rs"]
mod read_ahead;
#[path = "../../../components/file_server/src/records.rs"]
mod records;
#[path = "../../../components/file_server/src/seal.rs"]
mod seal;
#[path = "../../../components/file_server/src/service.rs"]
mod service;
#[path = "../../../components/file_server/src/steps.rs"]
mod steps;
#[path = "../../../components/file_server/src/walk.rs"]
mod walk;

mod disk;
mod fuzz;
mod serve;
mod world;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok()).expect("a number");
    match arguments.get(1).map(String::as_str) {
        Some("serve") => serve::serve(&arguments[2], number(3) as usize, number(4)),
        Some("fuzz") => {
            let only = arguments.get(5).map(|_| (number(5), arguments[6].clone()));
            fuzz::fuzz(&arguments[2], number(3), number(4), only)
        }
        _ => panic!("harness serve IMAGE FRAMES SEED | harness fuzz IMAGE COUNT SEED [ONLY FILE]"),
    }
}
