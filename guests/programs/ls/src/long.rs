//! The lines of a listing.

use super::listing::{File, Listing};
use super::settings::{Indicator, Settings};
use crate::common::accounts::Accounts;
use crate::common::calendar;
use crate::common::modes;
use crate::common::numbers::{decimal_text, left_aligned, right_aligned, scaled};
use crate::common::system::{Kind, Metadata, System, Time};
use alloc::vec::Vec;

/// Columns are as wide as their widest entry.
#[derive(Default)]
pub struct Widths {
    inode: usize,
    blocks: usize,
    links: usize,
    user: usize,
    group: usize,
    size: usize,
    major: usize,
    minor: usize,
    /// Of a date, for files that have none to show.
    date: usize,
}

impl Widths {
    pub fn of<S: System>(listing: &mut Listing<'_, S>, files: &[File]) -> Widths {
        let settings = listing.settings;
        let mut widths = Widths::default();
        for file in files {
            widen(&mut widths.inode, decimal_text(file.inode).len());
            let metadata = match &file.metadata {
                Some(metadata) => metadata,
                None => continue,
            };
            widen(&mut widths.blocks, scaled(metadata.blocks, 512, settings.block_scale).len());
            if !settings.long {
                continue;
            }
            widen(&mut widths.links, decimal_text(u64::from(metadata.links)).len());
            let user = owner(&mut listing.users, listing.system, settings, metadata.user);
            widen(&mut widths.user, user.text.len());
            let group = owner(&mut listing.groups, listing.system, settings, metadata.group);
            widen(&mut widths.group, group.text.len());
            if has_device_number(metadata) {
                widen(&mut widths.major, decimal_text(modes::major(metadata.special)).len());
                widen(&mut widths.minor, decimal_text(modes::minor(metadata.special)).len());
                widen(&mut widths.size, widths.major + 2 + widths.minor);
            } else {
                widen(&mut widths.size, scaled(metadata.size, 1, settings.size_scale).len());
            }
        }
        let mut date = Vec::new();
        calendar::format(&mut date, Time::default(), &settings.time_formats[0]);
        widths.date = date.len();
        widths
    }
}

fn widen(width: &mut usize, length: usize) {
    *width = (*width).max(length);
}

fn has_device_number(metadata: &Metadata) -> bool {
    matches!(metadata.kind(), Kind::CharacterDevice | Kind::BlockDevice)
}

/// A user or group as a column shows it: names on the left, numbers on the right.
struct Owner {
    text: Vec<u8>,
    is_number: bool,
}

fn owner<S: System>(accounts: &mut Accounts, system: &mut S, settings: &Settings, number: u32) -> Owner {
    let name = if settings.numeric { None } else { accounts.name(system, number) };
    match name {
        Some(name) => Owner { text: name.to_vec(), is_number: false },
        None => Owner { text: decimal_text(u64::from(number)), is_number: true },
    }
}

impl Owner {
    fn print(&self, output: &mut Vec<u8>, width: usize) {
        if self.is_number {
            right_aligned(output, &self.text, width);
        } else {
            left_aligned(output, &self.text, width);
        }
        output.push(b' ');
    }
}

/// Appends one file's line.
pub fn line<S: System>(listing: &mut Listing<'_, S>, file: &File, widths: &Widths, now: Time) {
    let settings = listing.settings;
    let mut output = Vec::new();
    if settings.inode {
        let number = if file.unreadable { b"?".to_vec() } else { decimal_text(file.inode) };
        right_aligned(&mut output, &number, widths.inode);
        output.push(b' ');
    }
    if settings.blocks {
        let blocks = match &file.metadata {
            Some(metadata) => scaled(metadata.blocks, 512, settings.block_scale),
            None => b"?".to_vec(),
        };
        right_aligned(&mut output, &blocks, widths.blocks);
        output.push(b' ');
    }
    if settings.long {
        match &file.metadata {
            Some(metadata) => details(listing, &mut output, metadata, widths, now),
            None => no_details(settings, &mut output, file.kind, widths),
        }
    }
    output.extend_from_slice(&settings.shown(&file.name));
    match &file.target {
        Some(target) if settings.long => {
            output.extend_from_slice(b" -> ");
            output.extend_from_slice(&settings.shown(&target.path));
            output.extend(indicator(settings, Kind::of_mode(target.mode), target.mode));
        }
        _ if file.unreadable && settings.long => {}
        _ => output.extend(indicator(settings, file.kind, file.metadata.map_or(0, |metadata| metadata.mode))),
    }
    output.push(b'\n');
    listing.printer.buffer().extend_from_slice(&output);
}

/// Everything of a long line before the name.
fn details<S: System>(
    listing: &mut Listing<'_, S>,
    output: &mut Vec<u8>,
    metadata: &Metadata,
    widths: &Widths,
    now: Time,
) {
    let settings = listing.settings;
    output.extend_from_slice(&modes::text(metadata.mode));
    output.push(b' ');
    right_aligned(output, &decimal_text(u64::from(metadata.links)), widths.links);
    output.push(b' ');
    if settings.owner {
        owner(&mut listing.users, listing.system, settings, metadata.user).print(output, widths.user);
    }
    if settings.group {
        owner(&mut listing.groups, listing.system, settings, metadata.group).print(output, widths.group);
    }
    if has_device_number(metadata) {
        let spare = widths.size.saturating_sub(widths.major + 2 + widths.minor);
        right_aligned(output, &decimal_text(modes::major(metadata.special)), widths.major + spare);
        output.extend_from_slice(b", ");
        right_aligned(output, &decimal_text(modes::minor(metadata.special)), widths.minor);
    } else {
        right_aligned(output, &scaled(metadata.size, 1, settings.size_scale), widths.size);
    }
    output.push(b' ');
    match settings.time_of(metadata) {
        Some(time) => calendar::format(output, time, &settings.time_formats[usize::from(is_recent(time, now))]),
        None => right_aligned(output, b"?", widths.date),
    }
    output.push(b' ');
}

/// The same for a file about which nothing could be learnt.
fn no_details(settings: &Settings, output: &mut Vec<u8>, kind: Kind, widths: &Widths) {
    output.push(modes::text((kind as u32) << 12)[0]);
    output.extend_from_slice(b"????????? ");
    right_aligned(output, b"?", widths.links);
    output.push(b' ');
    for (shown, width) in [(settings.owner, widths.user), (settings.group, widths.group)] {
        if shown {
            left_aligned(output, b"?", width);
            output.push(b' ');
        }
    }
    right_aligned(output, b"?", widths.size);
    output.push(b' ');
    right_aligned(output, b"?", widths.date);
    output.push(b' ');
}

/// Not older than half a (mean Gregorian) year and not in the future.
fn is_recent(time: Time, now: Time) -> bool {
    const HALF_A_YEAR: i64 = 31_556_952 / 2;
    let since = Time { seconds: now.seconds - HALF_A_YEAR, nanoseconds: now.nanoseconds };
    since < time && time < now
}

fn indicator(settings: &Settings, kind: Kind, mode: u32) -> Option<u8> {
    match (settings.indicator, kind) {
        (Indicator::Nothing, _) => None,
        (_, Kind::Directory) => Some(b'/'),
        (Indicator::Slash, _) => None,
        (Indicator::Classify, Kind::Regular) if mode & 0o111 != 0 => Some(b'*'),
        (_, Kind::SymbolicLink) => Some(b'@'),
        (_, Kind::Fifo) => Some(b'|'),
        (_, Kind::Socket) => Some(b'='),
        _ => None,
    }
}
