//! Mutated images: each must be refused or served without a panic, an endless loop, or a read outside the disk.
//!
//! The checksums are made anew after most mutations, so that the parser sees them. Iteration I of seed S is
//! the same on every machine; `fuzz IMAGE 0 S I FILE` writes its image to FILE.

use crate::blocks::{copy, u16_at, u32_at, Block, Blocks, Stop, BLOCK};
use crate::crc32c::Checksum;
use crate::directory::{blocks_of, EntryBlock};
use crate::disk::Random;
use crate::erofs::{Kind, Layout, SuperBlock};
use crate::service::{Answer, Purpose};
use crate::world::World;
use std::sync::atomic::{AtomicU64, Ordering};

const FRAMES: usize = 6;
const READS_MAX: u64 = 20_000; // disk reads of one image's whole workload
const SECONDS_MAX: u64 = 10; // of one image
const NAMES_MAX: usize = 150; // names tried per image

static ITERATION: AtomicU64 = AtomicU64::new(0);

/// A sound image and where its structures are.
struct Specimen {
    image: Vec<u8>,
    data_blocks: usize,
    inodes: Vec<(usize, u64)>, // position, number
    directories: Vec<(usize, usize)>, // position and length of each block of entries
    links: Vec<(usize, usize)>,
    chunk_tables: Vec<usize>,
    paths: Vec<Vec<u8>>,
}

struct Plain<'a>(&'a [u8]);

impl Blocks for Plain<'_> {
    fn block(&mut self, number: u64) -> Result<&Block, Stop> {
        let start = number as usize * BLOCK;
        Ok((&self.0[start..start + BLOCK]).try_into().unwrap())
    }
}

impl Specimen {
    fn load(path: &str) -> Specimen {
        let image = std::fs::read(path).expect("image");
        let device_blocks = (image.len() / BLOCK) as u64;
        let volume = SuperBlock::parse(image[..BLOCK].try_into().unwrap(), device_blocks).expect("a sound image");
        let mut specimen = Specimen {
            data_blocks: volume.blocks as usize,
            inodes: Vec::new(),
            directories: Vec::new(),
            links: Vec::new(),
            chunk_tables: Vec::new(),
            paths: Vec::new(),
            image: Vec::new(),
        };
        let metadata = u32_at(&image, 1024 + 40) as usize * BLOCK;
        let mut todo = vec![(volume.root, b"/".to_vec())];
        while let Some((number, path)) = todo.pop() {
            let mut blocks = Plain(&image);
            let inode = volume.inode(&mut blocks, number).expect("a sound inode");
            let position = metadata + number as usize * 32;
            specimen.inodes.push((position, number));
            if inode.layout == Layout::Chunked {
                specimen.chunk_tables.push(position + 64);
            }
            if inode.kind == Kind::Link {
                let place = volume.place(&mut blocks, &inode, 0).expect("a sound link");
                specimen.links.push((place.position.unwrap() as usize, inode.size as usize));
            }
            if inode.kind == Kind::Directory {
                for index in 0..blocks_of(&inode) {
                    let place = volume.place(&mut blocks, &inode, index * BLOCK as u64).unwrap();
                    let length = (inode.size - index * BLOCK as u64).min(BLOCK as u64) as usize;
                    specimen.directories.push((place.position.unwrap() as usize, length));
                    let entries = EntryBlock::read(&volume, &mut blocks, &inode, index).expect("sound entries");
                    for entry in (0..entries.count()).map(|entry| entries.entry(entry).unwrap()) {
                        if entry.name != b"." && entry.name != b".." {
                            todo.push((entry.inode, [&path[..], entry.name, b"/"].concat()));
                        }
                    }
                }
            }
            specimen.paths.push(path);
        }
        specimen.image = image;
        specimen
    }

    /// The image of one iteration.
    fn mutate(&self, random: &mut Random) -> Vec<u8> {
        let mut image = self.image.clone();
        for _ in 0..1 + random.below(5) {
            self.mutate_once(&mut image, random);
        }
        match random.below(16) {
            0 => {} // the checksums must notice
            1 => {
                let seal = image.len() - BLOCK;
                let offset = seal + random.below(64) as usize;
                image[offset] = interesting(random) as u8;
                seal_again(&mut image, self.data_blocks, false);
            }
            2 => {
                let blocks = 1 + random.below((image.len() / BLOCK) as u64) as usize;
                image.truncate(blocks * BLOCK);
            }
            _ => seal_again(&mut image, self.data_blocks, true),
        }
        image
    }

