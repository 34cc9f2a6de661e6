//! The file server: serves fs@1 from an EROFS image on a disk. See README.md.

#![no_std]
#![no_main]

extern crate alloc;

mod absent;
mod blocks;
mod cache;
mod clients;
mod crc32c;
mod directory;
mod disk;
mod erofs;
mod mount;
mod read_ahead;
mod records;
mod requests;
mod seal;
mod service;
mod steps;
mod walk;

use cache::{Cache, EXTENT, TABLE_FRAMES};
use crc32c::Checksum;
use disk::BlockDevice;
use protocols::fs;
use requests::Files;
pub(crate) use rt::kill_point;
use rt::{abi, info, log, ServerPort};
use service::Service;

// It keeps nothing that outlives it: clients open their files again and send again what was not answered.
rt::component! { fresh: serve, restart: serve, update: serve }

/// Heap that is not cache: walks (0.4 MiB), paths of 512 requests (2.5 MiB), handles, rings' records.
const HEAP_RESERVE: usize = 4 << 20;
/// Cache extents below which the service would thrash, and above which searching them costs.
const FRAMES_MIN: usize = 8;
const FRAMES_MAX: usize = 1024;
const SECTOR: u64 = 512;

fn serve() {
    let mut disk = BlockDevice::open("blk");
    let mounted = start(&mut disk);
    let mut port = ServerPort::open(&fs::PROTOCOL, "fs");
    rt::ready();
    if let Some(service) = mounted {
        serve_files(Files { service }, &mut disk, &mut port);
    }
    log!(error, "the disk has no driver any more: every request fails");
    absent::serve(&mut port);
}

/// Until the disk is gone for good.
fn serve_files(mut files: Files, disk: &mut BlockDevice, port: &mut ServerPort) {
    loop {
        fs::serve(port, &mut files);
        while let Some((buffer, outcome)) = disk.ended() {
            files.service.disk_completed(buffer, outcome, disk);
        }
        files.run(disk, port);
        if disk.client.is_gone() {
            return files.give_up(port);
        }
        let replies = replies_worth_waking(disk.in_flight(), files.service.under_way());
        disk.client.wake_after(replies);
        rt::wait(&mut [&mut *port, &mut *disk.client], None);
    }
}

/// With nobody waiting, reads ahead may all end first; else half of them, so that a stream costs a
/// wake-up per many extents. (A driver with nothing left to do rings anyway.)
fn replies_worth_waking(in_flight: usize, requests: usize) -> u32 {
    if requests == 0 {
        in_flight as u32
    } else {
        (in_flight / 2) as u32
    }
}

/// Mount the image; None if the disk is gone for good. A disk without a sound image is a reason to panic: the
/// message says what is wrong with it.
fn start(disk: &mut BlockDevice) -> Option<Service<rt::Ticket>> {
    let checksum = Checksum::new(false);
    let bytes = match disk.client.info() {
        Ok(disk) => disk.sectors * SECTOR,
        Err(_) if disk.client.is_gone() => return None,
        Err(error) => panic!("the disk driver does not tell the size of the disk: {}", error),
    };
    let mut mount = || mount::mount(bytes, &checksum, &mut |position, into| disk.read_now(position, into));
    // As with every block: what looks wrong is read once more before it is believed.
    let mounted = match mount().or_else(|_| mount()) {
        Ok(mounted) => mounted,
        Err(_) if disk.client.is_gone() => return None,
        Err(sentence) => panic!("the disk image: {}; build it with `r3s3 image build`", sentence),
    };
    let (_, heap) = info::heap();
    let cache_bytes = heap.saturating_sub(HEAP_RESERVE + 4 * mounted.roots.len());
    let frames = (cache_bytes / EXTENT).saturating_sub(TABLE_FRAMES).min(FRAMES_MAX);
    assert!(frames >= FRAMES_MIN, "too little memory for {} cache extents: raise [vm] memory", FRAMES_MIN);
    log!(info, "{} MiB in {} files, cache {} KiB", bytes >> 20, mounted.volume.inodes, frames * EXTENT >> 10);
    let cache = Cache::new(mounted.seal, mounted.roots, checksum, frames, disk.buffers());
    Some(Service::new(mounted.volume, cache, abi::CHANNELS, 512))
}
