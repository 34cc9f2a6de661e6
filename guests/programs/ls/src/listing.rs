//! Which files a listing names, in which order, under which headings.

use super::long::{line, Widths};
use super::settings::{Dereference, Indicator, Order, Settings};
use super::versions;
use super::{MINOR, SERIOUS};
use crate::common::accounts::Accounts;
use crate::common::numbers;
use crate::common::printer::Printer;
use crate::common::quoting;
use crate::common::system::{Entry, Errno, Kind, Metadata, System};
use crate::common::walk::join;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// One line of a listing.
pub struct File {
    pub name: Vec<u8>,
    /// What the directory says, or the metadata where there are any.
    pub kind: Kind,
    pub inode: u64,
    /// None where they were not needed, or could not be had (`unreadable`).
    pub metadata: Option<Metadata>,
    pub unreadable: bool,
    pub target: Option<Target>,
}

/// Where a symbolic link leads.
pub struct Target {
    pub path: Vec<u8>,
    /// 0 where it leads nowhere, or nobody asked.
    pub mode: u32,
}

/// A directory still to be listed.
enum Pending {
    Directory {
        path: Vec<u8>,
        named: bool,
    },
    /// This directory (device and inode) is done with, and so is everything below it.
    End {
        directory: (u64, u64),
    },
}

pub struct Listing<'l, S: System> {
    pub printer: &'l mut Printer,
    pub system: &'l mut S,
    pub settings: &'l Settings,
    pub users: Accounts,
    pub groups: Accounts,
    /// The next directory is at the end.
    pending: Vec<Pending>,
    /// Device and inode of the directories between the start and the one being listed.
    ancestors: Vec<(u64, u64)>,
    headings: bool,
    first_heading: bool,
}

/// Lists everything the command line names.
pub fn list<S: System>(printer: &mut Printer, system: &mut S, settings: &Settings, operands: &[&[u8]]) {
    let mut listing = Listing {
        printer,
        system,
        settings,
        users: Accounts::users(),
        groups: Accounts::groups(),
        pending: Vec::new(),
        ancestors: Vec::new(),
        headings: true,
        first_heading: true,
    };
    listing.list_operands(if operands.is_empty() { &[b"."] } else { operands }, operands.len() > 1);
    while let Some(pending) = listing.pending.pop() {
        match pending {
            Pending::Directory { path, named } => listing.list_directory(&path, named),
            Pending::End { directory } => listing.ancestors.retain(|&ancestor| ancestor != directory),
        }
        listing.printer.pass_on(listing.system);
        if listing.printer.output_lost() {
            break;
        }
    }
}

impl<'l, S: System> Listing<'l, S> {
    fn list_operands(&mut self, operands: &[&[u8]], several: bool) {
        let mut files = Vec::new();
        for operand in operands {
            if let Some(file) = self.look_at_operand(operand) {
                files.push(file);
            }
        }
        self.sort(&mut files);
        // Directories count for the widths of the columns, though their lines are not among these.
        let widths = Widths::of(self, &files);
        let mut directories = Vec::new();
        if !self.settings.directories_themselves {
            files.retain(|file| {
                let is_directory = file.kind == Kind::Directory;
                if is_directory {
                    directories.push(file.name.clone());
                }
                !is_directory
            });
        }
        if !files.is_empty() {
            self.print(&files, &widths);
            if !directories.is_empty() {
                self.printer.buffer().push(b'\n');
            }
        } else if !several && directories.len() == 1 {
            self.headings = false;
        }
        self.pending.extend(directories.into_iter().rev().map(|path| Pending::Directory { path, named: true }));
    }

