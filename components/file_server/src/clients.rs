//! What the file server remembers about each client: the subtree it may see and the files it has open.

use crate::blocks::Failure;
use crate::erofs::Inode;
use crate::read_ahead::Stream;
use alloc::vec::Vec;

pub const HANDLES: usize = 64;

/// A file or directory a client has open, under a number the client chose.
#[derive(Clone, Copy)]
pub struct Open {
    pub inode: Inode,
    pub stream: Stream,
}

pub struct Client {
    /// Path of the directory that is `/` for this client.
    pub subtree: Vec<u8>,
    /// Its inode, once found.
    pub root: Option<u64>,
    handles: Vec<Option<Open>>,
}

impl Client {
    pub fn new(subtree: &[u8]) -> Client {
        let subtree = if subtree.is_empty() { b"/" } else { subtree };
        Client { subtree: subtree.to_vec(), root: None, handles: (0..HANDLES).map(|_| None).collect() }
    }

    /// A repeated open of a handle replaces it, since a client opens again when the server was restarted.
    pub fn open(&mut self, handle: u32, inode: Inode) -> Result<(), Failure> {
        let place = self.handles.get_mut(handle as usize).ok_or(Failure::BadHandle)?;
        *place = Some(Open { inode, stream: Stream::default() });
        Ok(())
    }

    pub fn opened(&mut self, handle: u32) -> Result<&mut Open, Failure> {
        self.handles.get_mut(handle as usize).and_then(Option::as_mut).ok_or(Failure::BadHandle)
    }

    pub fn close(&mut self, handle: u32) -> Result<(), Failure> {
        let place = self.handles.get_mut(handle as usize).ok_or(Failure::BadHandle)?;
        place.take().map(|_| ()).ok_or(Failure::BadHandle)
    }
}
