//! Names of users and groups, from the image's own `/etc/passwd` and `/etc/group` where the program may see them.

use super::numbers;
use super::reading::read_whole;
use super::system::System;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A larger account file is not read: names are a convenience.
const LARGEST_FILE: usize = 4 << 20;

/// One account file, read when the first name is asked for.
pub struct Accounts {
    path: &'static [u8],
    names: Option<BTreeMap<u32, Vec<u8>>>,
}

impl Accounts {
    pub fn users() -> Self {
        Accounts { path: b"/etc/passwd", names: None }
    }

    pub fn groups() -> Self {
        Accounts { path: b"/etc/group", names: None }
    }

    /// The name of a number; None where the file cannot be seen or does not have it.
    pub fn name<S: System>(&mut self, system: &mut S, number: u32) -> Option<&[u8]> {
        let path = self.path;
        let mut read = || read_whole(system, path, LARGEST_FILE).unwrap_or_default();
        let names = self.names.get_or_insert_with(|| parse(&read()));
        names.get(&number).map(|name| &name[..])
    }
}

/// Lines `name:password:number:...`; the first line of a number counts. Malformed lines are skipped.
fn parse(text: &[u8]) -> BTreeMap<u32, Vec<u8>> {
    let mut names = BTreeMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next().unwrap_or(b"");
        let number = fields.nth(1).and_then(numbers::parse).filter(|&number| number <= u64::from(u32::MAX));
        if let (false, Some(number)) = (name.is_empty() || name[0] == b'#', number) {
            names.entry(number as u32).or_insert_with(|| name.to_vec());
        }
    }
    names
}