    /// Prints one directory and puts what is below it on the list, if that is wanted.
    fn list_directory(&mut self, path: &[u8], named: bool) {
        let status = if named { SERIOUS } else { MINOR };
        let mut entries = Vec::new();
        let mut directory = (0, 0);
        let opened = self.system.stat(path, true).and_then(|metadata| {
            directory = (metadata.device, metadata.inode);
            self.system.list(path, &mut entries)
        });
        if let Err(error) = opened {
            let trouble: &[u8] = if entries.is_empty() { b"cannot open directory " } else { b"reading directory " };
            self.printer.fail_with(self.system, status, &[trouble, &quoting::shell_always(path)], error);
            if entries.is_empty() {
                return;
            }
        }
        if self.settings.recursive {
            if self.ancestors.contains(&directory) {
                let name = quoting::before_colon(path);
                self.printer.fail(self.system, SERIOUS, &[&name, b": not listing already-listed directory"]);
                return;
            }
            self.ancestors.push(directory);
        }
        if self.settings.recursive || self.headings {
            self.heading(path);
        }
        let mut files = self.look_at_entries(path, entries);
        self.sort(&mut files);
        if self.settings.recursive {
            self.pending.push(Pending::End { directory });
            for file in files.iter().rev() {
                if file.kind == Kind::Directory && file.name != b"." && file.name != b".." {
                    self.pending.push(Pending::Directory { path: join(path, &file.name), named: false });
                }
            }
        }
        if self.settings.long || self.settings.blocks {
            let blocks = files.iter().filter_map(|file| file.metadata).map(|metadata| metadata.blocks).sum();
            let total = numbers::scaled(blocks, 512, self.settings.block_scale);
            self.printer.buffer().extend_from_slice(&[b"total ", &total[..], b"\n"].concat());
        }
        let widths = Widths::of(self, &files);
        self.print(&files, &widths);
    }

    fn heading(&mut self, path: &[u8]) {
        let shown = self.settings.shown(path);
        let output = self.printer.buffer();
        if !self.first_heading {
            output.push(b'\n');
        }
        self.first_heading = false;
        output.extend_from_slice(&shown);
        output.extend_from_slice(b":\n");
    }

    fn print(&mut self, files: &[File], widths: &Widths) {
        let now = self.system.now();
        for file in files {
            line(self, file, widths, now);
            self.printer.pass_on(self.system);
        }
    }

    fn complain(&mut self, status: i32, what: &[u8], path: &[u8], error: Errno) {
        self.printer.fail_with(self.system, status, &[what, &quoting::shell_always(path)], error);
    }

    /// None, after a message, where there is no such file.
    fn look_at_operand(&mut self, path: &[u8]) -> Option<File> {
        let to_directories = self.settings.dereference == Dereference::ArgumentsToDirectories;
        let metadata = match self.settings.dereference {
            Dereference::Never => self.system.stat(path, false),
            Dereference::Always => self.system.stat(path, true),
            Dereference::Arguments | Dereference::ArgumentsToDirectories => match self.system.stat(path, true) {
                Ok(metadata) if to_directories && !metadata.is_directory() => self.system.stat(path, false),
                Err(Errno::ENOENT) if to_directories => self.system.stat(path, false),
                other => other,
            },
        };
        match metadata {
            Ok(metadata) => Some(self.with_target(path, path.to_vec(), metadata, SERIOUS)),
            Err(error) => {
                self.complain(SERIOUS, b"cannot access ", path, error);
                None
            }
        }
    }

    /// The entries of a directory that are shown, with what has to be known about them.
    fn look_at_entries(&mut self, directory: &[u8], entries: Vec<Entry>) -> Vec<File> {
        let follow = self.settings.dereference == Dereference::Always;
        let ahead = self.system.requests_in_flight();
        let mut files = Vec::with_capacity(entries.len());
        let mut under_way = VecDeque::new();
        for entry in entries.into_iter().filter(|entry| !self.settings.ignores(&entry.name)) {
            if under_way.len() == ahead {
                files.extend(under_way.pop_front().map(|(entry, ticket)| self.look_at_entry(directory, entry, ticket)));
            }
            let ticket = if self.needs_metadata(&entry) {
                Some(self.system.start_stat(&path_of(directory, &entry.name), follow))
            } else {
                None
            };
            under_way.push_back((entry, ticket));
        }
        files.extend(under_way.into_iter().map(|(entry, ticket)| self.look_at_entry(directory, entry, ticket)));
        files
    }