    fn mutate_once(&self, image: &mut [u8], random: &mut Random) {
        let pick = |random: &mut Random, length: usize| random.below(length as u64) as usize;
        match random.below(20) {
            0 => put(image, 1024 + 4 * pick(random, 32), 4, interesting(random)),
            1..=7 => {
                let (position, _) = self.inodes[pick(random, self.inodes.len())];
                let offset = [0, 2, 4, 8, 12, 16, 20, 24, 28, 44][pick(random, 10)];
                let width = [1, 2, 4, 8][pick(random, 4)];
                put(image, position + offset, width, interesting(random));
            }
            8..=9 => {
                // Sizes near what the file has.
                let (position, _) = self.inodes[pick(random, self.inodes.len())];
                let size = u64::from(u32_at(image, position + 8)).wrapping_add(random.below(9000)).wrapping_sub(4500);
                put(image, position + 8, 4, size);
            }
            10..=12 => {
                let (position, length) = self.directories[pick(random, self.directories.len())];
                let entry = position + 12 * pick(random, usize::from(u16_at(image, position + 8)) / 12);
                if entry + 12 <= position + length {
                    let (offset, width) = [(0, 8), (8, 2), (10, 1), (0, 4)][pick(random, 4)];
                    put(image, entry + offset, width, interesting(random));
                }
            }
            13..=15 => {
                // Entries that lead elsewhere: loops of directories, files that are directories.
                let (position, length) = self.directories[pick(random, self.directories.len())];
                let entry = position + 12 * pick(random, usize::from(u16_at(image, position + 8)) / 12);
                if entry + 12 <= position + length {
                    put(image, entry, 8, self.inodes[pick(random, self.inodes.len())].1);
                }
            }
            16 if !self.links.is_empty() => {
                let (position, length) = self.links[pick(random, self.links.len())];
                let byte = b"/.\0a"[pick(random, 4)];
                image[position + pick(random, length)] = byte;
            }
            17 if !self.chunk_tables.is_empty() => {
                let table = self.chunk_tables[pick(random, self.chunk_tables.len())];
                put(image, table + 4 * pick(random, 8), 4, interesting(random));
            }
            _ => {
                // Anything, near a structure.
                let (position, _) = self.inodes[pick(random, self.inodes.len())];
                put(image, position / BLOCK * BLOCK + pick(random, BLOCK), 1, random.next());
            }
        }
    }
}

