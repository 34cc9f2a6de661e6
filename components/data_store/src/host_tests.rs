//! Host tests: names and rights; the contents against a model, over a state region in the heap; subscriptions.

#![allow(dead_code)]

mod contents;
mod names;

use contents::{check_value, Change, Contents, Wanted};
use names::{covers, name, prefix, Rights};
use protocols::store::{
    ABSENT, CHANGES_MAX, KIND_BYTES, KIND_NONE, KIND_SIGNED, KIND_STRING, KIND_UNSIGNED, NAMES_MAX,
};
use rt::abi::{self, RegionEntry};
use rt::state::{self, State};
use rt::{fake, Error};
use std::collections::BTreeMap;

const SIZE: usize = 1 << 20;

/// A state region of zeros. It stays for the rest of the test run: states are `'static`.
fn region() -> u64 {
    let memory: &'static mut [u64] = Box::leak(vec![0; SIZE / 8 + 8].into_boxed_slice());
    (memory.as_mut_ptr() as u64 + 63) & !63
}

/// The contents of a region, as the component would find them.
fn open(address: u64) -> State<Contents> {
    fake::reset();
    let kind = abi::REGION_KIND_STATE;
    let mut entry = RegionEntry { kind, address, size: SIZE as u64, schema: 1, ..RegionEntry::default() };
    entry.name[..8].copy_from_slice(b"contents");
    fake::set_region(0, entry);
    state::open("contents").0
}

fn set(contents: &State<Contents>, client: u32, name: &str, value: u64, expected: u64) -> Result<u64, Error> {
    let value = value.to_le_bytes();
    let wanted = Wanted { name: name.as_bytes(), kind: KIND_UNSIGNED, value: &value, expected };
    let mut tx = contents.begin();
    let number = contents.set(&mut tx, client, &wanted)?;
    tx.commit()?;
    Ok(number)
}

fn delete(contents: &State<Contents>, name: &str, expected: u64) -> Result<u64, Error> {
    let mut tx = contents.begin();
    let number = contents.delete(&mut tx, 0, name.as_bytes(), expected)?;
    tx.commit()?;
    Ok(number)
}

fn subscribe(contents: &State<Contents>, client: u32, prefix: &str, anew: bool) -> u64 {
    let mut tx = contents.begin();
    let position = contents.subscribe(&mut tx, client, 1, prefix.as_bytes(), anew).unwrap();
    tx.commit().unwrap();
    position
}

fn acknowledge(contents: &State<Contents>, client: u32, number: u64) -> Result<(), Error> {
    let mut tx = contents.begin();
    contents.acknowledge(&mut tx, client, 1, number)?;
    tx.commit()
}

/// Numbers of all changes that a subscriber is told after `after`.
fn told(contents: &Contents, client: u32, mut after: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(change) = contents.next(client, 1, after).unwrap() {
        numbers.push(change.number);
        after = change.number;
    }
    numbers
}

#[test]
fn names_are_checked() {
    assert_eq!(name(b"/net/eth0"), Ok(&b"net/eth0"[..]));
    assert_eq!(name(&[b'a'; 64]), Ok(&[b'a'; 64][..]));
    assert_eq!(name(&[b'a'; 65]), Err(Error::NAMETOOLONG));
    for wrong in [&b""[..], b"/", b"//a", b"a//b", b"a/", b"a b", b"a\n", b"\xc3\xa4", b"a\0"] {
        assert_eq!(name(wrong), Err(Error::INVAL), "{:?}", wrong);
    }
    assert_eq!((prefix(b""), prefix(b"/"), prefix(b"/a")), (Ok(&b""[..]), Ok(&b""[..]), Ok(&b"a"[..])));
    assert_eq!(prefix(b"a/"), Err(Error::INVAL));
}

#[test]
fn a_prefix_covers_whole_parts() {
    for (prefix, name, wanted) in [
        ("", "a", true), ("a", "a", true), ("a", "a/b", true), ("a", "ab", false), ("a/b", "a", false), ("b", "a/b", false),
    ] {
        assert_eq!(covers(prefix.as_bytes(), name.as_bytes()), wanted, "{:?} {:?}", prefix, name);
    }
}

#[test]
fn what_is_not_stated_is_denied() {
    let denied = Err(Error::ACCESS);
    for nothing in [&b""[..], b" ", b"net eth0"] {
        let rights = Rights::of(nothing);
        assert_eq!((rights.read(b"net"), rights.write(b"net")), (denied, denied), "{:?}", nothing);
    }
    let rights = Rights::of(b"/net /net/eth0");
    assert_eq!((rights.read(b"net"), rights.read(b"net/lo"), rights.write(b"net/eth0/up")), (Ok(()), Ok(()), Ok(())));
    assert_eq!((rights.read(b""), rights.read(b"network"), rights.write(b"net")), (denied, denied, denied));
    let all = Rights::of(b"/ /");
    assert_eq!((all.read(b""), all.write(b"a")), (Ok(()), Ok(())));
    assert_eq!(Rights::of(b" /a").read(b"a"), denied);
}

