//! The converters, given what old versions have left (tests/system/states).

extern crate rt;

#[allow(dead_code)] // nothing is appended here
mod ledger;

use core::mem::size_of;
use ledger::{Ledger, Second, Third};
use rt::state;

const FIRST: &[u8] = include_bytes!("../../../system/states/ledger-1.data");
const SECOND: &[u8] = include_bytes!("../../../system/states/ledger-2.data");

/// As the runtime hands it over: the files lack the zeros at the end.
fn whole<T>(saved: &[u8]) -> Vec<u8> {
    let mut bytes = saved.to_vec();
    bytes.resize((size_of::<T>() + 7) / 8 * 8, 0);
    bytes
}

fn amounts<L: Ledger>(ledger: &L) -> Vec<u64> {
    (1..=ledger.length()).map(|number| ledger.amount(number)).collect()
}

#[test]
fn schema_1_by_each_newer_version() {
    let saved = whole::<ledger::First>(FIRST);
    assert_eq!(amounts(&*Second::convert(1, &saved)), [1, 2, 3, 0x7fff_ffff]);
    assert_eq!(amounts(&*Third::convert(1, &saved)), [1, 2, 3, 0x7fff_ffff]);
}

#[test]
fn schema_2_by_version_3() {
    assert_eq!(amounts(&*Third::convert(2, &whole::<Second>(SECOND))), [5, 6, 0xffff_0000]);
}

#[test]
fn the_answers_given_are_kept() {
    let (saved, third) = (whole::<Second>(SECOND), Third::convert(2, &whole::<Second>(SECOND)));
    let size = size_of::<state::Replies<4, 32>>();
    // SAFETY: plain bytes, of a value that lives on.
    let replies = unsafe { core::slice::from_raw_parts((third.replies() as *const state::Replies<4, 32>).cast(), size) };
    assert!(saved[..size] == *replies && replies.iter().any(|byte| *byte != 0));
}

#[test]
#[should_panic(expected = "the ledger's sum is more than version 3 can count")]
fn what_does_not_fit() {
    let mut saved = whole::<Second>(SECOND);
    let first = size_of::<state::Replies<4, 32>>() + 8;
    saved[first..first + 8].copy_from_slice(&u64::MAX.to_le_bytes()[..8]);
    saved[first + 7] = 0;
    Third::convert(2, &saved);
}

#[test]
#[should_panic(expected = "not of")]
fn another_size() {
    Third::convert(2, &whole::<ledger::First>(FIRST));
}

#[test]
#[should_panic(expected = "there is no way from schema 3")]
fn no_way() {
    Third::convert(3, &[]);
}
