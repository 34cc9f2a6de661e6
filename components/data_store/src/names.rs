//! Names, prefixes, and who may use which.

use protocols::store::NAME_MAX;
use rt::Error;

/// A name as it is stored: without a slash before its first part. `INVAL`: no name; `NAMETOOLONG`.
pub fn name(text: &[u8]) -> Result<&[u8], Error> {
    match prefix(text)? {
        b"" => Err(Error::INVAL),
        name => Ok(name),
    }
}

/// A prefix as it is stored; the empty one covers all names.
pub fn prefix(text: &[u8]) -> Result<&[u8], Error> {
    let text = text.strip_prefix(b"/").unwrap_or(text);
    let is_plain = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| (0x21..=0x7e).contains(byte));
    if text.len() > NAME_MAX as usize {
        Err(Error::NAMETOOLONG)
    } else if text.is_empty() || text.split(|byte| *byte == b'/').all(is_plain) {
        Ok(text)
    } else {
        Err(Error::INVAL)
    }
}

/// Is it the name itself, or does it have more parts?
pub fn covers(prefix: &[u8], name: &[u8]) -> bool {
    match name.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}

/// What the policy says of a client: the prefix it may read and the one it may write, with a space between them. One that
/// is not there covers nothing.
pub struct Rights<'a> {
    read: Option<&'a [u8]>,
    write: Option<&'a [u8]>,
}

impl<'a> Rights<'a> {
    pub fn of(parameter: &'a [u8]) -> Rights<'a> {
        let mut prefixes = parameter.split(|byte| *byte == b' ').map(|text| text.strip_prefix(b"/"));
        Rights { read: prefixes.next().flatten(), write: prefixes.next().flatten() }
    }

    /// `ACCESS` unless all names below `prefix` may be read.
    pub fn read(&self, prefix: &[u8]) -> Result<(), Error> {
        check(self.read, prefix)
    }

    /// `ACCESS` unless the name may be written.
    pub fn write(&self, name: &[u8]) -> Result<(), Error> {
        check(self.write, name)
    }
}

fn check(allowed: Option<&[u8]>, wanted: &[u8]) -> Result<(), Error> {
    match allowed {
        Some(allowed) if covers(allowed, wanted) => Ok(()),
        _ => Err(Error::ACCESS),
    }
}