fn put(image: &mut [u8], position: usize, width: usize, value: u64) {
    if position + width <= image.len() {
        image[position..position + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

fn interesting(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => (1 << random.below(64)) - 1,
        4 => i64::MAX as u64,
        5 => u64::from(u32::MAX) - random.below(3),
        6 => random.below(4),
        7 => random.below(5000),
        8 => 4096 * random.below(64),
        _ => random.next(),
    }
}

/// Make table and roots anew, and the checksums in the seal.
fn seal_again(image: &mut [u8], data_blocks: usize, table: bool) {
    let checksum = Checksum::new(false);
    let seal = image.len() - BLOCK;
    if table {
        let table_blocks = (data_blocks + 1023) / 1024;
        for block in 0..data_blocks {
            let sum = checksum.of(&image[block * BLOCK..(block + 1) * BLOCK]);
            put(image, data_blocks * BLOCK + 4 * block, 4, u64::from(sum));
        }
        let roots = (data_blocks + table_blocks) * BLOCK;
        for block in 0..table_blocks {
            let start = (data_blocks + block) * BLOCK;
            let sum = checksum.of(&image[start..start + BLOCK]);
            put(image, roots + 4 * block, 4, u64::from(sum));
        }
        let sum = checksum.of(&image[roots..seal]);
        put(image, seal + 56, 4, u64::from(sum));
    }
    let sum = checksum.of(&image[seal..seal + BLOCK - 4]);
    put(image, seal + BLOCK - 4, 4, u64::from(sum));
}

/// Everything a client can ask of an image. Whether it could be mounted.
fn exercise(image: Vec<u8>, specimen: &Specimen, random: &mut Random) -> bool {
    if image.len() % BLOCK != 0 || image.is_empty() {
        return false;
    }
    let mut world = match World::new(image, FRAMES, random.next()) {
        Ok(world) => world,
        Err(_) => return false,
    };
    let mut subtree = specimen.paths[random.below(specimen.paths.len() as u64) as usize].clone();
    subtree.truncate(200);
    world.service.session(0, b"/");
    world.service.session(1, &subtree);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for _ in 0..NAMES_MAX / 2 {
        let mut path = specimen.paths[random.below(specimen.paths.len() as u64) as usize].clone();
        match random.below(6) {
            0 => path.extend_from_slice(b"../.././/x"),
            1 => path.truncate(random.below(path.len() as u64 + 1) as usize),
            2 => {}
            _ => {
                path.pop();
            }
        }
        names.push(path);
    }
    let mut next = 0;
    while next < names.len() && next < NAMES_MAX {
        let path = names[next].clone();
        next += 1;
        visit(&mut world, &path, random, &mut names);
    }
    true
}

fn visit(world: &mut World<Vec<u8>>, path: &[u8], random: &mut Random, names: &mut Vec<Vec<u8>>) {
    let client = random.below(2) as usize;
    world.answers = Default::default();
    let tickets: Vec<usize> = (0..3).map(|_| world.answers.ticket()).collect();
    let answers = &mut world.answers;
    let open = Purpose::Open { handle: 5, follow: random.below(2) == 0, directory: false };
    world.service.path(client, tickets[0], Purpose::Stat { follow: random.below(2) == 0 }, path, answers);
    world.service.path(client, tickets[1], Purpose::ReadLink { capacity: 4096 }, path, answers);
    world.service.path(client, tickets[2], open, path, answers);
    settle(world, 3);
    let opened = world.answers.given.iter().find_map(|(_, answer)| match answer {
        Answer::Opened { size, .. } => Some(*size),
        _ => None,
    });
    let size = match opened {
        Some(size) => size,
        None => return,
    };
    world.answers = Default::default();
    let tickets: Vec<usize> = (0..4).map(|_| world.answers.ticket()).collect();
    let answers = &mut world.answers;
    let cookie = [0, 0, 0, random.below(1 << 20), random.next()][random.below(5) as usize];
    world.service.entries(client, tickets[0], 5, cookie, 1 << 16, answers);
    world.service.read(client, tickets[1], 5, 0, 1 << 17, answers);
    world.service.read(client, tickets[2], 5, size.saturating_sub(random.below(10_000)), 1 << 16, answers);
    world.service.read(client, tickets[3], 5, random.below(size.max(1)), 10_000, answers);
    if random.below(50) == 0 {
        world.service.session_ended(client);
        world.service.session(client, b"/");
        return;
    }
    settle(world, 4);
    for name in names_in(&world.answers.output[tickets[0]]) {
        if names.len() < NAMES_MAX && name != b"." {
            names.push([path, b"/", name].concat());
        }
    }
}

fn settle(world: &mut World<Vec<u8>>, answers: usize) {
    assert!(world.settle(READS_MAX), "no end after {} disk reads", world.disk.reads);
    assert_eq!(world.answers.given.len(), answers, "requests without an answer");
}

fn names_in(mut entries: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    while entries.len() >= 20 {
        let length = usize::from(u16_at(entries, 18));
        names.push(&entries[20..20 + length]);
        entries = &entries[(20 + length + 7) / 8 * 8..];
    }
    names
}

pub fn fuzz(path: &str, count: u64, seed: u64, only: Option<(u64, String)>) {
    let specimen = Specimen::load(path);
    let mut probe = [0; 4];
    copy(&mut Plain(&specimen.image), 1024, &mut probe).expect("block 0");
    if let Some((iteration, file)) = only {
        std::fs::write(file, specimen.mutate(&mut numbers_of(seed, iteration))).expect("image written");
        return;
    }
    std::thread::spawn(watch);
    let mut mounted = 0;
    for iteration in 0..count {
        ITERATION.store(iteration + 1, Ordering::Relaxed);
        let mut random = numbers_of(seed, iteration);
        let image = specimen.mutate(&mut random);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exercise(image, &specimen, &mut random))) {
            Ok(good) => mounted += u64::from(good),
            Err(_) => {
                println!("failed {}", iteration);
                std::process::exit(1);
            }
        }
    }
    println!("passed {} mounted {}", count, mounted);
}

fn numbers_of(seed: u64, iteration: u64) -> Random {
    Random::new(seed.wrapping_mul(1_000_003).wrapping_add(iteration))
}

/// Ends the process when one image takes too long.
fn watch() {
    let mut last = 0;
    loop {
        std::thread::sleep(std::time::Duration::from_secs(SECONDS_MAX));
        let now = ITERATION.load(Ordering::Relaxed);
        if now == last {
            println!("hung {}", now - 1);
            std::process::exit(1);
        }
        last = now;
    }
}
