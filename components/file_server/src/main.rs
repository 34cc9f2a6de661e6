//! The file server: serves fs@1 from an EROFS image on a disk. See README.md.

#![no_std]
#![no_main]

extern crate alloc;

mod absent;
mod blocks;
mod cache;
mod clients;
mod crc32c;
mod desk;
mod directory;
mod disk;
mod erofs;
mod mount;
mod read_ahead;
mod records;
mod requests;
mod seal;
mod service;
mod sessions;
mod steps;
mod walk;

use cache::{Cache, EXTENT, TABLE_FRAMES};
use crc32c::Checksum;
use desk::Desk;
use disk::BlockDevice;
use mount::Mount;
use protocols::fs;
use requests::Files;
pub(crate) use rt::kill_point;
use rt::info::Start;
use rt::time::{ms_to_ticks, ticks};
use rt::{abi, info, log, ServerPort};
use service::Service;
use sessions::Sessions;

rt::component! { fresh: serve, restart: serve, update: updated }

/// Heap that is not cache: walks (0.4 MiB), paths of 512 requests (2.5 MiB), handles, rings' records.
const HEAP_RESERVE: usize = 4 << 20;
/// A cache below which the service would thrash, and above which searching it costs.
const CACHE_MIN: usize = 1 << 20;
const CACHE_MAX: usize = 128 << 20;
/// Reads taken in before their readers are answered: these use the bytes while the next are taken in, and what they
/// ask for then goes to the disk that much earlier.
const ROUND: usize = 8;
/// How often an image that looked wrong is looked at again: the driver may have been at fault, and be replaced.
const REMOUNT_MS: u64 = 500;

fn serve() {
    let sessions = Sessions::open(info::start() == Start::Fresh);
    let mut disk = BlockDevice::open("blk");
    let mounted = start(&mut disk, &sessions);
    let port = open_port();
    rt::ready();
    go_on(sessions, disk, mounted, port);
}

/// The disk belongs to the version before until this one is ready.
fn updated() {
    let sessions = Sessions::open(false);
    let mut disk = BlockDevice::open("blk");
    let port = open_port();
    let known = resume(&mut disk, &sessions);
    rt::ready();
    let mounted = known.map_or_else(|| start(&mut disk, &sessions), Ok);
    go_on(sessions, disk, mounted, port);
}

/// Panics where there are more clients than the state has room for: it would not know some of them.
fn open_port() -> ServerPort {
    let port = ServerPort::open(&fs::PROTOCOL, "fs");
    sessions::check_room(port.clients().count());
    port
}

fn go_on(
    sessions: Sessions,
    mut disk: BlockDevice,
    mut mounted: Result<Service<rt::Ticket>, Unusable>,
    mut port: ServerPort,
) {
    let mut desk = Desk::new(sessions, &mut port);
    if let Err(Unusable::Image(sentence)) = mounted {
        log!(error, "the disk image: {}; build it with `r3s3 image build`", sentence);
    }
    while let Err(Unusable::Image(_)) = mounted {
        absent::serve(&mut port, &mut desk, Some(ticks() + ms_to_ticks(REMOUNT_MS)));
        mounted = start(&mut disk, &desk.sessions);
    }
    if let Ok(service) = mounted {
        serve_files(Files::new(service, &mut desk, &port), &mut disk, &mut port);
    }
    log!(error, "the disk has no driver any more: every request fails");
    absent::serve(&mut port, &mut desk, None);
}

/// Until the disk is gone for good.
fn serve_files(mut files: Files<'_>, disk: &mut BlockDevice, port: &mut ServerPort) {
    loop {
        fs::serve(port, &mut files);
        for _ in 0..ROUND {
            match disk.ended() {
                Some((buffer, outcome)) => files.service.disk_completed(buffer, outcome, disk),
                None => break,
            }
        }
        if info::is_to_rest() {
            files.rest(port);
        } else {
            files.run(disk, port);
        }
        if disk.client.is_gone() {
            return files.give_up(port);
        }
        let replies = replies_worth_waking(disk.in_flight(), files.service.under_way());
        disk.client.wake_after(replies);
        rt::wait(&mut [&mut *port, &mut *disk.client], files.desk.deadline());
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

/// Why nothing can be served.
enum Unusable {
    /// The disk has no sound image, or its driver says so: a sentence about it.
    Image(&'static str),
    /// The disk is gone for good.
    Gone,
}

/// Mount the image.
fn start(disk: &mut BlockDevice, sessions: &Sessions) -> Result<Service<rt::Ticket>, Unusable> {
    let checksum = Checksum::new(false);
    let bytes = match disk.size() {
        Ok(bytes) => bytes,
        Err(_) if disk.client.is_gone() => return Err(Unusable::Gone),
        Err(error) => panic!("the disk driver does not tell the size of the disk: {}", error),
    };
    let mut mount = || mount::mount(bytes, &checksum, &mut |position, into| disk.read_now(position, into));
    // As with every block: what looks wrong is read once more before it is believed.
    let mounted = match mount().or_else(|_| mount()) {
        Ok(mounted) => mounted,
        Err(_) if disk.client.is_gone() => return Err(Unusable::Gone),
        Err(sentence) => return Err(Unusable::Image(sentence)),
    };
    if let Some((words, block)) = mounted.pack(disk.unit_bytes()) {
        sessions.keep_mount(words, &block);
    }
    let files = mounted.volume.inodes;
    let service = service(disk, mounted, checksum);
    log!(info, "{} MiB in {} files, cache {} KiB", bytes >> 20, files, service.cache.capacity() >> 10);
    Ok(service)
}

/// The image as the version before had mounted it: clients wait, and nothing is read that was known already.
fn resume(disk: &mut BlockDevice, sessions: &Sessions) -> Option<Service<rt::Ticket>> {
    let checksum = Checksum::new(false);
    let (words, block) = sessions.mount()?;
    let (mounted, unit_bytes) = Mount::unpack(&words, &block, &checksum)?;
    disk.is_known(unit_bytes);
    Some(service(disk, mounted, checksum))
}

fn service(disk: &BlockDevice, mounted: Mount, checksum: Checksum) -> Service<rt::Ticket> {
    let (_, heap) = info::heap();
    let reserved = HEAP_RESERVE + 4 * mounted.roots.len() + TABLE_FRAMES * EXTENT;
    let store = disk.store(heap.saturating_sub(reserved).min(CACHE_MAX));
    let cache = Cache::new(mounted.seal, mounted.roots, checksum, store);
    let capacity = cache.capacity();
    assert!(capacity >= CACHE_MIN, "a block cache of {} bytes: raise [vm] memory or [grants.blk] objects", capacity);
    Service::new(mounted.volume, cache, abi::CHANNELS, 512)
}