#[test]
fn values_are_of_their_kind() {
    let long = [b'a'; 257];
    for (kind, value, wanted) in [
        (KIND_UNSIGNED, &[0; 8][..], Ok(())), (KIND_SIGNED, &[0; 7], Err(Error::INVAL)), (KIND_BYTES, b"", Ok(())),
        (KIND_STRING, "ä".as_bytes(), Ok(())), (KIND_STRING, b"\xff", Err(Error::INVAL)),
        (KIND_NONE, b"", Err(Error::INVAL)), (5, b"", Err(Error::INVAL)), (KIND_BYTES, &long[..256], Ok(())),
        (KIND_BYTES, &long, Err(Error::TOOBIG)),
    ] {
        assert_eq!(check_value(kind, value), wanted, "{} {:?}", kind, value);
    }
}

#[test]
fn versions_kinds_and_quotas() {
    let contents = open(region());
    assert_eq!(set(&contents, 0, "a", 1, ABSENT), Ok(1));
    assert_eq!(set(&contents, 0, "a", 2, ABSENT), Err(Error::STALE));
    assert_eq!(set(&contents, 0, "a", 2, 9), Err(Error::STALE));
    assert_eq!(set(&contents, 0, "a", 2, 1), Ok(2));
    let text = Wanted { name: b"a", kind: KIND_STRING, value: b"x", expected: 0 };
    let mut tx = contents.begin();
    assert_eq!(contents.set(&mut tx, 0, &text), Err(Error::INVAL));
    drop(tx);
    for number in 1..NAMES_MAX {
        set(&contents, 0, &format!("n/{}", number), 0, 0).unwrap();
    }
    assert_eq!(contents.names(0), (NAMES_MAX, NAMES_MAX));
    assert_eq!(set(&contents, 0, "b", 1, 0), Err(Error::NOSPC));
    // Nobody else notices; who writes another's name has it on his account from then on.
    set(&contents, 1, "b", 1, 0).unwrap();
    assert_eq!(set(&contents, 0, "b", 1, 0), Err(Error::NOSPC));
    set(&contents, 1, "a", 1, 0).unwrap();
    set(&contents, 0, "c", 1, 0).unwrap();
    assert_eq!((contents.names(0), contents.names(1)), ((NAMES_MAX + 2, NAMES_MAX), (NAMES_MAX + 2, 2)));
    assert_eq!((delete(&contents, "c", 1), delete(&contents, "d", 0)), (Err(Error::STALE), Err(Error::NOENT)));
    delete(&contents, "c", 0).unwrap();
    assert_eq!(contents.get(b"c"), Err(Error::NOENT));
    assert_eq!(contents.get(b"b").unwrap().value, 1_u64.to_le_bytes());
}

#[test]
fn all_clients_at_their_limits() {
    let contents = open(region());
    for client in 0..contents::CLIENTS as u32 {
        for number in 0..NAMES_MAX {
            set(&contents, client, &format!("{}/{}", client, number), 0, 0).unwrap();
        }
    }
    assert_eq!(contents.list(b"", b"").len(), contents::CLIENTS * NAMES_MAX as usize);
}

#[test]
fn a_subscriber_goes_on_where_it_was() {
    let memory = region();
    let contents = open(memory);
    set(&contents, 0, "net/a", 1, 0).unwrap();
    assert_eq!(subscribe(&contents, 3, "net", false), 1);
    for (number, name) in ["net/b", "other", "network", "net/b", "net"].iter().enumerate() {
        set(&contents, 0, name, number as u64, 0).unwrap();
    }
    delete(&contents, "net/a", 0).unwrap();
    assert_eq!(told(&contents, 3, 0), [2, 5, 6, 7]);
    let deletion = contents.next(3, 1, 6).unwrap();
    assert_eq!(deletion, Some(Change { number: 7, kind: KIND_NONE, name: b"net/a".to_vec(), value: Vec::new() }));
    acknowledge(&contents, 3, 5).unwrap();
    acknowledge(&contents, 3, 2).unwrap(); // late: nothing is taken back
    assert_eq!(acknowledge(&contents, 3, 8), Err(Error::RANGE));
    drop(contents);
    let contents = open(memory); // the store was another, and so is the subscriber
    assert_eq!(subscribe(&contents, 3, "net", false), 5);
    assert_eq!(told(&contents, 3, 0), [6, 7]);
    assert_eq!(subscribe(&contents, 3, "net", true), 7);
    assert_eq!((told(&contents, 3, 0), contents.subscribed(None)), (vec![], 1));
    assert_eq!((contents.next(2, 1, 0), contents.next(3, 4, 0)), (Err(Error::BADF), Err(Error::BADF)));
    let mut tx = contents.begin();
    contents.unsubscribe(&mut tx, 3, 1).unwrap();
    tx.commit().unwrap();
    assert_eq!((contents.next(3, 1, 0), contents.subscribed(None)), (Err(Error::BADF), 0));
}