    /// Does the line of this entry, or its place, depend on more than the directory says?
    fn needs_metadata(&self, entry: &Entry) -> bool {
        let settings = self.settings;
        let is_link = entry.kind == Kind::SymbolicLink;
        let executable_matters = entry.kind == Kind::Regular && settings.indicator == Indicator::Classify;
        let follows = settings.dereference == Dereference::Always;
        settings.needs_metadata()
            || settings.needs_kind() && (entry.kind == Kind::Unknown || executable_matters)
            || settings.directories_first && is_link
            || follows && is_link && (settings.inode || settings.needs_kind())
    }

    fn look_at_entry(&mut self, directory: &[u8], entry: Entry, ticket: Option<S::Ticket>) -> File {
        let Entry { name, inode, kind } = entry;
        let metadata = match ticket {
            Some(ticket) => self.system.finish_stat(ticket),
            None => return File { name, kind, inode, metadata: None, unreadable: false, target: None },
        };
        let path = path_of(directory, &name);
        match metadata {
            Ok(metadata) => self.with_target(&path, name, metadata, MINOR),
            Err(error) => {
                self.complain(MINOR, b"cannot access ", &path, error);
                File { name, kind, inode, metadata: None, unreadable: true, target: None }
            }
        }
    }

    /// Adds where a link leads to, if lines or their order show that.
    fn with_target(&mut self, path: &[u8], name: Vec<u8>, metadata: Metadata, status: i32) -> File {
        let mut target = None;
        if (self.settings.long || self.settings.directories_first) && metadata.kind() == Kind::SymbolicLink {
            match self.system.read_link(path) {
                Ok(leads_to) => {
                    let kind_matters =
                        self.settings.indicator >= Indicator::FileType || self.settings.directories_first;
                    let beyond = if kind_matters { self.system.stat(path, true).ok() } else { None };
                    target = Some(Target { path: leads_to, mode: beyond.map_or(0, |beyond| beyond.mode) });
                }
                Err(error) => self.complain(status, b"cannot read symbolic link ", path, error),
            }
        }
        File { name, kind: metadata.kind(), inode: metadata.inode, metadata: Some(metadata), unreadable: false, target }
    }

    fn sort(&self, files: &mut [File]) {
        let settings = self.settings;
        if settings.order == Order::AsFound {
            return;
        }
        files.sort_by(|one, other| {
            let order = compare(settings, one, other);
            let order = if settings.reverse { order.reverse() } else { order };
            let leads_to_directory = |file: &File| {
                file.kind == Kind::Directory
                    || file.target.as_ref().map_or(false, |target| Kind::of_mode(target.mode) == Kind::Directory)
            };
            if settings.directories_first {
                leads_to_directory(other).cmp(&leads_to_directory(one)).then(order)
            } else {
                order
            }
        });
    }
}

/// Of an entry. Messages about the directory that is listed by default name the file alone.
fn path_of(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory == b"." {
        name.to_vec()
    } else {
        join(directory, name)
    }
}

fn compare(settings: &Settings, one: &File, other: &File) -> Ordering {
    let size = |file: &File| file.metadata.map_or(0, |metadata| metadata.size);
    let time = |file: &File| file.metadata.and_then(|metadata| settings.time_of(&metadata)).unwrap_or_default();
    let by_key = match settings.order {
        Order::Size => size(other).cmp(&size(one)),
        Order::Time => time(other).cmp(&time(one)),
        Order::Extension => extension(&one.name).cmp(extension(&other.name)),
        Order::Width => width(settings, one).cmp(&width(settings, other)),
        Order::Version => versions::compare(&one.name, &other.name),
        Order::Name | Order::AsFound => Ordering::Equal,
    };
    by_key.then_with(|| one.name.cmp(&other.name))
}

/// Columns that a name takes on a terminal: unprintable bytes take none.
fn width(settings: &Settings, file: &File) -> usize {
    settings.shown(&file.name).iter().filter(|byte| (0x20..0x7f).contains(*byte)).count()
}

/// From the last dot on; empty without one.
fn extension(name: &[u8]) -> &[u8] {
    name.iter().rposition(|&byte| byte == b'.').map_or(b"", |dot| &name[dot..])
}
