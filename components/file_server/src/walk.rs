//! From a path to an inode, step by step.
//!
//! A walk keeps what it has found, so that a block that must be read first costs the repetition of one
//! step and nothing can be evicted in a circle. It never leaves the subtree it began in: `..` pops a
//! stack of the directories walked through (the disk's own `..` entries are not used), and a symbolic
//! link that begins with `/` begins at the subtree's root.

use crate::blocks::{copy, Blocks, Failure, Stop};
use crate::directory::{Found, Search, NAME_MAX};
use crate::erofs::{Inode, Kind, SuperBlock};
use alloc::boxed::Box;
use alloc::vec::Vec;

pub const PATH_MAX: usize = 4096; // bytes of a path or of a link's target
const TEXT: usize = 2 * PATH_MAX; // a link's target in front of what is left of the path
const DEPTH: usize = PATH_MAX / 2;
const LINKS: u32 = 40; // as Linux

#[derive(Clone, Copy)]
enum Step {
    /// Read this inode; it becomes the current one.
    Load(u64),
    /// Take the next name of the path.
    Name,
    /// Look the name of this length, at the start of the text, up in the current directory.
    Look(usize, Search),
    /// Read the target of the current inode, a link.
    Follow,
}

/// One walk. Reused from request to request, since it is large.
pub struct Walk {
    text: Box<[u8; TEXT]>, // what is left of the path: text[start..]
    start: usize,
    above: Vec<u64>, // directories from the root down to the one above the current
    root: u64,
    current: Option<Inode>,
    step: Step,
    links: u32,
    follow_last: bool,
}

impl Walk {
    pub fn new() -> Walk {
        Walk {
            text: Box::new([0; TEXT]),
            start: TEXT,
            above: Vec::with_capacity(DEPTH),
            root: 0,
            current: None,
            step: Step::Name,
            links: 0,
            follow_last: true,
        }
    }

    /// Begin at directory `root` with a path of at most PATH_MAX bytes. `follow_last`: whether a link
    /// at the very end is followed too.
    pub fn begin(&mut self, root: u64, path: &[u8], follow_last: bool) -> Result<(), Failure> {
        if path.is_empty() {
            return Err(Failure::NotFound);
        }
        if path.len() > PATH_MAX {
            return Err(Failure::NameTooLong);
        }
        if path.contains(&0) {
            return Err(Failure::Invalid);
        }
        self.start = TEXT;
        self.above.clear();
        self.root = root;
        self.links = 0;
        self.follow_last = follow_last;
        self.step = Step::Load(root);
        self.prepend(path)
    }

    /// Go on until the path ends or a block is missing. Every call ends: names, links and depth are bounded.
    pub fn advance(&mut self, volume: &SuperBlock, blocks: &mut dyn Blocks) -> Result<Inode, Stop> {
        loop {
            match self.step {
                Step::Load(number) => {
                    let inode = volume.inode(blocks, number)?;
                    self.current = Some(inode);
                    self.step = match inode.kind {
                        // A slash behind the last name asks for a directory, so it follows a link too.
                        Kind::Link if self.follow_last || self.start < TEXT => Step::Follow,
                        _ => Step::Name,
                    };
                }
                Step::Name => {
                    if let Some(inode) = self.next_name()? {
                        return Ok(inode);
                    }
                }
                Step::Look(length, search) => self.look(volume, blocks, length, search)?,
                Step::Follow => self.follow(volume, blocks)?,
            }
        }
    }

    /// Take one name off the text. The walk is over when there is none.
    fn next_name(&mut self) -> Result<Option<Inode>, Stop> {
        let inode = self.current.ok_or(Failure::Corrupt)?;
        if self.start == TEXT {
            return Ok(Some(inode));
        }
        if inode.kind != Kind::Directory {
            return Err(Failure::NotDirectory.into());
        }
        while self.start < TEXT && self.text[self.start] == b'/' {
            self.start += 1;
        }
        let left = &self.text[self.start..];
        let length = left.iter().position(|byte| *byte == b'/').unwrap_or(left.len());
        match &left[..length] {
            b"" => {}
            b"." => self.start += 1,
            b".." => {
                self.start += 2;
                self.step = Step::Load(self.above.pop().unwrap_or(self.root));
            }
            _ if length > NAME_MAX => return Err(Failure::NameTooLong.into()),
            _ => self.step = Step::Look(length, Search::new(&inode)),
        }
        Ok(None)
    }

    fn look(
        &mut self,
        volume: &SuperBlock,
        blocks: &mut dyn Blocks,
        length: usize,
        mut search: Search,
    ) -> Result<(), Stop> {
        let directory = self.current.ok_or(Failure::Corrupt)?;
        let name = &self.text[self.start..self.start + length];
        match search.step(volume, blocks, &directory, name)? {
            Found::Nothing => return Err(Failure::NotFound.into()),
            Found::NotYet => self.step = Step::Look(length, search),
            Found::Inode(number) => {
                if self.above.len() == DEPTH {
                    return Err(Failure::NameTooLong.into());
                }
                // Also above a file or link: `follow` pops it, and behind a file nothing may follow.
                self.above.push(directory.number);
                self.start += length;
                self.step = Step::Load(number);
            }
        }
        Ok(())
    }

    fn follow(&mut self, volume: &SuperBlock, blocks: &mut dyn Blocks) -> Result<(), Stop> {
        let link = self.current.ok_or(Failure::Corrupt)?;
        if self.links == LINKS {
            return Err(Failure::Loop.into());
        }
        let mut target = [0u8; PATH_MAX];
        let length = read_link(volume, blocks, &link, &mut target)?;
        self.links += 1;
        self.prepend(&target[..length])?;
        let directory = self.above.pop().unwrap_or(self.root);
        self.step = if target[0] == b'/' {
            self.above.clear();
            Step::Load(self.root)
        } else {
            Step::Load(directory)
        };
        Ok(())
    }

    fn prepend(&mut self, path: &[u8]) -> Result<(), Failure> {
        let start = self.start.checked_sub(path.len()).ok_or(Failure::NameTooLong)?;
        self.text[start..self.start].copy_from_slice(path);
        self.start = start;
        Ok(())
    }
}

/// The target of a symbolic link; its length. An image with an impossible one is corrupt.
pub fn read_link(
    volume: &SuperBlock,
    blocks: &mut dyn Blocks,
    link: &Inode,
    target: &mut [u8; PATH_MAX],
) -> Result<usize, Stop> {
    if link.kind != Kind::Link {
        return Err(Failure::Invalid.into());
    }
    if link.size == 0 || link.size >= PATH_MAX as u64 {
        return Err(Failure::Corrupt.into());
    }
    let length = link.size as usize;
    let place = volume.place(blocks, link, 0)?;
    let position = place.position.ok_or(Failure::Corrupt)?;
    if place.bytes < link.size {
        return Err(Failure::Corrupt.into());
    }
    copy(blocks, position, &mut target[..length])?;
    if target[..length].contains(&0) {
        return Err(Failure::Corrupt.into());
    }
    Ok(length)
}
