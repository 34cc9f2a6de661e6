//! The regular files below a directory, in the bytewise order of their paths.

use super::system::{Entry, Errno, Kind, System};
use alloc::vec::Vec;

/// What a walk comes across.
pub enum Step {
    /// A regular file, by its path.
    File(Vec<u8>),
    /// A place that could not be looked at.
    Unreadable(Vec<u8>, Errno),
}

/// One directory on the way down.
struct Level {
    path: Vec<u8>,
    inode: u64,
    /// Entries still to visit, the last one first.
    entries: Vec<Entry>,
}

pub struct Walk {
    levels: Vec<Level>,
    found: Vec<Step>,
}

impl Walk {
    /// A walk below `start`; a start that is a regular file is the only thing it finds.
    pub fn new<S: System>(system: &mut S, start: &[u8]) -> Walk {
        let mut walk = Walk { levels: Vec::new(), found: Vec::new() };
        match system.stat(start, true) {
            Ok(metadata) if metadata.is_directory() => walk.descend(system, start.to_vec(), metadata.inode),
            Ok(metadata) if metadata.kind() == Kind::Regular => walk.found.push(Step::File(start.to_vec())),
            Ok(_) => {}
            Err(error) => walk.found.push(Step::Unreadable(start.to_vec(), error)),
        }
        walk
    }

    pub fn next<S: System>(&mut self, system: &mut S) -> Option<Step> {
        loop {
            if let Some(step) = self.found.pop() {
                return Some(step);
            }
            let level = self.levels.last_mut()?;
            let entry = match level.entries.pop() {
                Some(entry) => entry,
                None => {
                    self.levels.pop();
                    continue;
                }
            };
            let path = join(&level.path, &entry.name);
            match entry.kind {
                Kind::Regular => return Some(Step::File(path)),
                Kind::Directory => self.descend(system, path, entry.inode),
                _ => {}
            }
        }
    }

    fn descend<S: System>(&mut self, system: &mut S, path: Vec<u8>, inode: u64) {
        // A damaged file system may hang a directory below itself.
        if self.levels.iter().any(|level| level.inode == inode) {
            self.found.push(Step::Unreadable(path, Errno::ELOOP));
            return;
        }
        let mut entries = Vec::new();
        if let Err(error) = system.list(&path, &mut entries) {
            self.found.push(Step::Unreadable(path.clone(), error));
        }
        entries.retain(|entry| matches!(entry.kind, Kind::Regular | Kind::Directory));
        entries.retain(|entry| entry.name != b"." && entry.name != b"..");
        // Backwards: the next one is taken from the end.
        entries.sort_unstable_by(|one, other| sort_key(other).cmp(sort_key(one)));
        self.levels.push(Level { path, inode, entries });
    }
}

/// A directory's name counts with the slash that follows it in the paths of its files: `a-b` comes before `a/b`.
fn sort_key(entry: &Entry) -> impl Iterator<Item = u8> + '_ {
    let slash: &[u8] = if entry.kind == Kind::Directory { b"/" } else { b"" };
    entry.name.iter().chain(slash).copied()
}

/// `directory/name` with one slash between them.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// A path from the root, without empty components and `.`; `..` is left to the file system.
pub fn absolute(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        if !component.is_empty() && component != b"." {
            clean.push(b'/');
            clean.extend_from_slice(component);
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    clean
}