#[test]
fn a_gap_is_told_and_only_to_who_has_one() {
    let contents = open(region());
    for client in [0, 1, 2] {
        subscribe(&contents, client, ["quiet", "busy", "busy"][client as usize], false);
    }
    set(&contents, 0, "quiet", 1, 0).unwrap(); // change 1
    for number in 0..CHANGES_MAX {
        acknowledge(&contents, 2, u64::from(number) + 1).unwrap();
        set(&contents, 0, "busy", number.into(), 0).unwrap();
    }
    // Change 1 has just gone, change 2 has not.
    assert_eq!(contents.next(0, 1, 0), Err(Error::GAP));
    assert_eq!(told(&contents, 1, 0).len(), CHANGES_MAX as usize);
    set(&contents, 0, "busy", 0, 0).unwrap();
    assert_eq!(contents.next(1, 1, 600), Err(Error::GAP));
    assert_eq!(subscribe(&contents, 1, "busy", false), 0);
    assert_eq!(contents.next(1, 1, 600), Err(Error::GAP));
    let last = u64::from(CHANGES_MAX) + 2;
    assert_eq!(told(&contents, 2, 0), [last - 1, last]);
    assert_eq!(subscribe(&contents, 1, "busy", true), last);
    assert_eq!(told(&contents, 1, 0), []);
    // Not below the prefix: no gap, however old the position.
    subscribe(&contents, 0, "quiet", true);
    for number in 0..3 * CHANGES_MAX {
        set(&contents, 0, "busy", number.into(), 0).unwrap();
    }
    assert_eq!(told(&contents, 0, 0), []);
    let change = set(&contents, 0, "quiet", 7, 0).unwrap();
    assert_eq!(told(&contents, 0, 0), [change]);
}

/// Numbers by lot: xorshift.
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn as_a_model_would_have_it() {
    let memory = region();
    let mut contents = open(memory);
    let mut model: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut changes: Vec<(u64, String)> = Vec::new();
    let (mut lot, mut number) = (Lot(0x5eed), 0);
    subscribe(&contents, 9, "a", false);
    for step in 0..4000 {
        let name = format!("{}/{}", ["a", "ab", "b"][lot.below(3) as usize], lot.below(9));
        let version = model.get(&name).map_or(0, |(version, _)| *version);
        let expected = [0, version, ABSENT, version + 1][lot.below(4) as usize];
        let is_expected = expected == 0 || expected == version || (expected == ABSENT && version == 0);
        let done = match lot.below(5) {
            0 => {
                let wanted = if version == 0 { Err(Error::NOENT) } else if is_expected { Ok(number + 1) } else { Err(Error::STALE) };
                assert_eq!(delete(&contents, &name, expected), wanted);
                if wanted.is_ok() {
                    model.remove(&name);
                }
                wanted
            }
            _ => {
                let wanted = if is_expected { Ok(number + 1) } else { Err(Error::STALE) };
                assert_eq!(set(&contents, 0, &name, step, expected), wanted);
                if wanted.is_ok() {
                    model.insert(name.clone(), (number + 1, step));
                }
                wanted
            }
        };
        if let Ok(done) = done {
            number = done;
            if name.starts_with("a/") {
                changes.push((number, name));
            }
        }
        if lot.below(50) == 0 {
            let heard = told(&contents, 9, 0);
            assert_eq!(heard, changes.drain(..).map(|(number, _)| number).collect::<Vec<_>>());
            acknowledge(&contents, 9, number).unwrap();
            drop(contents);
            contents = open(memory);
        }
    }
    let listed: Vec<(String, u64)> =
        contents.list(b"", b"").into_iter().map(|each| (String::from_utf8(each.name).unwrap(), each.number)).collect();
    assert_eq!(listed, model.iter().map(|(name, (version, _))| (name.clone(), *version)).collect::<Vec<_>>());
    let rest = contents.list(b"a", b"a/4");
    assert!(rest.iter().all(|each| each.name.as_slice() > &b"a/4"[..] && each.name.starts_with(b"a/")));
}
